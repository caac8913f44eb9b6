package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/compress"
	"github.com/sealcache/sealcache/middleware/internal/reload"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Encryptor seals and opens the values that jobs leave in a queue. It is safe for
// concurrent use.
type Encryptor struct {
	boxes  map[wire.Kind]*box.Box
	cfg    *config
	codec  *compress.Codec
	tokens *Tokens          // nil: no PRF
	reload *reload.Reloader // nil: nothing to reload
	reads  *box.Reads       // nil: the keys have no ids
	tel    *telemetry
}

// NewEncryptor returns an Encryptor that seals with a: an aead.Envelope, an
// aead.Keyring or another AEAD of Tink's interface. It checks its arguments and does
// not call the key service: see Check. It does not close a.
//
// An error of a is a refusal only if it carries ErrUnauthentic or ErrUnknownKey.
// Anything else counts as ErrKeyServiceUnavailable, because the connection may be
// down. aead.WithContext adapts a local primitive of Tink and marks its refusals.
func NewEncryptor(a tink.AEADWithContext, opts ...Option) (*Encryptor, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("jobs: NewEncryptor: %w", err)
	}
	e := &Encryptor{cfg: cfg, boxes: make(map[wire.Kind]*box.Box)}
	e.reads = box.NewReads(a)
	for _, k := range [...]wire.Kind{wire.JobPayload, wire.JobResult, wire.JobFailure, wire.Schedule} {
		if e.boxes[k], err = box.New(a, k, cfg.namespace); err != nil {
			return nil, fmt.Errorf("jobs: NewEncryptor: %w", err)
		}
		e.boxes[k].Count(e.reads, func(ctx context.Context, keyID string) { e.tel.otherKeys.Add(ctx, 1, keyID) })
	}
	if cfg.prf != nil {
		e.tokens = newTokens(cfg.namespace, cfg.prf)
	}
	if e.codec, err = compress.New(cfg.maxBytes); err != nil {
		return nil, fmt.Errorf("jobs: NewEncryptor: %w", err)
	}
	if e.tel, err = newTelemetry(cfg); err != nil {
		return nil, fmt.Errorf("jobs: NewEncryptor: %w", err)
	}
	e.reload = reload.New(a, cfg.reload, e.tel.reloadFailed)
	return e, nil
}

// Seal returns the sealed form of payload, bound to the names of m that are not
// empty. It does not change or keep payload. A nil payload is an empty one.
//
// Errors: ErrTooLarge, ErrKeyServiceUnavailable, those of ctx.
func (e *Encryptor) Seal(ctx context.Context, m Meta, payload []byte) ([]byte, error) {
	return e.SealTo(ctx, nil, m, payload)
}

// SealTo is Seal into the spare capacity of dst, which payload must not overlap. It
// returns dst with the sealed bytes appended, or nil and an error.
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
		return nil, fmt.Errorf("%w: %d bytes, but at most %d are allowed (raise jobs.WithMaxPayloadBytes)", ErrTooLarge, len(payload), e.cfg.maxBytes)
	}
	names := m.names()
	h := header(k, names)
	if e.cfg.compress && len(payload) >= e.cfg.minBytes {
		if small, ok := e.codec.Shrink(payload); ok {
			payload = small
			h.Flags |= wire.Compressed
		}
	}
	bound := m.bound(names)
	out, err := e.boxes[k].Seal(ctx, dst, h, payload, bound[:]...)
	if err != nil {
		return nil, fmt.Errorf("jobs: seal the value: %w", err)
	}
	return out, nil
}

// Open returns the payload that Seal sealed for m. The caller owns it, and sealed
// stays as it is. A value must be bound to all the names that m gives
// (WithOptionalBinding excepted) and to none that m leaves empty. Otherwise it is
// ErrUnauthentic.
//
// Errors: ErrNotSealed, ErrUnauthentic, ErrUnknownKey (after a reload, see
// WithReload), ErrKeyServiceUnavailable, ErrTooManyDataKeys, ErrUnsupportedFormat,
// ErrTooLarge, those of ctx. Permanent reports which of them are definite.
func (e *Encryptor) Open(ctx context.Context, m Meta, sealed []byte) ([]byte, error) {
	began := e.reload.Now()
	payload, err := e.open(ctx, m, sealed)
	if err != nil && errors.Is(err, ErrUnknownKey) && !destroyed(err) {
		if answer, _ := e.reload.Run(ctx, began); answer.Again {
			payload, err = e.open(ctx, m, sealed)
		}
	}
	e.tel.count(ctx, "open", m.Kind, err)
	return payload, err
}

// destroyed reports whether the keyset lists a key as destroyed. No reload brings it back. A disabled one may have been
// enabled again.
func destroyed(err error) bool {
	var k *aead.KeyError
	return errors.As(err, &k) && k.Status == keyset.Destroyed
}

func (e *Encryptor) open(ctx context.Context, m Meta, sealed []byte) ([]byte, error) {
	k, err := m.check()
	if err != nil {
		return nil, err
	}
	h, n, err := e.boxes[k].Parse(sealed)
	if err != nil {
		return nil, err
	}
	if h.Type != wire.Bytes {
		return nil, fmt.Errorf("%w: the %s holds a value of type %s instead of bytes (update sealcache)", ErrUnsupportedFormat, k, h.Type)
	}
	bound, given := Binding(h.Names), m.names()
	if missing := bound &^ given; missing != 0 {
		return nil, fmt.Errorf("%w: the jobs.Meta that Open got lacks fields that were sealed (set them): %s", ErrUnauthentic, missing)
	}
	if unbound := given &^ bound &^ e.cfg.optional; unbound != 0 {
		return nil, fmt.Errorf("%w: the jobs.Meta that Open got has fields that were not sealed: %s", ErrUnauthentic, unbound)
	}
	inData := m.bound(bound)
	payload, err := e.boxes[k].Open(ctx, sealed, n, false, inData[:]...)
	if err != nil {
		return nil, fmt.Errorf("jobs: open the value: %w", err)
	}
	if h.Flags&wire.Compressed != 0 {
		if payload, err = e.codec.Expand(payload); err != nil {
			return nil, withRemedy(err)
		}
	}
	if len(payload) > e.cfg.maxBytes {
		return nil, fmt.Errorf("%w: %d bytes, but at most %d are allowed (raise jobs.WithMaxPayloadBytes)", ErrTooLarge, len(payload), e.cfg.maxBytes)
	}
	return payload, nil
}

// withRemedy adds what to do to the error of a payload that is too large.
func withRemedy(err error) error {
	if errors.Is(err, ErrTooLarge) {
		return fmt.Errorf("%w (raise jobs.WithMaxPayloadBytes)", err)
	}
	return err
}

// OtherKeyReads returns how many values this Encryptor has opened under a key other than the primary key, by the id of the key.
// After a rotation, the former key is no longer read when its count stops growing in every process. In an envelope it is the
// key that wrapped the data key. The id 0 counts keys that are not in the keyset in service. Values under a key service name
// no key, and those of a tenant are not counted: the map stays empty, and an audit answers.
func (e *Encryptor) OtherKeyReads() map[uint32]uint64 { return e.reads.Counts() }

// IsSealed reports whether b claims to be sealed, by its first two bytes. No JSON,
// msgpack or UTF-8 text does, and no protobuf message unless its first field has the
// number 1480.
func IsSealed(b []byte) bool { return wire.IsSealed(b) }

// Namespace returns the namespace of WithNamespace, or "".
func (e *Encryptor) Namespace() string { return e.cfg.namespace }

// MaxPayloadBytes returns the bound of WithMaxPayloadBytes, or its default.
func (e *Encryptor) MaxPayloadBytes() int { return e.cfg.maxBytes }

// Check seals a random payload, opens it, and verifies that it does not open as
// another job's payload. It is for start-up and readiness probes. It asks the key
// service as sealing any value does.
func (e *Encryptor) Check(ctx context.Context) error {
	if _, err := e.boxes[wire.JobPayload].Probe(ctx); err != nil {
		return fmt.Errorf("jobs: the test of the encryption keys failed: %w", err)
	}
	return nil
}

// String names the Encryptor and shows nothing of its keys.
func (e *Encryptor) String() string {
	return fmt.Sprintf("jobs.Encryptor(namespace %q)", e.cfg.namespace)
}

// GoString returns String.
func (e *Encryptor) GoString() string { return e.String() }

// LogValue returns String.
func (e *Encryptor) LogValue() slog.Value { return slog.StringValue(e.String()) }

// check checks the lengths of the names and returns the kind of the format.
func (m Meta) check() (wire.Kind, error) {
	if len(m.Type) > wire.MaxNameBytes || len(m.Queue) > wire.MaxNameBytes || len(m.ID) > wire.MaxNameBytes {
		return 0, fmt.Errorf("%w: a type, queue or id in the jobs.Meta has more than %d bytes", ErrTooLarge, wire.MaxNameBytes)
	}
	return m.Kind.wire()
}
