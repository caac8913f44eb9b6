package fxmodule

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/eko/gocache/lib/v4/store"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/stores"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// system is everything that one application's module has opened.
type system struct {
	in        inputs
	log       *slog.Logger
	keys      *Keys
	encryptor *jobs.Encryptor // nil if no cache lends it keys
	caches    *Caches
	queue     *queue                          // nil if nothing takes what needs the jobs' Redis
	backing   map[string]store.StoreInterface // by cache, below the sealing
	shared    map[string]*atomic.Bool         // by cache: whether it must not Clear, for what else is there
	opened    []io.Closer                     // the stores that were opened here, in order
}

// newSystem checks the Config and opens the keys.
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
	if s.encryptor, err = newEncryptor(ctx, in, s.log, s.keys); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// openContext bounds the opening of keys and stores: fx gives constructors no context, and some clients of key services
// try for a minute.
func (s *system) openContext() (context.Context, context.CancelFunc) {
	timeout := s.in.Config.KeyTimeout
	if timeout == 0 {
		timeout = DefaultKeyTimeout
	}
	return context.WithTimeout(context.Background(), timeout)
}

// attach opens the stores and makes the caches; application is the application's own store, or nil. It is called once.
// If it fails, everything is closed.
func (s *system) attach(application store.StoreInterface) error {
	if err := s.makeCaches(application); err != nil {
		return errors.Join(err, s.close())
	}
	s.warnAboutSwaps()
	s.warnAboutStrays()
	// Now, when all that the caches stand on is made: fx starts in this order, and stops in the reverse one.
	s.in.Lifecycle.Append(fx.Hook{OnStart: s.start, OnStop: func(context.Context) error { return s.close() }})
	return nil
}

func (s *system) makeCaches(application store.StoreInterface) error {
	if isNil(application) {
		application = nil
	}
	config := s.in.Config
	if err := s.checkApplicationStore(application != nil); err != nil {
		return err
	}
	ctx, cancel := s.openContext()
	defer cancel()
	s.backing = make(map[string]store.StoreInterface)
	s.caches = &Caches{
		names:  config.names(),
		stores: make(map[string]store.StoreInterface),
		sealed: make(map[string]*middleware.Store),
	}
	s.shared = make(map[string]*atomic.Bool)
	mustNot := config.mustNotClear()
	for _, name := range s.caches.names {
		c, shared := config.Caches[name], new(atomic.Bool)
		shared.Store(mustNot[name])
		s.shared[name] = shared
		backing := application
		if c.Store != "" {
			opened, err := stores.Open(ctx, c.Store)
			if err != nil {
				return &CacheError{name, PartStore, unquote(err, "")}
			}
			s.opened = append(s.opened, opened)
			backing = opened
		}
		s.backing[name] = backing
		if r, ok := backing.(*redisstore.Store); ok && c.Namespace == "" && (mustNot[name] || s.mayMeetQueues()) {
			backing = sharedRedis{r, shared}
		}
		if c.Clear {
			s.caches.stores[name] = newClearStore(backing, c, shared)
			continue
		}
		sealed, err := s.seal(name, c, backing)
		if err != nil {
			return fmt.Errorf("fxmodule: cache %q: %w", name, err)
		}
		s.caches.stores[name], s.caches.sealed[name] = sealed, sealed
	}
	return nil
}

// checkApplicationStore refuses an application's store that would stay in clear beside the caches, without anyone
// having said so, and a cache that needs one where there is none.
func (s *system) checkApplicationStore(provided bool) error {
	config := s.in.Config
	def, hasDefault := config.Caches[Default]
	switch {
	case !provided:
		for _, name := range config.names() {
			if config.Caches[name].Store == "" {
				return &CacheError{name, PartStore, errors.New(config.whyCaches() + "it has no store URL, so it stands on the application's store.StoreInterface, and the application provides none (one of another type, with a name, in a group or fx.Private does not count), or one whose own needs fx cannot meet: set store, or fx.Provide one")}
			}
		}
	case !hasDefault:
		return errors.New("fxmodule: the application provides a store.StoreInterface that no cache seals: add a cache named \"default\" without store, which seals it, or leaves it as it is if it says clear")
	case def.Store != "":
		return &CacheError{Default, PartStore, errors.New("it has a store URL, and the application provides a store.StoreInterface too: drop the URL to seal the application's store, or no longer provide that")}
	}
	return nil
}

// whyCaches explains a cache to who wrote a Config for jobs only, and may not know that there is one.
func (c Config) whyCaches() string {
	if len(c.Caches) > 1 || reflect.ValueOf(c.Jobs).IsZero() {
		return ""
	}
	return "jobs use the keys of a cache; an application that has jobs only gives it store: memory:// (SEALCACHE_STORE=memory://): "
}

func (s *system) seal(name string, c Cache, backing store.StoreInterface) (*middleware.Store, error) {
	envelope, err := s.keys.Envelope(name)
	if err != nil {
		return nil, err
	}
	opts := []middleware.Option{middleware.WithLogger(s.log.With("cache", name)), middleware.WithPlaintext(c.Plaintext)}
	if !c.PlaintextUntil.IsZero() {
		opts = append(opts, middleware.WithPlaintextUntil(c.PlaintextUntil))
	}
	if c.Namespace != "" {
		opts = append(opts, middleware.WithNamespace(c.Namespace))
	}
	if c.MissOnOpenFailure {
		opts = append(opts, middleware.WithMissOnOpenFailure())
	}
	if c.MaxValueBytes != 0 {
		opts = append(opts, middleware.WithMaxValueBytes(c.MaxValueBytes))
	}
	if c.TTL != 0 {
		opts = append(opts, middleware.WithDefaults(store.WithExpiration(c.TTL)))
	}
	for _, codec := range c.Codecs {
		opts = append(opts, middleware.WithCodec(codec))
	}
	if !isNil(s.in.Meters) {
		opts = append(opts, middleware.WithMeterProvider(s.in.Meters))
	}
	if !isNil(s.in.Tracers) {
		opts = append(opts, middleware.WithTracerProvider(s.in.Tracers))
	}
	return middleware.New(backing, envelope, opts...)
}

// warnAboutSwaps warns of what the binding of values does not cover: it holds namespace and key, but not the store.
func (s *system) warnAboutSwaps() {
	config := s.in.Config
	for _, o := range config.overlaps() {
		s.log.Warn("sealcache: two caches share a store and are not kept apart", "cache", o.a, "other", o.b, "why", o.String())
	}
	for i, a := range s.caches.names {
		for _, b := range s.caches.names[i+1:] {
			x, y := config.Caches[a], config.Caches[b]
			if !x.Clear && !y.Clear && x.KEK == y.KEK && x.Keyset == y.Keyset && x.Namespace == y.Namespace {
				s.log.Warn("sealcache: two caches have the same keys and namespace, so that who can write to their stores can move a value from one to the same key of the other; give them different namespaces",
					"cache", a, "other", b)
			}
		}
	}
}

// start refuses to let the application run with a cache that does not work.
func (s *system) start(ctx context.Context) error {
	err := s.check(ctx)
	if err == nil && s.encryptor != nil {
		if err = s.encryptor.Check(ctx); err != nil {
			err = &JobsError{partOf(err), err}
		}
	}
	if err != nil {
		return errors.Join(err, s.close()) // fx stops only what has started
	}
	return nil
}

// check joins the failures of caches.
func (s *system) check(ctx context.Context) error {
	var errs []error
	for _, f := range s.failures(ctx) {
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

// failures looks at all caches at once, so that one that hangs does not hide the others.
func (s *system) failures(ctx context.Context) []*CacheError {
	found := make([]*CacheError, len(s.caches.names))
	var wg sync.WaitGroup
	for i, name := range s.caches.names {
		wg.Go(func() { found[i] = s.failure(ctx, name) })
	}
	wg.Wait()
	return slices.DeleteFunc(found, func(e *CacheError) bool { return e == nil })
}

func (s *system) failure(ctx context.Context, name string) *CacheError {
	c := s.in.Config.Caches[name]
	if err := ping(ctx, s.backing[name], c.Namespace); err != nil {
		return &CacheError{name, PartStore, unquote(err, "")}
	}
	if c.Clear {
		return nil
	}
	if err := s.caches.sealed[name].Check(ctx); err != nil {
		return &CacheError{name, partOf(err), err}
	}
	return nil
}

// bigcacheMiss is the one miss among gocache's stores that is no store.NotFound. Its package is not imported for it.
const bigcacheMiss = "Entry not found"

// ping asks a store whether it answers; one that cannot be asked is read from.
func ping(ctx context.Context, backing store.StoreInterface, namespace string) error {
	if p, ok := backing.(middleware.Pinger); ok {
		return p.Ping(ctx)
	}
	if namespace != "" {
		namespace += ":"
	}
	_, err := backing.Get(ctx, namespace+"sealcache-probe")
	if err == nil || errors.Is(err, store.NotFound{}) || err.Error() == bigcacheMiss {
		return nil
	}
	return err
}

// close closes the stores that were opened here, then the keys. A second call does nothing.
func (s *system) close() error {
	var errs []error
	for i := len(s.opened) - 1; i >= 0; i-- {
		errs = append(errs, s.opened[i].Close())
	}
	s.opened = nil
	return errors.Join(append(errs, s.keys.close())...)
}

func isNil(v any) bool {
	if v == nil {
		return true
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Func, reflect.Chan, reflect.Slice:
		return r.IsNil()
	default:
		return false
	}
}
