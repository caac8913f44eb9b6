package middleware

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// stored is what the backing store holds under a name.
type stored struct {
	raw   []byte
	owned bool // raw may be written to
	// other is what the backing store's Get returned, nil after a read of bytes.
	other any
	// notBytes reports that other is neither []byte nor string: it is plaintext.
	notBytes bool
	ttl      time.Duration
}

func (s *Store) get(ctx context.Context, key any, withTTL bool) (any, time.Duration, error) {
	name, err := keyName(key)
	if err != nil {
		return nil, 0, err
	}
	if s.bytes != nil && s.bounded == nil && !withTTL && s.policy() == RejectPlaintext { // the usual case, by the shortest way
		raw, err := s.bytes.GetBytes(ctx, s.prefix+name)
		if err != nil {
			return nil, 0, s.backingError(err)
		}
		if wire.IsSealed(raw) {
			value, err := s.sealer.open(ctx, name, raw, true)
			return value, 0, err
		}
		return nil, 0, errPlaintextRefused
	}
	v, err := s.fetch(ctx, s.prefix+name, withTTL)
	if err != nil {
		return nil, 0, err
	}
	value, err := s.read(ctx, name, v)
	if err != nil {
		return nil, 0, err
	}
	return value, v.ttl, nil
}

// fetch reads what is stored under a name of the backing store. While plaintext
// is accepted it uses the store's Get, so that plaintext has the Go type that
// the store gives it. With a bound it reads bytes, and stops at the bound.
func (s *Store) fetch(ctx context.Context, name string, withTTL bool) (v stored, err error) {
	asBytes := s.bytes != nil && s.policy() == RejectPlaintext
	switch {
	case s.bounded != nil && withTTL:
		v.raw, v.ttl, err = s.bounded.GetBytesWithTTLMax(ctx, name, s.sealer.maxStored())
	case s.bounded != nil:
		v.raw, err = s.bounded.GetBytesMax(ctx, name, s.sealer.maxStored())
	case asBytes && withTTL:
		v.raw, v.ttl, err = s.bytes.GetBytesWithTTL(ctx, name)
	case asBytes:
		v.raw, err = s.bytes.GetBytes(ctx, name)
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

// read returns the value of what was fetched, by the plaintext policy.
func (s *Store) read(ctx context.Context, name string, v stored) (any, error) {
	if !v.notBytes && wire.IsSealed(v.raw) {
		return s.sealer.open(ctx, name, v.raw, v.owned)
	}
	policy := s.policy()
	if policy == RejectPlaintext {
		return nil, errPlaintextRefused
	}
	if err := s.sealer.bounded(len(v.raw)); err != nil {
		return nil, err
	}
	s.tel.plaintextValue(ctx, "read")
	value := s.plaintextOf(v)
	if policy == SealOnRead {
		s.sealInPlace(ctx, name, v, value)
	}
	return value, nil
}

// plaintextOf returns a plaintext value as the application should see it: decoded
// if the store has one codec and that can read it, else as the backing store
// returned it. Plaintext does not show its type, so that with several codecs any
// choice would be a guess.
func (s *Store) plaintextOf(v stored) any {
	if !v.notBytes && len(v.raw) > 0 && len(s.cfg.codecs) == 1 {
		if value, err := decodeUntrusted(s.cfg.codecs[0], slices.Clone(v.raw)); err == nil {
			return value
		}
	}
	switch other := v.other.(type) {
	case []byte:
		return slices.Clone(other) // for the caller
	case nil:
		if v.owned {
			return v.raw
		}
		return nil
	default:
		return other
	}
}

// sealInPlace replaces the plaintext value that was read by its sealed form if it
// is still stored. If it fails, the read succeeds nevertheless, and the next
// read tries again.
func (s *Store) sealInPlace(ctx context.Context, name string, v stored, value any) {
	what := "reseal_failed"
	defer func() { s.tel.plaintextValue(ctx, what) }()
	if v.notBytes {
		return
	}
	sc := newScratch()
	defer sc.free()
	sealed, err := s.sealer.seal(ctx, nil, sc, name, value)
	if err == nil {
		var swapped bool
		swapped, err = s.swapper.CompareAndSwap(ctx, s.prefix+name, v.raw, 0, sealed, keepTTL)
		if err == nil {
			what = "changed"
			if swapped {
				what = "resealed"
			}
			return
		}
	}
	if s.tel.limit.Allow() {
		s.tel.log.WarnContext(ctx, "sealcache: a plaintext value could not be sealed in place", "reason", outcome(err))
	}
}

// keepTTL tells CompareAndSwap to leave the entry's expiry as it is.
const keepTTL time.Duration = -1

// decodeUntrusted decodes bytes that nothing has authenticated. A codec may trust
// what it wrote itself, so the form is checked before, and a panic is an error.
func decodeUntrusted(c Codec, b []byte) (any, error) {
	if c.Format() == FormatMsgPack {
		if err := checkMsgPack(b); err != nil {
			return nil, err
		}
	}
	return decode(c, b)
}

// decode decodes b. The panic of a codec is an error.
func decode(c Codec, b []byte) (value any, err error) {
	defer func() {
		if r := recover(); r != nil {
			value, err = nil, fmt.Errorf("codec panicked with a %T", r)
		}
	}()
	return c.Decode(b)
}

// encode encodes v. The panic of a codec is an error.
func encode(c Codec, v any) (b []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			b, err = nil, fmt.Errorf("codec panicked with a %T", r)
		}
	}()
	return c.Encode(v)
}
