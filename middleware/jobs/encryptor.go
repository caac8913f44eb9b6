package jobs

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/internal/compress"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Encryptor seals and opens what jobs leave in a queue. It is safe for
// concurrent use.
type Encryptor struct {
	aead     tink.AEADWithContext
	appender aead.AppendAEAD // aead, or nil
	sized    interface{ Overhead() int }
	cfg      *config
	codec    *compress.Codec
	reload   *reloader // nil: nothing to reload
	tel      *telemetry
	bindings sync.Pool // of *[]byte: associated data, for the appender, which does not keep it
}

// NewEncryptor makes an Encryptor that seals with a: an aead.Envelope or
// aead.Keyring, or any other AEAD of Tink's interface. It checks its arguments
// and does not call the key service; see Check. It does not close a.
//
// Of an AEAD that is not of package aead, an error on opening that is none of
// ErrUnauthentic, ErrUnknownKey and ErrKeyServiceUnavailable is taken for
// ErrKeyServiceUnavailable: it may be a broken connection. Adapt a local primitive
// of Tink with aead.WithContext, which marks its refusals.
func NewEncryptor(a tink.AEADWithContext, opts ...Option) (*Encryptor, error) {
	if isNil(a) {
		return nil, errors.New("jobs: NewEncryptor: nil AEAD: make one with aead.NewEnvelope or aead.OpenKeyring")
	}
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("jobs: NewEncryptor: %w", err)
	}
	e := &Encryptor{aead: a, cfg: cfg}
	e.appender, _ = a.(aead.AppendAEAD)
	e.sized, _ = a.(interface{ Overhead() int })
	if e.codec, err = compress.New(cfg.maxBytes); err != nil {
		return nil, fmt.Errorf("jobs: NewEncryptor: %w", err)
	}
	if e.tel, err = newTelemetry(cfg); err != nil {
		return nil, fmt.Errorf("jobs: NewEncryptor: %w", err)
	}
	e.reload = newReloader(a, cfg, e.tel)
	return e, nil
}

// Seal seals payload and binds it to the names of m that are not empty. It
// neither changes nor keeps payload, of which nil and empty are the same.
//
// Errors: ErrTooLarge, ErrKeyServiceUnavailable, those of ctx.
func (e *Encryptor) Seal(ctx context.Context, m Meta, payload []byte) ([]byte, error) {
	return e.SealTo(ctx, nil, m, payload)
}

// SealTo is Seal into the spare capacity of dst, which payload must not overlap: it
// appends the sealed bytes to dst and returns the result, or nil and an error.
func (e *Encryptor) SealTo(ctx context.Context, dst []byte, m Meta, payload []byte) ([]byte, error) {
	sealed, err := e.seal(ctx, dst, m, payload)
	e.tel.count(ctx, "seal", m.Kind, err)
	return sealed, err
}

func (e *Encryptor) seal(ctx context.Context, dst []byte, m Meta, payload []byte) ([]byte, error) {
	k, err := m.check()
	if err != nil {
		return nil, err
	}
	if len(payload) > e.cfg.maxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed: see jobs.WithMaxPayloadBytes", ErrTooLarge, len(payload), e.cfg.maxBytes)
	}
	names := m.names()
	h := header(k, names)
	if e.cfg.compress && len(payload) >= e.cfg.minBytes {
		if small, ok := e.codec.Shrink(payload); ok {
			payload = small
			h.Flags |= wire.Compressed
		}
	}
	out := h.Append(slices.Grow(dst, h.Size()+e.overhead()+len(payload)))
	n := len(out)
	ad := e.bind(k, m, names, out[len(dst):])
	if e.appender != nil {
		out, err = e.appender.SealTo(ctx, out, payload, *ad)
		e.bindings.Put(ad)
		if err != nil {
			return nil, fmt.Errorf("jobs: seal: %w", err)
		}
	} else {
		ct, err := e.aead.EncryptWithContext(ctx, payload, *ad)
		if err != nil {
			return nil, fmt.Errorf("jobs: seal: %w", err)
		}
		out = append(out, ct...)
	}
	if len(out) <= n {
		return nil, errors.New("jobs: seal: the AEAD returned no ciphertext")
	}
	return out, nil
}

// Open opens what Seal made for m. It changes nothing and returns bytes that are
// the caller's. A value must be bound to all the names that m gives
// (WithOptionalBinding excepted) and to none that m leaves empty; otherwise it is
// ErrUnauthentic.
//
// Errors: ErrNotSealed, ErrUnauthentic, ErrUnknownKey (after a reload, see
// WithReload), ErrKeyServiceUnavailable, ErrUnsupportedFormat, ErrTooLarge, those
// of ctx. Permanent tells which of them are definite.
func (e *Encryptor) Open(ctx context.Context, m Meta, sealed []byte) ([]byte, error) {
	began := e.reload.clock()
	payload, err := e.open(ctx, m, sealed)
	if err != nil && errors.Is(err, ErrUnknownKey) && !Permanent(err) && e.reload.run(ctx, began) {
		payload, err = e.open(ctx, m, sealed)
	}
	e.tel.count(ctx, "open", m.Kind, err)
	return payload, err
}

func (e *Encryptor) open(ctx context.Context, m Meta, sealed []byte) ([]byte, error) {
	k, err := m.check()
	if err != nil {
		return nil, err
	}
	h, n, err := wire.Parse(sealed)
	if err != nil {
		return nil, err
	}
	if h.Kind != k {
		return nil, fmt.Errorf("%w: a %s stands where a %s should", ErrUnauthentic, h.Kind, k)
	}
	if h.Type != wire.Bytes {
		return nil, fmt.Errorf("%w: a %s of type %s", ErrUnsupportedFormat, k, h.Type)
	}
	bound, given := Binding(h.Names), m.names()
	if missing := bound &^ given; missing != 0 {
		return nil, fmt.Errorf("%w: bound to a name that is not known here (%s)", ErrUnauthentic, missing)
	}
	if unbound := given &^ bound &^ e.cfg.optional; unbound != 0 {
		return nil, fmt.Errorf("%w: not bound to its %s: sealed for another place", ErrUnauthentic, unbound)
	}
	ad := e.bind(k, m, bound, sealed[:n])
	var payload []byte
	if e.appender != nil {
		payload, err = e.appender.OpenTo(ctx, nil, sealed[n:], *ad)
		e.bindings.Put(ad)
	} else {
		payload, err = e.aead.DecryptWithContext(ctx, sealed[n:], *ad)
	}
	if err != nil {
		return nil, fmt.Errorf("jobs: open: %w", e.aeadError(err))
	}
	if h.Flags&wire.Compressed != 0 {
		if payload, err = e.codec.Expand(payload); err != nil {
			return nil, fmt.Errorf("jobs: open: %w", err)
		}
	}
	if len(payload) > e.cfg.maxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are allowed: see jobs.WithMaxPayloadBytes", ErrTooLarge, len(payload), e.cfg.maxBytes)
	}
	return payload, nil
}

// maxPooledBinding bounds the memory that is kept for associated data.
const maxPooledBinding = 4 << 10

// bind returns associated data, in memory that is used again.
func (e *Encryptor) bind(k wire.Kind, m Meta, b Binding, header []byte) *[]byte {
	ad, ok := e.bindings.Get().(*[]byte)
	if !ok || cap(*ad) > maxPooledBinding {
		ad = new([]byte)
	}
	*ad = appendBinding((*ad)[:0], k, e.cfg.namespace, m, b, header)
	return ad
}

// IsSealed tells whether b claims to be sealed, by its first two bytes. No JSON,
// msgpack or UTF-8 text does, and no protobuf message unless its first field has
// the number 1480.
func IsSealed(b []byte) bool { return wire.IsSealed(b) }

// Namespace is that of WithNamespace, or empty.
func (e *Encryptor) Namespace() string { return e.cfg.namespace }

// MaxPayloadBytes is the bound of WithMaxPayloadBytes, or its default.
func (e *Encryptor) MaxPayloadBytes() int { return e.cfg.maxBytes }

// Check proves, for a start-up or readiness probe, that the encryptor does its
// work: a random payload, sealed, differs from what it was, opens again, and does
// not open as another job's. It asks the key service as far as sealing any value
// does.
func (e *Encryptor) Check(ctx context.Context) error {
	const probeBytes = 32
	probe := make([]byte, probeBytes)
	rand.Read(probe)
	m := Meta{Type: "sealcache probe", ID: "1"}
	sealed, err := e.seal(ctx, nil, m, probe)
	if err != nil {
		return fmt.Errorf("jobs: check: %w", err)
	}
	if bytes.Contains(sealed, probe) {
		return errors.New("jobs: check: the AEAD does not encrypt: a sealed payload holds its plaintext")
	}
	opened, err := e.open(ctx, m, sealed)
	if err != nil {
		return fmt.Errorf("jobs: check: what was sealed does not open: %w", err)
	}
	if !bytes.Equal(opened, probe) {
		return errors.New("jobs: check: what was sealed opens as something else")
	}
	m.ID = "2"
	if _, err := e.open(ctx, m, sealed); err == nil {
		return errors.New("jobs: check: the AEAD does not authenticate associated data: a payload opens as another job's")
	}
	return nil
}

// String says what the Encryptor is, and nothing of its keys.
func (e *Encryptor) String() string {
	return fmt.Sprintf("jobs.Encryptor(namespace %q)", e.cfg.namespace)
}

// GoString is String.
func (e *Encryptor) GoString() string { return e.String() }

// LogValue is String.
func (e *Encryptor) LogValue() slog.Value { return slog.StringValue(e.String()) }

// check checks the lengths of the names and returns the kind of the format.
func (m Meta) check() (wire.Kind, error) {
	if len(m.Type) > wire.MaxNameBytes || len(m.Queue) > wire.MaxNameBytes || len(m.ID) > wire.MaxNameBytes {
		return 0, fmt.Errorf("%w: a name of more than %d bytes", ErrTooLarge, wire.MaxNameBytes)
	}
	return m.Kind.wire()
}

// defaultOverhead is room for what an AEAD adds that does not say how much.
const defaultOverhead = 256

func (e *Encryptor) overhead() int {
	if e.sized != nil {
		return e.sized.Overhead()
	}
	return defaultOverhead
}

func isNil(v any) bool {
	if v == nil {
		return true
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Func, reflect.Chan, reflect.Slice, reflect.Interface:
		return r.IsNil()
	default:
		return false
	}
}
