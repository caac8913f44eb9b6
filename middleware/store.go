package middleware

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/plaintext"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Store is a gocache store whose values are sealed before they reach the store
// that it wraps. It is safe for concurrent use if that one is.
//
// It writes out every method of gocache's interface and embeds nothing, so that
// a method which gocache adds one day cannot pass values unsealed.
type Store struct {
	backing store.StoreInterface
	bytes   BytesStore          // backing, or nil
	swapper Swapper             // backing, or nil
	setNX   setIfNotExistsStore // backing, or nil
	lister  Enumerator          // backing, or nil
	scoped  PrefixInvalidator   // backing, or nil
	box     *box.Box

	cfg       *config
	plaintext *plaintext.Window
	lends     bool   // Set is given a loan, not bytes
	prefix    string // of keys and tags: the namespace and a colon, or nothing
	quirks    quirks
	last      store.Option   // applied after all others, or nil
	options   []store.Option // what a call without options of its own passes on
	tel       *telemetry
}

type setIfNotExistsStore interface {
	SetIfNotExists(ctx context.Context, key any, value any, options ...store.Option) (bool, error)
}

var (
	_ store.StoreInterface      = (*Store)(nil)
	_ store.SetIfNotExistsStore = (*Store)(nil)
	_ io.Closer                 = (*Store)(nil)
)

// New wraps backing so that everything written through the result is sealed
// with a, and nothing else is accepted: an aead.Envelope or aead.Keyring, or
// any of Tink's AEADs. It checks its arguments and does not call the key
// service or the store; see Check.
//
// Neither backing nor a are closed unless Close is called, which closes backing
// and leaves a alone: one AEAD serves many stores.
func New(backing store.StoreInterface, a tink.AEADWithContext, opts ...Option) (*Store, error) {
	if box.IsNil(backing) {
		return nil, errors.New("middleware: New: nil backing store")
	}
	if _, ok := backing.(*Store); ok {
		return nil, errors.New("middleware: New: the backing store is sealed already: wrap the store below it")
	}
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("middleware: New: %w", err)
	}
	s := &Store{
		backing:   backing,
		cfg:       cfg,
		plaintext: plaintext.NewWindow(cfg.plaintext, cfg.until, cfg.now),
		quirks:    quirksOf(backing.GetType()),
	}
	if s.box, err = box.New(a, wire.CacheValue, cfg.namespace); err != nil {
		return nil, fmt.Errorf("middleware: New: %w", err)
	}
	if offers(backing, "SetBytes") {
		s.bytes, _ = backing.(BytesStore)
	}
	if offers(backing, "CompareAndSwap") {
		s.swapper, _ = backing.(Swapper)
	}
	if offers(backing, "SetIfNotExists") {
		s.setNX, _ = backing.(setIfNotExistsStore)
	}
	if offers(backing, "ClearPrefix") {
		s.lister, _ = backing.(Enumerator)
	}
	if offers(backing, "InvalidatePrefix") {
		s.scoped, _ = backing.(PrefixInvalidator)
	}
	if s.bytes != nil {
		s.quirks = quirks{} // a store of ours, whatever name it reports
	}
	s.lends = s.bytes == nil && overGoRedis(backing)
	if cfg.plaintext == SealOnRead && s.swapper == nil {
		return nil, fmt.Errorf("middleware: New: SealOnRead: %w", s.unsupported("replace a value atomically"))
	}
	if cfg.namespace != "" {
		s.prefix = cfg.namespace + ":"
	}
	s.prepareOptions()
	if s.tel, err = newTelemetry(cfg, backing.GetType()); err != nil {
		return nil, fmt.Errorf("middleware: New: %w", err)
	}
	s.announcePlaintext()
	return s, nil
}

// Get returns the value under key, of the type that it was set with.
//
// Errors: store.NotFound, those of this package, of ctx and of the backing
// store. A value that is returned may be changed by the caller.
func (s *Store) Get(ctx context.Context, key any) (any, error) {
	if s.tel.quiet() {
		value, _, err := s.get(ctx, key, false)
		if err == nil {
			return value, nil
		}
		s.tel.refused(ctx, "Get", err)
		return nil, s.softened(err)
	}
	ctx, op := s.tel.begin(ctx, "Get")
	value, _, err := s.get(ctx, key, false)
	op.end(err)
	return value, s.softened(err)
}

// GetWithTTL also returns the time that the entry has left, 0 for no expiry.
// Its precision is the backing store's; an entry that Redis reports with 0
// seconds has under half a second left and is returned with 1 ms.
func (s *Store) GetWithTTL(ctx context.Context, key any) (any, time.Duration, error) {
	ctx, op := s.tel.begin(ctx, "GetWithTTL")
	value, ttl, err := s.get(ctx, key, true)
	op.end(err)
	return value, ttl, s.softened(err)
}

func (s *Store) get(ctx context.Context, key any, withTTL bool) (any, time.Duration, error) {
	name, err := keyName(key)
	if err != nil {
		return nil, 0, err
	}
	if s.bytes != nil && !withTTL && s.policy() == RejectPlaintext { // the shortest way for what happens most
		raw, err := s.bytes.GetBytes(ctx, s.prefix+name)
		if err != nil {
			return nil, 0, s.backingError(err)
		}
		if wire.IsSealed(raw) {
			value, err := s.open(ctx, name, raw, true)
			return value, 0, err
		}
		return nil, 0, errRefusedClear
	}
	f, err := s.fetch(ctx, name, withTTL)
	if err != nil {
		return nil, 0, err
	}
	value, err := s.read(ctx, name, f)
	if err != nil {
		return nil, 0, err
	}
	return value, f.ttl, nil
}

// softened is an unreadable value's error as WithMissOnOpenFailure wants it.
func (s *Store) softened(err error) error {
	if err != nil && s.cfg.missOnFailure && unreadable(err) {
		return store.NotFoundWithCause(err)
	}
	return err
}

// Set seals value and stores it under key. A []byte is neither kept nor
// changed. Expiration, cost and tags go to the backing store; a negative
// expiration is an error, except -1 ns, which go-redis reports for "no expiry".
// Where the backing store counts whole seconds, a part of one counts as one.
func (s *Store) Set(ctx context.Context, key any, value any, options ...store.Option) error {
	if s.tel.quiet() {
		_, err := s.set(ctx, key, value, options, false)
		return err
	}
	ctx, op := s.tel.begin(ctx, "Set")
	_, err := s.set(ctx, key, value, options, false)
	op.end(err)
	return err
}

// SetIfNotExists is Set for a key without an entry, and tells whether it was
// one. It is ErrUnsupported where the backing store has no such operation. With
// WithMissOnOpenFailure an unreadable entry counts as none, as it does for Get,
// and is replaced atomically.
func (s *Store) SetIfNotExists(ctx context.Context, key any, value any, options ...store.Option) (bool, error) {
	ctx, op := s.tel.begin(ctx, "SetIfNotExists")
	if s.setNX == nil {
		err := s.unsupported("set a key only if it is absent")
		op.end(err)
		return false, err
	}
	written, err := s.set(ctx, key, value, options, true)
	if err == nil && !written && s.cfg.missOnFailure {
		written, err = s.replaceUnreadable(ctx, key, value, options)
	}
	op.end(err)
	return written, err
}

func (s *Store) set(ctx context.Context, key, value any, options []store.Option, onlyNew bool) (bool, error) {
	name, err := keyName(key)
	if err != nil {
		return false, err
	}
	opts, err := s.passOn(options)
	if err != nil {
		return false, err
	}
	if s.policy() == WritePlaintext {
		return s.setClear(ctx, name, value, opts, onlyNew)
	}
	sc := newScratch()
	defer sc.free()
	sealed, err := s.seal(ctx, sc, name, value)
	if err != nil {
		return false, err
	}
	switch {
	case onlyNew:
		// SetIfNotExists is not promised to have done with the bytes: they are
		// not returned to the pool.
		sc.out = nil
		written, err := s.setNX.SetIfNotExists(ctx, s.prefix+name, s.quirks.form(sealed), opts...)
		return written, s.backingError(err)
	case s.bytes != nil:
		return true, s.backingError(s.bytes.SetBytes(ctx, s.prefix+name, sealed, opts...))
	case s.lends:
		l := &loan{sealed: sealed}
		err := s.backing.Set(ctx, s.prefix+name, l, opts...)
		if err != nil || !l.back() {
			sc.out = nil // somebody may still read it
		}
		return true, s.backingError(err)
	default:
		return true, s.backingError(s.backing.Set(ctx, s.prefix+name, s.quirks.form(sealed), opts...))
	}
}

// Delete removes the entry under key. That there is none is no error.
func (s *Store) Delete(ctx context.Context, key any) error {
	ctx, op := s.tel.begin(ctx, "Delete")
	name, err := keyName(key)
	if err == nil {
		err = s.deleteError(s.backing.Delete(ctx, s.prefix+name))
	}
	op.end(err)
	return err
}

// Invalidate removes the entries that carry any of the tags. With a namespace it
// removes nothing outside of it, whatever was planted in a tag's set, where the
// backing store is a PrefixInvalidator.
func (s *Store) Invalidate(ctx context.Context, options ...store.InvalidateOption) error {
	ctx, op := s.tel.begin(ctx, "Invalidate")
	if s.prefix != "" {
		options = append(options[:len(options):len(options)], func(o *store.InvalidateOptions) { o.Tags = s.prefixed(o.Tags) })
	}
	var err error
	if s.prefix != "" && s.scoped != nil {
		err = s.scoped.InvalidatePrefix(ctx, s.prefix, options...)
	} else {
		err = s.backing.Invalidate(ctx, options...)
	}
	err = s.backingError(err)
	op.end(err)
	return err
}

// Clear removes all entries and tags of the namespace, and nothing else; it is
// ErrUnsupported where the backing store cannot enumerate. Without a namespace
// it is the backing store's own Clear, which on gocache's Redis store is
// FLUSHALL: everything, in all databases.
func (s *Store) Clear(ctx context.Context) error {
	ctx, op := s.tel.begin(ctx, "Clear")
	err := s.clear(ctx)
	op.end(err)
	return err
}

func (s *Store) clear(ctx context.Context) error {
	if s.prefix == "" {
		if s.cfg.withoutClear {
			return errClearWithoutNamespace
		}
		return s.backingError(s.backing.Clear(ctx))
	}
	if s.lister == nil {
		return s.unsupported("clear one namespace and leave the rest")
	}
	return s.backingError(s.lister.ClearPrefix(ctx, s.prefix))
}

// GetType is the backing store's, so that dashboards keep their labels.
func (s *Store) GetType() string { return s.backing.GetType() }

// String names the kind of the backing store, and shows nothing of keys.
func (s *Store) String() string { return "middleware.Store(" + s.backing.GetType() + ")" }

// Format is String for every verb of package fmt.
func (s *Store) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is String.
func (s *Store) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Close closes the backing store if it can be closed. The AEAD stays open.
func (s *Store) Close() error {
	if c, ok := s.backing.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func (s *Store) unsupported(what string) error {
	return fmt.Errorf("%w: the %s store, as given (a %T), cannot %s; over Redis, wrap the client with redisstore.New instead, and give that store itself", ErrUnsupported, s.backing.GetType(), s.backing, what)
}

func keyName(key any) (string, error) {
	name, ok := key.(string)
	if !ok {
		return "", &keyError{key}
	}
	if len(name) > wire.MaxNameBytes {
		return "", fmt.Errorf("%w: a key of %d bytes", ErrTooLarge, len(name))
	}
	return name, nil
}
