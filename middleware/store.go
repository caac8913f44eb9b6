package middleware

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
	"github.com/sealcache/sealcache/middleware/internal/keylock"
	"github.com/sealcache/sealcache/middleware/internal/plaintext"
	"github.com/sealcache/sealcache/middleware/internal/pseudonym"
	"github.com/sealcache/sealcache/middleware/internal/reload"
)

// Store is a gocache store that seals values before they reach the store that it
// wraps. It is safe for concurrent use if that store is.
//
// It defines every method of gocache's interface and embeds nothing, so that a
// method which gocache adds later cannot pass values unsealed.
type Store struct {
	origin  origin
	backing store.StoreInterface
	can     capabilities  // of backing
	bounded BoundedReader // backing, or nil: reads stop at the bound
	sealer  *Sealer

	cfg           *config
	plaintext     *plaintext.Window
	keys          *keycheck.Check
	reload        *reload.Reloader // nil: nothing to reload
	reusedBuffers bool             // Set is given a reusedBuffer in place of bytes
	prefix        string           // of keys and tags: the namespace and a colon, or empty
	names         *pseudonym.Set   // nil: names are not hidden
	traits        traits
	defaults      store.Options // of the backing store and WithDefaults
	plan          writePlan     // of a call without options
	untagged      store.Option  // rewrites the options of a call without tags
	tel           *telemetry

	unwatch    func() error          // ends the reports of the backing store's counts, or nil
	keysDiffer atomic.Pointer[error] // what the last Check found
	locks      keylock.Set           // of entries that are read, changed and swapped
	counters   counters              // increments of this process that wait for one swap
	advised    atomic.Bool           // Check has logged the advice of the backing store
	keysMade   atomic.Bool           // Check has seen the key check, so that Clear renews it

	defaultTags atomic.Bool // the options of the backing store add tags to each write

	keysRenewed atomic.Bool // the first Check has renewed a key check that is not outdated
}

var (
	_ store.StoreInterface      = (*Store)(nil)
	_ store.SetIfNotExistsStore = (*Store)(nil)
	_ io.Closer                 = (*Store)(nil)
)

// New returns a Store over backing. It seals values with a, and by default accepts
// only sealed values. The AEAD is an aead.Envelope, an aead.Keyring or another
// AEAD of Tink's interface. New checks its arguments and calls neither the key
// service nor the store: see Check.
//
// If an option is given more than once, the last one counts. WithDefaults and WithCodec
// add to the earlier ones. WithHiddenKeys and WithOneWayKeys together, or one of them
// twice, are an error. So are WithCompression and WithFastCompression together.
//
// Every store that docs/stores.md lists works as backing. GetWithTTL returns 0 for an entry
// without expiration. For a missing entry, the error is store.NotFound. Methods such as
// Increment need stores/redisstore, stores/memorystore or a CapableStore of your own.
//
// A Store reuses its buffers. So a hook of go-redis that keeps a value must copy it
// before the command ends.
//
// Close closes backing and leaves a open, because one AEAD serves many stores.
func New(backing store.StoreInterface, a tink.AEADWithContext, opts ...Option) (*Store, error) {
	s, err := newStore(backing, a, opts)
	if err == nil && s.can.counter != nil {
		s.unwatch, err = s.tel.meter.Watch(s.can.counter.Counts)
	}
	if err != nil {
		return nil, fmt.Errorf("middleware: New: %w", err)
	}
	s.announcePlaintext()
	s.can.logIgnored(s.tel.log)
	s.announceNames()
	return s, nil
}

func newStore(backing store.StoreInterface, a tink.AEADWithContext, opts []Option) (*Store, error) {
	if nilcheck.IsNil(backing) {
		return nil, errors.New("the backing store is nil")
	}
	if _, ok := backing.(*Store); ok {
		return nil, errors.New("the backing store is already a sealed store (use that store, or pass the store that it wraps)")
	}
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	s := &Store{
		origin:    origin{a, opts},
		backing:   backing,
		cfg:       cfg,
		plaintext: plaintext.NewWindow(cfg.plaintext, cfg.until, cfg.now),
	}
	if s.sealer, err = newSealer(a, cfg); err != nil {
		return nil, err
	}
	if s.keys, err = keycheck.New(a, cfg.namespace); err != nil {
		return nil, err
	}
	s.can = capabilitiesOf(backing)
	s.traits = traitsFor(backing, s.can)
	if cfg.boundReads {
		s.bounded = s.can.bounded
	}
	s.reusedBuffers = s.can.bytes == nil && acceptsReusedBuffers(backing)
	if cfg.plaintext == SealOnRead && s.can.swapper == nil {
		return nil, fmt.Errorf("SealOnRead: %w", s.unsupported("replace a value atomically"))
	}
	if cfg.namespace != "" {
		s.prefix = cfg.namespace + ":"
	}
	if cfg.hidden != nil {
		if s.names, err = pseudonym.New(cfg.namespace, cfg.hidden); err != nil {
			return nil, err
		}
	}
	if err := s.prepareOptions(); err != nil {
		return nil, err
	}
	if s.tel, err = newTelemetry(cfg, backing.GetType()); err != nil {
		return nil, err
	}
	s.sealer.tel = s.tel
	s.reload = reload.New(a, cfg.reload, func(ctx context.Context, err error) {
		s.tel.log.WarnContext(ctx, "sealcache: a reload of the keyset failed, so entries under newly added keys do not open", "error", err)
	})
	return s, nil
}

// Get returns the value under key, of the type that it was set with. The caller
// may change the value.
//
// Errors: store.NotFound, those of this package, of ctx and of the backing
// store.
func (s *Store) Get(ctx context.Context, key any) (any, error) {
	if s.tel.quiet() {
		o, _, err := s.get(ctx, key, wanted{})
		if err == nil {
			return o.value, nil
		}
		s.tel.unreadableValue(ctx, "Get", err)
		return nil, s.missOnFailure(err)
	}
	ctx, op := s.tel.begin(ctx, "Get")
	o, _, err := s.get(ctx, key, wanted{})
	op.end(err)
	s.tel.unreadableValue(ctx, "Get", err)
	return o.value, s.missOnFailure(err)
}

// GetWithTTL also returns the time that the entry has left, 0 for no expiry. Its
// precision is the precision of the backing store. An entry that Redis reports
// with 0 seconds has less than half a second left and is returned with 1 ms.
func (s *Store) GetWithTTL(ctx context.Context, key any) (any, time.Duration, error) {
	ctx, op := s.tel.begin(ctx, "GetWithTTL")
	o, ttl, err := s.get(ctx, key, wanted{ttl: true})
	op.end(err)
	s.tel.unreadableValue(ctx, "GetWithTTL", err)
	return o.value, ttl, s.missOnFailure(err)
}

// missOnFailure returns the error of an unreadable value as WithMissOnOpenFailure
// asks for it.
func (s *Store) missOnFailure(err error) error {
	if err != nil && s.cfg.missOnFailure && unreadable(err) {
		return store.NotFoundWithCause(err)
	}
	return err
}

// Set seals value and stores it under key. It does not keep or change a []byte.
// Expiration, cost and tags go to the backing store. A negative expiration is an
// error, except -1 ns, which go-redis reports for "no expiry". Where the backing
// store counts whole seconds, a part of a second counts as one. An expiration that the
// backing store cannot hold becomes the longest that it can.
//
// gocache's own stores may lose tags without an error, and Invalidate then misses the
// entry: see docs/stores.md. Over them, a key that starts like the name of a tag's list
// is ErrUnsupported for every method. So is a key with a comma and tags over bigcache,
// freecache, memcache and ristretto. If one of these four was made with the option
// WithTags, Set is ErrUnsupported: WithDefaults of this module takes such tags.
func (s *Store) Set(ctx context.Context, key any, value any, options ...store.Option) error {
	if s.tel.quiet() {
		err := s.set(ctx, key, value, options)
		s.tel.refusedWrite(ctx, "Set", err)
		return err
	}
	ctx, op := s.tel.begin(ctx, "Set")
	err := s.set(ctx, key, value, options)
	op.end(err)
	s.tel.refusedWrite(ctx, "Set", err)
	return err
}

// SetIfNotExists is Set for a key without an entry, and reports whether it wrote
// one. Without that capability in the backing store it is ErrUnsupported.
//
// With WithMissOnOpenFailure it atomically replaces an entry that is definitely
// refused: plaintext, altered, moved, or under a disabled or destroyed key. With tags,
// that needs an AtomicStore, and is otherwise ErrUnsupported. It first reloads the
// keyset, as WithReload says. If no reload began after the entry was read, the entry
// stays, and its error is returned. An entry under a key that the keyset does not list,
// or that cannot be opened now, may be another process's lock. It is an error and
// stays.
func (s *Store) SetIfNotExists(ctx context.Context, key any, value any, options ...store.Option) (bool, error) {
	ctx, op := s.tel.begin(ctx, "SetIfNotExists")
	written, err := s.setIfNotExists(ctx, key, value, options)
	op.end(err)
	s.tel.refusedWrite(ctx, "SetIfNotExists", err)
	return written, err
}

// Delete removes the entry under key. An absent entry is not an error. Over gocache's own
// stores, a key that starts like the name of a tag's list is ErrUnsupported.
func (s *Store) Delete(ctx context.Context, key any) error {
	ctx, op := s.tel.begin(ctx, "Delete")
	err := s.delete(ctx, key)
	op.end(err)
	return err
}

func (s *Store) delete(ctx context.Context, key any) error {
	a, err := s.address(key)
	if err == nil {
		err = s.removeOthers(ctx, a)
	}
	if err == nil { // last, so that no reader finds an older entry in between
		err = s.deleteError(s.backing.Delete(ctx, a.stored))
	}
	return err
}

// Invalidate removes the entries that carry any of the tags. With a namespace, over a
// PrefixInvalidator, it removes nothing outside of the namespace. An attacker who
// plants names in the set of a tag cannot change this.
//
// Over gocache's own stores it misses entries whose tags the store has lost: see
// docs/stores.md. These stores hide the errors of Invalidate, so it first reads each tag,
// and returns the error of a server that does not answer. An outage after that read is
// still reported as success.
func (s *Store) Invalidate(ctx context.Context, options ...store.InvalidateOption) error {
	ctx, op := s.tel.begin(ctx, "Invalidate")
	err := s.invalidate(ctx, options)
	op.end(err)
	return err
}

func (s *Store) invalidate(ctx context.Context, options []store.InvalidateOption) error {
	for _, o := range options {
		if o == nil {
			return errors.New("middleware: a store.InvalidateOption that the caller gave is nil")
		}
	}
	if s.prefix != "" || s.names != nil {
		tags, err := s.storedTagsUnderAll(store.ApplyInvalidateOptions(options...).Tags)
		if err != nil {
			return err
		}
		options = append(options[:len(options):len(options)], func(o *store.InvalidateOptions) { o.Tags = tags })
	}
	if s.prefix != "" && s.can.scoped != nil {
		return s.backingError(s.can.scoped.InvalidatePrefix(ctx, s.prefix, options...))
	}
	if s.traits.tagLists != "" {
		return s.invalidateEach(ctx, store.ApplyInvalidateOptions(options...).Tags)
	}
	return s.backingError(s.backing.Invalidate(ctx, options...))
}

// Clear removes all entries and tags of the namespace, and nothing else. If the
// backing store cannot enumerate, it is ErrUnsupported. Without a namespace it is
// the backing store's own Clear, which on gocache's Redis store is FLUSHALL:
// everything, in all databases. If this Store has used the key check of Check,
// Clear writes it again.
func (s *Store) Clear(ctx context.Context) error {
	ctx, op := s.tel.begin(ctx, "Clear")
	err := s.clear(ctx)
	if err == nil && s.keysMade.Load() {
		s.compareKeys(ctx)
	}
	op.end(err)
	return err
}

func (s *Store) clear(ctx context.Context) error {
	switch {
	case s.prefix == "" && s.cfg.withoutClear:
		return errClearWithoutNamespace
	case s.prefix == "":
		return s.backingError(s.backing.Clear(ctx))
	case s.can.lister == nil:
		return s.unsupported("clear one namespace and leave the rest")
	default:
		return s.backingError(s.can.lister.ClearPrefix(ctx, s.prefix))
	}
}

// GetType returns the type of the backing store, so that dashboards keep their
// labels.
func (s *Store) GetType() string { return s.backing.GetType() }

// String names the kind of the backing store, and shows nothing of keys.
func (s *Store) String() string { return "middleware.Store(" + s.backing.GetType() + ")" }

// Format writes String for every verb of package fmt.
func (s *Store) Format(f fmt.State, _ rune) { writeString(f, s.String()) }

// GoString returns String.
func (s *Store) GoString() string { return s.String() }

// LogValue returns String.
func (s *Store) LogValue() slog.Value { return slog.StringValue(s.String()) }

func writeString(f fmt.State, text string) { _, _ = io.WriteString(f, text) }

// Close closes the backing store if it can be closed. The AEAD stays open.
func (s *Store) Close() error {
	var err error
	if s.unwatch != nil {
		err = s.unwatch()
	}
	if c, ok := s.backing.(io.Closer); ok {
		err = errors.Join(err, c.Close())
	}
	return err
}
