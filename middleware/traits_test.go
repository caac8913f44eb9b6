package middleware

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An expiration that a store cannot hold becomes the longest one that it can, and never one in the past.
func TestLongExpirations(t *testing.T) {
	t.Parallel()
	const month, year = 30 * 24 * time.Hour, 365 * 24 * time.Hour
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	after2038 := time.Unix(math.MaxInt32, 0).Add(-time.Hour)
	last := math.MaxInt32 * time.Second
	before2106 := time.Unix(math.MaxUint32, 0).Add(-time.Hour)
	left := math.MaxUint32*time.Second - time.Duration(now.UnixNano())
	for _, c := range []struct {
		store string
		now   time.Time
		given time.Duration
		want  time.Duration
	}{
		{"memcache", now, time.Millisecond, time.Second},
		{"memcache", now, month, month},
		{"memcache", now, year, time.Duration(now.Add(year).Unix()) * time.Second},
		{"memcache", now, 20 * year, last},
		{"memcache", now, math.MaxInt64, last},
		{"memcache", after2038, math.MaxInt64, month},
		{"freecache", now, year, year},
		{"freecache", now, 20 * year, 20 * year},
		{"freecache", now, math.MaxInt64, left},
		{"freecache", before2106, month, time.Hour},
		{"freecache", before2106.Add(year), month, month},
		{"freecache", now, 0, 0},
		{"rueidis", now, 20*year - 1, 20 * year},
		{"rueidis", now, math.MaxInt64, time.Duration(math.MaxInt64).Truncate(time.Second)},
		{"go_cache", now, math.MaxInt64, math.MaxInt64},
	} {
		calls := 0
		got := traitsOf(c.store).expiration(c.given, func() time.Time {
			calls++
			return c.now
		})
		require.LessOrEqual(t, calls, 1, "two times may differ: %s: %v at %v", c.store, c.given, c.now)
		require.Equal(t, c.want, got, "%s: %v at %v", c.store, c.given, c.now)
	}
}
