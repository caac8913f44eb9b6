package middleware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/content"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Sealer seals and opens single values. It is for applications that store them
// without gocache: with go-redis, a memcached client or in a column of a table.
// A Store with the same AEAD, namespace and codecs reads what a Sealer writes,
// and the other way round. It is safe for concurrent use.
type Sealer struct {
	box      *box.Box
	packer   *content.Packer
	codecs   []Codec
	maxBytes int // of a value before packing
	now      func() time.Time
	reads    *box.Reads // nil: the keys have no ids
	tel      *telemetry
}

// NewSealer returns a Sealer over a, which it does not close. It takes the
// options WithNamespace, WithCodec, WithMaxValueBytes, WithLogger,
// WithCompression, WithFastCompression, WithPadding, WithMeterProvider and
// WithTracerProvider. Options that need a store are errors, hidden names and sealed
// expiry among them. It does not call the key service.
func NewSealer(a tink.AEADWithContext, opts ...Option) (*Sealer, error) {
	cfg, err := newConfig(opts)
	if err == nil && len(cfg.storeOptions) > 0 {
		err = fmt.Errorf("a Sealer does not take these options: %s (give them to middleware.New)", strings.Join(cfg.storeOptions, ", "))
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
	s := &Sealer{
		box: b, codecs: cfg.codecs, maxBytes: cfg.maxValueBytes, now: cfg.now,
		packer: content.New(cfg.compression, cfg.minCompressed, cfg.padding, cfg.maxValueBytes),
	}
	s.countIn(box.NewReads(a))
	return s, nil
}

// countIn counts the reads under other keys in r.
func (s *Sealer) countIn(r *box.Reads) {
	s.reads = r
	s.box.Count(r, func(ctx context.Context, keyID string) { s.tel.otherKeys.Add(ctx, 1, keyID) })
}

// OtherKeyReads returns how many values this Sealer has opened under a key other than the primary key, by the id of the key.
// After a rotation, the former key is no longer read when its count stops growing in every process. In an envelope it is the
// key that wrapped the data key. The id 0 counts keys that are not in the keyset in service. Values under a key service name
// no key, and those of a tenant are not counted: the map stays empty, and an audit answers.
func (s *Sealer) OtherKeyReads() map[uint32]uint64 { return s.reads.Counts() }

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
		sealed, err = s.seal(ctx, nil, sc, binding{name: name}, value)
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
// and those of ctx. A value past the end that a Store sealed with it is
// store.NotFound.
func (s *Sealer) Open(ctx context.Context, name string, sealed []byte) (any, error) {
	ctx, op := s.tel.begin(ctx, "Open")
	err := checkName(name)
	var o opened
	if err == nil {
		o, err = s.open(ctx, binding{name: name}, sealed, false)
	}
	op.end(err)
	s.tel.unreadableValue(ctx, "Open", err)
	return o.value, err
}

// Check seals a random value, opens it, and verifies that it does not open under
// another name. It asks the key service as sealing any value does.
func (s *Sealer) Check(ctx context.Context) error {
	if _, err := s.box.Probe(ctx); err != nil {
		return fmt.Errorf("middleware: check: the AEAD failed the test: %w", err)
	}
	return nil
}

// String names the type and shows nothing of keys.
func (s *Sealer) String() string { return "middleware.Sealer" }

// Format writes String for every verb of package fmt.
func (s *Sealer) Format(f fmt.State, _ rune) { writeString(f, s.String()) }

// GoString returns String.
func (s *Sealer) GoString() string { return s.String() }

// LogValue returns String.
func (s *Sealer) LogValue() slog.Value { return slog.StringValue(s.String()) }

// A binding holds the name, labels and expiry with which a value is sealed.
type binding struct {
	name   string // the value is bound to it: the name in the backing store without the namespace
	flags  wire.Flags
	labels wire.Labels // sealed with the value
	end    int64       // of the value's life, in Unix milliseconds; 0 none
	prfKey uint32      // only with wire.Hidden
}

// opened is a value and the labels and expiry that were sealed with it.
type opened struct {
	value   any
	encoded []byte // of value, whose memory it may share
	header  wire.Header
	labels  wire.Labels
}

// seal appends the sealed form of value to dst.
func (s *Sealer) seal(ctx context.Context, dst []byte, sc *scratch, b binding, value any) ([]byte, error) {
	t, encoded, err := s.encode(&sc.word, value)
	if err != nil {
		return nil, err
	}
	return s.sealBytes(ctx, dst, sc, b, t, encoded)
}

// sealBytes appends the sealed form of an encoded value of type t to dst.
func (s *Sealer) sealBytes(ctx context.Context, dst []byte, sc *scratch, b binding, t wire.Type, encoded []byte) ([]byte, error) {
	if err := s.bounded(len(encoded)); err != nil {
		return nil, err
	}
	h := wire.Header{Type: t, Flags: b.flags, End: b.end, PRFKey: b.prfKey}
	if b.end != 0 {
		h.Flags |= wire.Expires
	}
	if len(encoded) > maxPooled && cap(sc.packed) < len(encoded) {
		sc.packed = largePacked.take(len(encoded))
	}
	plaintext, err := s.packer.Pack(&sc.packed, &h, b.labels, encoded)
	if err != nil {
		return nil, fmt.Errorf("middleware: cannot prepare the value for sealing: %w", err)
	}
	if need := s.box.Size(len(plaintext)); sc.reused && need > max(maxPooled, cap(dst)) {
		dst = largeSealed.take(need)
	}
	if err := ctx.Err(); err != nil { // see unseal
		return nil, fmt.Errorf("middleware: seal the value: %w", err)
	}
	out, err := s.box.Seal(ctx, dst, h, plaintext, b.name)
	if err != nil {
		return nil, fmt.Errorf("middleware: seal the value: %w", err)
	}
	return out, nil
}

// isBytes reports whether encoded is a value of type []byte or string.
func (o opened) isBytes() bool { return o.header.Type == wire.Bytes || o.header.Type == wire.String }

// open returns the value of stored, which was read for b. If owned, stored is overwritten and
// the value may share its memory. A value past its sealed end is a miss, and is returned with
// its labels.
func (s *Sealer) open(ctx context.Context, b binding, stored []byte, owned bool) (opened, error) {
	o, err := s.openEncoded(ctx, b, stored, owned)
	if err == nil {
		o.value, err = s.decode(o.header.Type, o.encoded)
	}
	return o, err
}

// openEncoded is open without decoding.
func (s *Sealer) openEncoded(ctx context.Context, b binding, stored []byte, owned bool) (opened, error) {
	h, n, err := s.box.Parse(stored)
	if err != nil {
		return opened{}, err
	}
	if (h.Flags^b.flags)&wire.Hidden != 0 || h.PRFKey != b.prfKey {
		return opened{}, errOtherName
	}
	o, err := s.unseal(ctx, b.name, h, n, stored, owned)
	if err != nil {
		return opened{}, err
	}
	if h.Flags&wire.Named != 0 && o.labels.Key != b.labels.Key {
		return opened{}, errOtherName
	}
	return o, expired(h, s.now)
}

// unseal opens stored, whose header h has n bytes, and returns everything but the decoded value.
func (s *Sealer) unseal(ctx context.Context, name string, h wire.Header, n int, stored []byte, owned bool) (opened, error) {
	if len(stored) > s.maxStored() {
		return opened{}, s.tooLarge(len(stored))
	}
	if err := ctx.Err(); err != nil { // an AEAD that is called now would seem to be down
		return opened{}, fmt.Errorf("middleware: open the value: %w", err)
	}
	plaintext, err := s.box.Open(ctx, stored, n, owned, name)
	if err != nil {
		return opened{}, fmt.Errorf("middleware: open the value: %w", err)
	}
	labels, encoded, err := s.packer.Unpack(h, plaintext)
	if errors.Is(err, ErrTooLarge) {
		err = fmt.Errorf("%w (raise WithMaxValueBytes)", err)
	}
	if err == nil {
		err = s.bounded(len(encoded))
	}
	if err != nil {
		return opened{}, err
	}
	return opened{encoded: encoded, header: h, labels: labels}, nil
}

// bounded returns an error for n bytes of plaintext over the bound.
func (s *Sealer) bounded(n int) error {
	if n <= s.maxBytes {
		return nil
	}
	return s.tooLarge(n)
}

func (s *Sealer) tooLarge(n int) error {
	return fmt.Errorf("%w: %d bytes, but at most %d are allowed (raise WithMaxValueBytes)", ErrTooLarge, n, s.maxBytes)
}

// maxStored bounds the length of a sealed value. A value under an older key may
// have another overhead than values have now, and any value may be padded.
func (s *Sealer) maxStored() int { return s.box.MaxSize(content.MaxPlaintext(s.maxBytes)) }

// checkName returns an error for a name that no entry of an application has.
func checkName(name string) error {
	if name == keycheck.Name {
		return &nameError{fmt.Sprintf("%v: the cache key %q is reserved", ErrUnsupported, name), ErrUnsupported}
	}
	if len(name) > wire.MaxNameBytes {
		return &nameError{fmt.Sprintf("middleware: the cache key has %d bytes, but at most %d are allowed", len(name), wire.MaxNameBytes), ErrTooLarge}
	}
	return nil
}

// keyName returns the name in a key that gocache passes.
func keyName(key any) (string, error) {
	name, ok := key.(string)
	if !ok {
		return "", &nameError{fmt.Sprintf("%v: the key has type %T (keys must be strings)", ErrUnsupportedType, key), ErrUnsupportedType}
	}
	return name, checkName(name)
}
