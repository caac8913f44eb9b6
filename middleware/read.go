package middleware

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/plaintext"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// stored is the content of the backing store under a name.
type stored struct {
	raw   []byte
	owned bool // raw may be written to
	// other is the result of the backing store's Get, or nil after a read of
	// bytes.
	other any
	// notBytes reports that other is neither []byte nor string: it is plaintext.
	notBytes bool
	timed    bool // ttl was read
	ttl      time.Duration
}

// wanted is what a read returns beside the value.
type wanted struct {
	ttl     bool
	encoded bool // a []byte or string stays in opened.encoded, which saves its conversion to any
}

// get returns what is stored under a key, and with wanted.ttl the time that it has left.
func (s *Store) get(ctx context.Context, key any, w wanted) (opened, time.Duration, error) {
	a, err := s.address(key)
	if err != nil {
		return opened{}, 0, err
	}
	return s.getFrom(ctx, a, w)
}

// getFrom is get for the key of an address.
func (s *Store) getFrom(ctx context.Context, a address, w wanted) (opened, time.Duration, error) {
	value, ttl, err := s.getAt(ctx, a, w)
	if err == nil || s.names == nil || !s.triesNextKey(err) {
		return value, ttl, err
	}
	others, otherErr := s.others(a)
	if otherErr != nil {
		return opened{}, 0, otherErr
	}
	first := err
	for _, o := range others {
		if value, ttl, err = s.getAt(ctx, o, w); err == nil || !s.triesNextKey(err) {
			return value, ttl, err
		}
		if isMiss(first) {
			first = err
		}
	}
	if len(others) > 0 { // a Set or a migration may have moved the entry in between
		value, ttl, err = s.getAt(ctx, a, w)
	}
	if isMiss(err) {
		err = first // perhaps a refusal
	}
	return value, ttl, err
}

// triesNextKey reports whether a read continues under the next PRF key. A refusal that is a
// miss under WithMissOnOpenFailure must not hide a sound entry.
func (s *Store) triesNextKey(err error) bool {
	return isMiss(err) || s.cfg.missOnFailure && (box.Final(err) || errors.Is(err, ErrNotSealed))
}

// getAt returns the value at one address.
func (s *Store) getAt(ctx context.Context, a address, w wanted) (opened, time.Duration, error) {
	if s.can.bytes != nil && s.bounded == nil && !w.ttl && s.policy() == RejectPlaintext { // the usual case, by the shortest way
		raw, err := s.can.bytes.GetBytes(ctx, a.stored)
		if err != nil {
			return opened{}, 0, s.backingError(err)
		}
		if !wire.IsSealed(raw) {
			return opened{}, 0, errPlaintextRefused
		}
		o, err := s.openEncoded(ctx, a, raw, true)
		if err == nil && (!w.encoded || !o.isBytes()) {
			o.value, err = s.sealer.decode(o.header.Type, o.encoded)
		}
		return o, 0, err
	}
	v, err := s.fetch(ctx, a.stored, w.ttl)
	if err != nil {
		return opened{}, 0, err
	}
	o, err := s.read(ctx, a, v)
	if err != nil {
		return opened{}, 0, err
	}
	if w.ttl {
		v.ttl = timeLeft(v.ttl, endIn(o.header), s.cfg.now)
	}
	return o, v.ttl, nil
}

// fetch reads what is stored under a name of the backing store. While plaintext
// is accepted it uses the store's Get, so that plaintext has the Go type that
// the store gives it. With a bound it reads bytes, and stops at the bound.
func (s *Store) fetch(ctx context.Context, name string, withTTL bool) (v stored, err error) {
	v.timed = withTTL
	asBytes := s.can.bytes != nil && s.policy() == RejectPlaintext
	switch {
	case s.bounded != nil && withTTL:
		v.raw, v.ttl, err = s.bounded.GetBytesWithTTLMax(ctx, name, s.sealer.maxStored())
	case s.bounded != nil:
		v.raw, err = s.bounded.GetBytesMax(ctx, name, s.sealer.maxStored())
	case asBytes && withTTL:
		v.raw, v.ttl, err = s.can.bytes.GetBytesWithTTL(ctx, name)
	case asBytes:
		v.raw, err = s.can.bytes.GetBytes(ctx, name)
	case withTTL:
		v.other, v.ttl, err = s.backing.GetWithTTL(ctx, name)
		v.ttl = s.traits.ttl(v.ttl)
	default:
		v.other, err = s.backing.Get(ctx, name)
	}
	if err != nil {
		return stored{}, s.backingError(err)
	}
	if v.owned = s.bounded != nil || asBytes; v.owned {
		return v, nil
	}
	switch o := v.other.(type) {
	case []byte:
		v.raw = o
	case string:
		v.raw = bytesOf(o)
	default:
		v.notBytes = true
	}
	return v, nil
}

// read opens fetched bytes, or applies the plaintext policy. A plaintext value is returned
// without a header.
func (s *Store) read(ctx context.Context, a address, v stored) (opened, error) {
	if !v.notBytes && wire.IsSealed(v.raw) {
		return s.open(ctx, a, v.raw, v.owned)
	}
	policy := s.policy()
	if policy == RejectPlaintext {
		return opened{}, errPlaintextRefused
	}
	if err := s.sealer.bounded(len(v.raw)); err != nil {
		return opened{}, err
	}
	s.tel.plaintextValue(ctx, "read")
	value, t, err := s.plaintextOf(v)
	if err != nil {
		return opened{}, err
	}
	if policy == SealOnRead {
		s.sealInPlace(ctx, a, v, t)
	}
	return opened{value: value}, nil
}

// plaintextOf returns a plaintext value as the application should see it, and the
// type of its bytes in the format. It is decoded if the store has one codec and
// that can read it, else as the backing store returned it. Plaintext does not show
// its type, so that with several codecs any choice would be a guess.
func (s *Store) plaintextOf(v stored) (any, wire.Type, error) {
	if !v.notBytes && len(v.raw) > 0 && len(s.cfg.codecs) == 1 {
		c := s.cfg.codecs[0]
		value, err := decodeUntrusted(c, v.raw, s.maxDecoded())
		if err == nil || errors.Is(err, ErrTooLarge) {
			return value, wire.Type(c.Format()), err
		}
	}
	switch other := v.other.(type) {
	case []byte:
		return slices.Clone(other), wire.Bytes, nil // for the caller
	case nil:
		if v.owned {
			return v.raw, wire.Bytes, nil
		}
		return nil, 0, nil
	case string:
		return other, wire.String, nil
	default:
		return other, 0, nil
	}
}

// maxDecoded bounds the plaintext that a codec decodes. A few bytes can declare
// elements of any size: one byte of MessagePack, two of JSON.
func (s *Store) maxDecoded() int {
	if s.cfg.boundReads {
		return s.cfg.maxValueBytes
	}
	return defaultMaxDecoded
}

// sealInPlace replaces the plaintext value that was read by its sealed form if it
// is still stored. It seals the bytes as they are: encoding the decoded value
// would lose what its Go type does not know. If it fails, the read succeeds
// anyway, and the next read tries again.
func (s *Store) sealInPlace(ctx context.Context, a address, v stored, t wire.Type) {
	what := "reseal_failed"
	defer func() { s.tel.plaintextValue(ctx, what) }()
	if v.notBytes {
		return
	}
	if s.cfg.sealExpiry && !v.timed {
		again, err := s.fetch(ctx, a.stored, true)
		if err != nil {
			return // the next read tries again
		}
		v.ttl = again.ttl // if the value is another now, the swap fails
	}
	sc := newScratch()
	defer sc.free()
	sealed, err := s.sealer.sealBytes(ctx, nil, sc, s.binding(a, s.endOf(v.ttl), nil), t, v.raw)
	if err == nil {
		var swapped bool
		swapped, err = s.can.swapper.CompareAndSwap(ctx, a.stored, v.raw, 0, sealed, keepTTL)
		if err == nil {
			what = "changed"
			if swapped {
				what = "resealed"
			}
			return
		}
	}
	if s.tel.limit.Allow() {
		s.tel.log.WarnContext(ctx, "sealcache: a stored plaintext value could not be replaced by its sealed form (the next read tries again)", "reason", outcome(err))
	}
}

// keepTTL tells CompareAndSwap to leave the entry's expiry as it is.
const keepTTL time.Duration = -1

// defaultMaxDecoded is maxDecoded without WithMaxValueBytes.
const defaultMaxDecoded = 1 << 20

// errNotJSON is the error of a large plaintext value that is not a JSON text.
var errNotJSON = errors.New("the stored plaintext is not valid JSON")

// decodeUntrusted decodes a copy of bytes that nothing has authenticated. A codec
// may trust what it wrote itself, so the form and the size are checked before, and
// a panic becomes an error. Large bytes that are not in the codec's form are not
// ErrTooLarge, so that the caller gets them as they are.
func decodeUntrusted(c Codec, b []byte, maxBytes int) (any, error) {
	switch {
	case c.Format() == FormatMsgPack:
		if err := plaintext.CheckMsgPack(b); err != nil {
			return nil, err
		}
	case c.Format() == FormatJSON && len(b) > maxBytes:
		if !json.Valid(b) {
			return nil, errNotJSON
		}
	}
	if err := boundDecoded(len(b), maxBytes); err != nil {
		return nil, err
	}
	return decode(c, slices.Clone(b))
}

// boundDecoded returns an error for n bytes over the bound.
func boundDecoded(n, maxBytes int) error {
	if n <= maxBytes {
		return nil
	}
	return fmt.Errorf("%w: %d bytes of plaintext, but at most %d are decoded (set WithMaxValueBytes)", ErrTooLarge, n, maxBytes)
}

// decode decodes b. A panic of a codec becomes an error.
func decode(c Codec, b []byte) (value any, err error) {
	defer func() {
		if r := recover(); r != nil {
			value, err = nil, fmt.Errorf("the codec panicked (the panic value has the type %T)", r)
		}
	}()
	return c.Decode(b)
}

// encode encodes v. A panic of a codec becomes an error.
func encode(c Codec, v any) (b []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			b, err = nil, fmt.Errorf("the codec panicked (the panic value has the type %T)", r)
		}
	}()
	return c.Encode(v)
}
