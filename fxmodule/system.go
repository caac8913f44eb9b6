package fxmodule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/eko/gocache/lib/v4/store"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/fxmodule/internal/early"
	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/options"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/stores"
)

// system is everything that one application's module has opened.
type system struct {
	in        inputs
	log       *slog.Logger
	keys      *Keys
	encryptor *jobs.Encryptor // nil without a sealed cache that has keys for it
	caches    *Caches
	backing   map[string]store.StoreInterface // by cache, below the sealing
	closing   sync.Mutex
	opened    []io.Closer // the stores that were opened here, in order
}

// newSystem validates the Config and opens the keys.
func newSystem(in inputs) (*system, error) {
	if err := in.Config.Validate(); err != nil {
		return nil, err
	}
	s := &system{in: in, log: in.Logger}
	if s.log == nil {
		s.log = slog.Default()
	}
	ctx, cancel := s.openContext()
	defer cancel()
	var err error
	if s.keys, err = openKeys(ctx, in.Config, s.log, in.Openers); err != nil {
		return nil, err
	}
	if err := s.keys.measureAges(in.Meters); err != nil {
		return nil, s.failed(err)
	}
	if s.encryptor, err = newEncryptor(ctx, in, s.log, s.keys); err != nil {
		return nil, s.failed(err)
	}
	return s, nil
}

// openContext bounds the opening of keys and stores, since fx gives constructors no context and clients of key services
// may retry for a minute.
func (s *system) openContext() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), cmp.Or(s.in.Config.KeyTimeout, DefaultKeyTimeout))
}

// open makes the caches. application is the application's own store under Decorator, and nil under Module. open is called
// once. If it fails, everything is closed.
func (s *system) open(application store.StoreInterface) error {
	if err := s.makeCaches(application); err != nil {
		return s.failed(err)
	}
	s.warnOfSharedNamespaces()
	// fx starts hooks in the order in which they are appended, and stops them in the reverse order. All constructors that
	// take a cache append theirs after this one.
	s.in.Lifecycle.Append(fx.Hook{OnStart: s.start, OnStop: func(ctx context.Context) error {
		return early.Do(ctx, "fxmodule: close caches and keys", s.close)
	}})
	return nil
}

func (s *system) makeCaches(application store.StoreInterface) error {
	if nilcheck.IsNil(application) {
		application = nil
	}
	config := s.in.Config
	if def, ok := config.Caches[Default]; application != nil && (def.Store != "" || !ok) {
		return &CacheError{Default, PartStore, errStoreWithDecorator}
	}
	ctx, cancel := s.openContext()
	defer cancel()
	s.backing = make(map[string]store.StoreInterface)
	s.caches = &Caches{
		system: s,
		names:  config.names(),
		stores: make(map[string]store.StoreInterface),
		sealed: make(map[string]*middleware.Store),
	}
	for _, name := range s.caches.names {
		c, backing := config.Caches[name], application
		if c.Store != "" {
			opened, err := stores.Open(ctx, c.Store)
			if err != nil {
				return &CacheError{name, PartStore, err}
			}
			s.opened = append(s.opened, opened)
			backing = opened
		}
		if backing == nil {
			return &CacheError{name, PartStore, errNoStore}
		}
		s.backing[name] = backing
		if c.Unsealed {
			s.caches.stores[name] = newUnsealedStore(backing, c)
			continue
		}
		sealed, err := s.seal(ctx, name, c, backing)
		if err != nil {
			return fmt.Errorf("fxmodule: cache %q: %w", name, err)
		}
		s.caches.stores[name], s.caches.sealed[name] = sealed, sealed
	}
	return nil
}

func (s *system) seal(ctx context.Context, name string, c Cache, backing store.StoreInterface) (*middleware.Store, error) {
	keys, err := s.keys.aead(name, c.Tenant)
	if err != nil {
		return nil, err
	}
	opts := []middleware.Option{
		middleware.WithLogger(s.log.With("cache", name)), middleware.WithPlaintext(c.Plaintext), middleware.WithoutClear(),
	}
	if ring, err := s.keys.Keyring(name); err == nil && c.Tenant == "" {
		opts = append(opts, middleware.WithReload(ring.Reload))
	}
	if !c.PlaintextUntil.IsZero() {
		opts = append(opts, middleware.WithPlaintextUntil(c.PlaintextUntil))
	}
	if c.MissOnOpenFailure {
		opts = append(opts, middleware.WithMissOnOpenFailure())
	}
	opts = options.Given(opts, c.Namespace, middleware.WithNamespace)
	opts = options.Given(opts, c.MaxValueBytes, middleware.WithMaxValueBytes)
	packing, err := s.packing(ctx, name, c)
	if err != nil {
		return nil, err
	}
	opts = append(opts, packing...)
	if c.TTL != 0 {
		opts = append(opts, middleware.WithDefaults(store.WithExpiration(c.TTL)))
	}
	for _, codec := range c.Codecs {
		opts = append(opts, middleware.WithCodec(codec))
	}
	if !nilcheck.IsNil(s.in.Meters) {
		opts = append(opts, middleware.WithMeterProvider(s.in.Meters))
	}
	if !nilcheck.IsNil(s.in.Tracers) {
		opts = append(opts, middleware.WithTracerProvider(s.in.Tracers))
	}
	return middleware.New(backing, keys, opts...)
}

// packing returns the options that hide names, sizes and expiries from the backing store.
func (s *system) packing(ctx context.Context, name string, c Cache) ([]middleware.Option, error) {
	var opts []middleware.Option
	hide, setting, prfKeyset := middleware.WithHiddenKeys, "hidden_keys", c.HiddenKeys
	if c.OneWayKeys != "" {
		hide, setting, prfKeyset = middleware.WithOneWayKeys, "one_way_keys", c.OneWayKeys
	}
	if prfKeyset != "" {
		source, err := keysetSource(prfKeyset)
		if err != nil {
			return nil, fmt.Errorf("read the setting %q: %w", setting, err)
		}
		set, err := aead.OpenPRF(ctx, source, s.keys.kekOf[name], append(keysetName(c.PRFKeysetName), aead.WithLogger(s.log))...)
		if err != nil {
			return nil, fmt.Errorf("open the keyset of the setting %q: %w", setting, err)
		}
		opts = append(opts, hide(set))
	}
	if c.SealedExpiry {
		opts = append(opts, middleware.WithAuthenticatedExpiry())
	}
	compress := middleware.WithCompression
	if c.CompressFast {
		compress = middleware.WithFastCompression
	}
	opts = options.Given(opts, c.CompressMinBytes, compress)
	if c.Padding {
		opts = append(opts, middleware.WithPadding())
	}
	return opts, nil
}

// warnOfSharedNamespaces reports pairs of caches with one namespace. A value is bound to its namespace and key, but not
// to its store.
func (s *system) warnOfSharedNamespaces() {
	config := s.in.Config
	for i, a := range s.caches.names {
		for _, b := range s.caches.names[i+1:] {
			if config.Caches[a].Namespace == config.Caches[b].Namespace {
				s.log.Warn("sealcache: two caches share a namespace, so an attacker can swap the values of the caches (change one namespace)", "cache", a, "other", b)
			}
		}
	}
}

// start returns an error if a cache does not work, so that the application does not start.
func (s *system) start(ctx context.Context) error {
	if err := s.checkAtStart(ctx); err != nil {
		return early.Close(ctx, err, s.close) // fx stops only the hooks that have started
	}
	return nil
}

func (s *system) checkAtStart(ctx context.Context) error {
	ctx, cancel := early.WithDeadline(ctx)
	defer cancel()
	jobs := make(chan error, 1)
	go func() { jobs <- s.checkEncryptor(ctx) }() // at the same time: the key check of a cache may take all of it
	caches, encryptor := s.check(ctx), <-jobs
	return cmp.Or(caches, encryptor) // they have keys in common, so one error is enough
}

func (s *system) checkEncryptor(ctx context.Context) error {
	if s.encryptor == nil {
		return nil
	}
	if err := s.encryptor.Check(ctx); err != nil {
		return &JobsError{partOf(err), err}
	}
	return nil
}

// failed closes everything before a constructor returns err. It returns nil for nil.
func (s *system) failed(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(err, s.close())
}

// close closes the stores that were opened here, then the keys. A second call does nothing.
func (s *system) close() error {
	s.closing.Lock()
	defer s.closing.Unlock()
	var errs []error
	for i := len(s.opened) - 1; i >= 0; i-- {
		errs = append(errs, s.opened[i].Close())
	}
	s.opened = nil
	return errors.Join(append(errs, s.keys.close())...)
}
