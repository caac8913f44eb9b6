package middleware

import (
	"context"
	"fmt"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// GetBytes is Get for a value that was set as []byte or string. It returns the bytes
// without an interface, which saves memory and time. The caller may change them. A
// value of another type that Get would return is ErrUnsupportedType, and never a miss.
func (s *Store) GetBytes(ctx context.Context, key string) ([]byte, error) {
	value, _, err := s.GetBytesWithEnd(ctx, key)
	return value, err
}

// GetBytesWithEnd also returns the end that is sealed with the value, to the
// millisecond, by the clock of the process that set it. It may have passed by up to 5
// seconds. Plaintext, and a value that was set without WithAuthenticatedExpiry or
// without an expiration, has the zero time. GetBytesWithEnd does not ask the backing
// store for the TTL, as GetWithTTL does. Metrics count it as GetBytes.
func (s *Store) GetBytesWithEnd(ctx context.Context, key string) ([]byte, time.Time, error) {
	var o opened
	var err error
	if s.tel.quiet() {
		o, err = s.getEncoded(ctx, key)
	} else {
		var op operation
		ctx, op = s.tel.begin(ctx, "GetBytes")
		o, err = s.getEncoded(ctx, key)
		op.end(err)
	}
	if err != nil {
		s.tel.unreadableValue(ctx, "GetBytes", err)
		return nil, time.Time{}, s.missOnFailure(err)
	}
	value, err := bytesIn(o)
	if err != nil {
		return nil, time.Time{}, err
	}
	return value, endIn(o.header), nil
}

// getEncoded reads the value under a key, and leaves a []byte or string encoded.
func (s *Store) getEncoded(ctx context.Context, key string) (opened, error) {
	a, err := s.addressOf(key)
	if err != nil {
		return opened{}, err
	}
	o, _, err := s.getFrom(ctx, a, wanted{encoded: true})
	return o, err
}

// bytesIn returns the bytes of a value that getEncoded returned.
func bytesIn(o opened) ([]byte, error) {
	switch v := o.value.(type) {
	case nil:
		switch {
		case !o.isBytes():
		case o.encoded == nil:
			return []byte{}, nil
		default:
			return o.encoded[:len(o.encoded):len(o.encoded)], nil
		}
	case []byte:
		return v, nil
	case string:
		return []byte(v), nil
	}
	return nil, &typeError{fmt.Sprintf("%T", o.value), "the value is neither a []byte nor a string (read it with Get)"}
}

// SetBytes is Set for bytes that live for ttl, 0 for no expiry, and carry tags. It
// takes the value without an interface and without options, which saves memory and
// time. Default options for the expiration and the tags do not count. It does not
// change value, and does not use value after it has returned nil.
func (s *Store) SetBytes(ctx context.Context, key string, value []byte, ttl time.Duration, tags ...string) error {
	if s.tel.quiet() {
		err := s.setBytes(ctx, key, value, ttl, tags)
		s.tel.refusedWrite(ctx, "SetBytes", err)
		return err
	}
	ctx, op := s.tel.begin(ctx, "SetBytes")
	err := s.setBytes(ctx, key, value, ttl, tags)
	op.end(err)
	s.tel.refusedWrite(ctx, "SetBytes", err)
	return err
}

func (s *Store) setBytes(ctx context.Context, key string, value []byte, ttl time.Duration, tags []string) error {
	if s.can.ttlSetter == nil || len(tags) > 0 || s.policy() == WritePlaintext {
		return s.set(ctx, key, value, []store.Option{store.WithExpiration(ttl), store.WithTags(tags)})
	}
	a, err := s.addressOf(key)
	if err != nil {
		return err
	}
	if ttl, err = normalExpiration(ttl); err != nil {
		return err
	}
	sc := newScratch()
	defer sc.free()
	if err := s.setEncoded(ctx, sc, a, wire.Bytes, value, writePlan{ttl: ttl, exact: true}); err != nil {
		return err
	}
	return s.removeOthers(ctx, a)
}
