package middleware

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Sealer seals and opens single values. It is for applications that store them
// without gocache: with go-redis, a memcached client or in a column of a table.
// A Store with the same AEAD, namespace and codecs reads what a Sealer writes,
// and the other way round. It is safe for concurrent use.
type Sealer struct {
	box      *box.Box
	codecs   []Codec
	maxBytes int // of a plaintext
	tel      *telemetry
}

// NewSealer returns a Sealer over a, which it does not close. It takes the
// options WithNamespace, WithCodec, WithMaxValueBytes, WithLogger,
// WithMeterProvider and WithTracerProvider. Options that need a store are
// errors. It does not call the key service.
func NewSealer(a tink.AEADWithContext, opts ...Option) (*Sealer, error) {
	cfg, err := newConfig(opts)
	if err == nil && len(cfg.storeOptions) > 0 {
		err = fmt.Errorf("%s: needs a store (New takes it)", strings.Join(cfg.storeOptions, ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("middleware: NewSealer: %w", err)
	}
	s, err := newSealer(a, cfg)
	if err != nil {
		return nil, fmt.Errorf("middleware: NewSealer: %w", err)
	}
	if s.tel, err = newTelemetry(cfg, "none"); err != nil {
		return nil, fmt.Errorf("middleware: NewSealer: %w", err)
	}
	return s, nil
}

func newSealer(a tink.AEADWithContext, cfg *config) (*Sealer, error) {
	b, err := box.New(a, wire.CacheValue, cfg.namespace)
	if err != nil {
		return nil, err
	}
	return &Sealer{box: b, codecs: cfg.codecs, maxBytes: cfg.maxValueBytes}, nil
}

// Seal returns the sealed form of value, bound to name and the namespace. Store
// it under that name: under another one it does not open. To share it with a
// Store, put the namespace and a colon before the name in the backing store.
//
// Errors: ErrUnsupportedType, ErrTooLarge, ErrKeyServiceUnavailable, those of
// ctx.
func (s *Sealer) Seal(ctx context.Context, name string, value any) ([]byte, error) {
	ctx, op := s.tel.begin(ctx, "Seal")
	sc := newScratch()
	defer sc.free()
	err := checkName(name)
	var sealed []byte
	if err == nil {
		sealed, err = s.seal(ctx, nil, sc, name, value)
	}
	op.end(err)
	s.tel.refusedWrite(ctx, "Seal", err)
	return sealed, err
}

// Open returns the value of sealed, which was read under name. It leaves sealed
// as it is. The caller may change the value.
//
// Errors: ErrNotSealed, ErrUnauthentic, ErrUnknownKey, ErrUnsupportedFormat,
// ErrUnsupportedType, ErrTooLarge, ErrTooManyDataKeys, ErrKeyServiceUnavailable,
// those of ctx.
func (s *Sealer) Open(ctx context.Context, name string, sealed []byte) (any, error) {
	ctx, op := s.tel.begin(ctx, "Open")
	err := checkName(name)
	var value any
	if err == nil {
		value, err = s.open(ctx, name, sealed, false)
	}
	op.end(err)
	s.tel.unreadableValue(ctx, "Open", err)
	return value, err
}

// Check seals a random value, opens it, and verifies that it does not open under
// another name. It asks the key service as sealing any value does.
func (s *Sealer) Check(ctx context.Context) error {
	if _, err := s.box.Probe(ctx); err != nil {
		return fmt.Errorf("middleware: check: keys: %w", err)
	}
	return nil
}

// String names the type and shows nothing of keys.
func (s *Sealer) String() string { return "middleware.Sealer" }

// Format is String for every verb of package fmt.
func (s *Sealer) Format(f fmt.State, _ rune) { writeString(f, s.String()) }

// LogValue is String.
func (s *Sealer) LogValue() slog.Value { return slog.StringValue(s.String()) }

// seal appends the sealed form of value to dst.
func (s *Sealer) seal(ctx context.Context, dst []byte, sc *scratch, name string, value any) ([]byte, error) {
	t, plaintext, err := s.encode(&sc.word, value)
	if err != nil {
		return nil, err
	}
	return s.sealBytes(ctx, dst, name, t, plaintext)
}

// sealBytes appends the sealed form of a plaintext of type t to dst.
func (s *Sealer) sealBytes(ctx context.Context, dst []byte, name string, t wire.Type, plaintext []byte) ([]byte, error) {
	if err := s.bounded(len(plaintext)); err != nil {
		return nil, err
	}
	out, err := s.box.Seal(ctx, dst, wire.Header{Type: t}, plaintext, name)
	if err != nil {
		return nil, fmt.Errorf("middleware: %w", err)
	}
	return out, nil
}

// open returns the value of stored, which was read under name. If owned, stored
// is overwritten and the value may share its memory.
func (s *Sealer) open(ctx context.Context, name string, stored []byte, owned bool) (any, error) {
	header, n, err := s.box.Parse(stored)
	if err != nil {
		return nil, err
	}
	if len(stored) > s.maxStored() {
		return nil, s.bounded(len(stored))
	}
	plaintext, err := s.box.Open(ctx, stored, n, owned, name)
	if err != nil {
		return nil, fmt.Errorf("middleware: %w", err)
	}
	if err := s.bounded(len(plaintext)); err != nil {
		return nil, err
	}
	return s.decode(header.Type, plaintext)
}

// bounded returns an error for n bytes of plaintext over the bound.
func (s *Sealer) bounded(n int) error {
	if n <= s.maxBytes {
		return nil
	}
	return fmt.Errorf("%w: %d bytes, at most %d are allowed (WithMaxValueBytes)", ErrTooLarge, n, s.maxBytes)
}

// maxStored bounds the length of a sealed value. A value under an older key may
// have another overhead than values have now.
func (s *Sealer) maxStored() int { return s.box.MaxSize(s.maxBytes) }

// checkName returns an error for a name that no entry of an application has.
func checkName(name string) error {
	if name == keycheck.Name {
		return &nameError{fmt.Sprintf("%v: the key %q is reserved", ErrUnsupported, name), ErrUnsupported}
	}
	if len(name) > wire.MaxNameBytes {
		return &nameError{fmt.Sprintf("%v: a key of %d bytes", ErrTooLarge, len(name)), ErrTooLarge}
	}
	return nil
}

// keyName returns the name in a key that gocache passes.
func keyName(key any) (string, error) {
	name, ok := key.(string)
	if !ok {
		return "", &nameError{fmt.Sprintf("%v: a key of type %T (keys are strings)", ErrUnsupportedType, key), ErrUnsupportedType}
	}
	return name, checkName(name)
}
