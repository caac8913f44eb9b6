package middleware

import (
	"errors"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// errExpired is the cause of a miss for a value past its sealed end.
var errExpired = errors.New("sealcache: the value has expired (the expiry time is sealed in it)")

// WithAuthenticatedExpiry seals the expiry of each value together with the value.
// After this end a value is a miss, even if an attacker removed the TTL in the
// backing store or restored a dump. SetIfNotExists treats it as absent. The end
// comes from the options of Set, from WithDefaults, or from the defaults of a
// backing store that is a Defaulter. Readers obey a sealed end with or without this
// option, with a tolerance of 5 seconds for clocks that differ. SetIfNotExists of a
// Store without this option finds the key taken by such a value, so all processes
// need the option.
//
// A value that is set without expiration has no sealed end. A value that was sealed before the option was on has none
// either, so an attacker with a copy can restore it. A new namespace excludes such values.
func WithAuthenticatedExpiry() Option {
	return func(c *config) error {
		c.forStore("WithAuthenticatedExpiry")
		c.sealExpiry = true
		return nil
	}
}

// endOf returns the end that a value is sealed with if it lives for ttl from now on, or the zero time for none. A ttl of
// 0 means no expiry.
func (s *Store) endOf(ttl time.Duration) time.Time {
	if !s.cfg.sealExpiry || ttl <= 0 {
		return time.Time{}
	}
	return s.cfg.now().Add(ttl)
}

// unixMilli returns the end as the header has it, rounded up, and 0 for the zero time.
func unixMilli(end time.Time) int64 {
	if end.IsZero() {
		return 0
	}
	return max(end.Add(time.Millisecond-1).UnixMilli(), 1)
}

// endIn returns the sealed end in a header, or the zero time.
func endIn(h wire.Header) time.Time {
	if h.Flags&wire.Expires == 0 {
		return time.Time{}
	}
	return time.UnixMilli(h.End)
}

// expired returns a miss if the end in an authenticated header has passed.
func expired(h wire.Header, now func() time.Time) error {
	if h.Expired(now()) {
		return store.NotFoundWithCause(errExpired)
	}
	return nil
}

// timeLeft returns the shorter of the TTL that the backing store reports and the time to the sealed end. 0 means no
// expiry.
func timeLeft(ttl time.Duration, end time.Time, now func() time.Time) time.Duration {
	if end.IsZero() {
		return ttl
	}
	left := max(end.Sub(now()), time.Millisecond) // within the tolerance
	if ttl == 0 || left < ttl {
		return left
	}
	return ttl
}
