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
// value of another type is ErrUnsupportedType.
func (s *Store) GetBytes(ctx context.Context, key string) ([]byte, error) {
	if s.tel.quiet() {
		value, err := s.getBytes(ctx, key)
		if err == nil {
			return value, nil
		}
		s.tel.unreadableValue(ctx, "GetBytes", err)
		return nil, s.missOnFailure(err)
	}
	ctx, op := s.tel.begin(ctx, "GetBytes")
	value, err := s.getBytes(ctx, key)
	op.end(err)
	s.tel.unreadableValue(ctx, "GetBytes", err)
	return value, s.missOnFailure(err)
}

func (s *Store) getBytes(ctx context.Context, key string) ([]byte, error) {
	a, err := s.addressOf(key)
	if err != nil {
		return nil, err
	}
	o, _, err := s.getFrom(ctx, a, wanted{encoded: true})
	if err != nil {
		return nil, err
	}
	switch v := o.value.(type) {
	case nil:
		if o.isBytes() {
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
// time. Default options for the expiration and the tags do not count. It does not keep
// or change value.
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
