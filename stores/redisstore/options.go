package redisstore

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/stores/internal/storeargs"
)

// defaultTagsTTL is how long gocache's Redis store keeps a tag's set.
const defaultTagsTTL = 720 * time.Hour

// settings are the options of one call, checked.
type settings struct {
	ttl     time.Duration // whole milliseconds, 0 for none
	tags    []string
	tagsTTL time.Duration // at least ttl, whole milliseconds, 0 for no expiry
}

// settings applies the options of a call for some entries after the store's defaults.
func (s *Store) settings(opts []store.Option, keys ...string) (settings, error) {
	o := s.defaults
	if err := storeargs.Apply(&o, opts); err != nil {
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
	all := settings{ttl: ttl, tags: o.Tags, tagsTTL: tagsTTL}
	for _, key := range keys {
		if err := all.checkKey(key); err != nil {
			return settings{}, err
		}
	}
	return all, nil
}

// checkKey returns an error for a key that cannot have the tags.
func (o settings) checkKey(key string) error {
	if len(o.tags) > 0 && len(key) > maxTaggedKey {
		return fmt.Errorf("the key has %d bytes, but a key with tags has at most %d", len(key), maxTaggedKey)
	}
	return nil
}

// noExpiry is the TTL that go-redis reports for an entry without expiry. gocache's Chain passes it on as an expiration.
const noExpiry time.Duration = -1

// wholeMilliseconds rounds up, so that no positive duration becomes 0, which would mean no expiry. The longest durations, such as
// math.MaxInt64 for "forever", have no next millisecond, and are rounded down.
func wholeMilliseconds(d time.Duration) (time.Duration, error) {
	switch {
	case d == 0 || d == noExpiry:
		return 0, nil
	case d < 0:
		return 0, errors.New("the expiration is negative (use 0 for no expiration)")
	}
	return (min(d, math.MaxInt64-time.Millisecond) + time.Millisecond - 1).Truncate(time.Millisecond), nil
}

// arguments returns the name and the value of an entry as go-redis can send them.
func arguments(key, value any) (name string, arg any, err error) {
	if name, err = storeargs.Key(key); err == nil {
		arg, err = argument(value)
	}
	return name, arg, err
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
		return storeargs.Marshal(v)
	case net.IP:
		return value, nil
	default:
		return nil, storeargs.Unsupported(value)
	}
}
