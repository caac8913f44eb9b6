package redisstore

import (
	"encoding"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

// defaultTagsTTL is how long gocache's Redis store keeps a tag's set.
const defaultTagsTTL = 720 * time.Hour

// settings are the options of one call, checked.
type settings struct {
	ttl     time.Duration // whole milliseconds, 0 for none
	tags    []string
	tagsTTL time.Duration // at least ttl, whole milliseconds, 0 for no expiry
}

// apply is gocache's store.ApplyOptions with an error for a nil option, on which that panics.
func apply(o *store.Options, opts []store.Option) error {
	for _, opt := range opts {
		if opt == nil {
			return errors.New("a store option that the caller gave is nil")
		}
		opt(o)
	}
	return nil
}

// tagsOf returns the tags of an invalidation.
func tagsOf(opts []store.InvalidateOption) ([]string, error) {
	var o store.InvalidateOptions
	for _, opt := range opts {
		if opt == nil {
			return nil, errors.New("an invalidation option that the caller gave is nil")
		}
		opt(&o)
	}
	return o.Tags, nil
}

// settings applies the options of a call after the store's defaults.
func (s *Store) settings(opts []store.Option) (settings, error) {
	o := s.defaults
	if err := apply(&o, opts); err != nil {
		return settings{}, err
	}
	ttl, err := wholeMilliseconds(o.Expiration)
	if err != nil {
		return settings{}, fmt.Errorf("WithExpiration: %w", err)
	}
	if o.TagsTTL < 0 && o.TagsTTL != noExpiry { // 0 does not mean that the tags never expire
		return settings{}, errors.New("WithTagsTTL: the duration is negative")
	}
	tagsTTL, err := wholeMilliseconds(o.TagsTTL)
	if err != nil {
		return settings{}, fmt.Errorf("WithTagsTTL: %w", err)
	}
	switch {
	case tagsTTL > 0:
		tagsTTL = max(tagsTTL, ttl)
	case ttl > 0:
		tagsTTL = max(defaultTagsTTL, ttl)
	}
	return settings{ttl: ttl, tags: o.Tags, tagsTTL: tagsTTL}, nil
}

// noExpiry is the TTL that go-redis reports for an entry without expiry. gocache's Chain passes it on as an expiration.
const noExpiry time.Duration = -1

// wholeMilliseconds rounds up, so that no positive duration becomes 0, which would mean no expiry.
func wholeMilliseconds(d time.Duration) (time.Duration, error) {
	switch {
	case d == 0 || d == noExpiry:
		return 0, nil
	case d < 0:
		return 0, errors.New("the expiration is negative (use 0 for no expiration)")
	}
	if rest := d % time.Millisecond; rest != 0 {
		d += time.Millisecond - rest
		if d < 0 { // past the last duration there is
			return 0, errors.New("the expiration is too long to round up to milliseconds (use a shorter one)")
		}
	}
	return d, nil
}

func keyName(key any) (string, error) {
	name, ok := key.(string)
	if !ok {
		return "", fmt.Errorf("the cache key has the type %T and is not a string", key)
	}
	return name, nil
}

// argument checks that go-redis can send a value before it writes a part of the command. The cases are those of its
// proto.Writer.WriteArg, in the same order.
func argument(value any) (any, error) {
	switch v := value.(type) {
	case nil, []byte, string, *string, bool, *bool,
		int, *int, int8, *int8, int16, *int16, int32, *int32, int64, *int64,
		uint, *uint, uint8, *uint8, uint16, *uint16, uint32, *uint32, uint64, *uint64, uintptr, *uintptr,
		float32, *float32, float64, *float64,
		time.Time, *time.Time, time.Duration, *time.Duration:
		return value, nil
	case encoding.BinaryMarshaler:
		b, err := v.MarshalBinary()
		if err != nil {
			return nil, &marshalError{kind: fmt.Sprintf("%T", value), cause: err}
		}
		return b, nil
	case net.IP:
		return value, nil
	default:
		return nil, fmt.Errorf("values of type %T are not supported (use []byte, string or a BinaryMarshaler)", value)
	}
}
