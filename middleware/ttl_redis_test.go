package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
)

func TestTTLsOverRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	for name, backing := range overBoth(t, server) {
		s := sealed(t, backing, envelope(t), middleware.WithNamespace("ttl"))
		ours := name == "redisstore"
		set := func(ttl time.Duration) error {
			require.NoError(t, admin.Del(t.Context(), "ttl:k").Err())
			return s.Set(t.Context(), "k", "value", store.WithExpiration(ttl))
		}
		for _, ttl := range []time.Duration{0, -1} { // go-redis reports -1 ns for "no expiry", and Chain passes it on
			require.NoError(t, set(ttl))
			require.Equal(t, time.Duration(-1), admin.PTTL(t.Context(), "ttl:k").Val(), "%s: no expiry", name)
			_, left, err := s.GetWithTTL(t.Context(), "k")
			require.NoError(t, err)
			require.Zero(t, left, "%s: no expiry", name)
		}
		for _, ttl := range []time.Duration{-2, -time.Millisecond, -time.Second, -time.Hour, -1 << 63} {
			require.ErrorContains(t, set(ttl), "negative", "%s: %v", name, ttl)
			written, err := s.SetIfNotExists(t.Context(), "k", "value", store.WithExpiration(ttl))
			require.ErrorContains(t, err, "negative")
			require.False(t, written)
			require.Zero(t, admin.Exists(t.Context(), "ttl:k").Val(), "%s: an entry that has expired is not stored forever", name)
		}
		for _, ttl := range []time.Duration{1, 500 * time.Nanosecond, time.Microsecond, 999 * time.Microsecond, time.Millisecond, 1500 * time.Microsecond, 20 * time.Millisecond, 499 * time.Millisecond, 700 * time.Millisecond} {
			require.NoError(t, set(ttl), "%s: %v", name, ttl)
			if left := admin.PTTL(t.Context(), "ttl:k").Val(); left != -2 {
				require.LessOrEqual(t, left, ttl+time.Millisecond, "%s: %v", name, ttl)
				require.GreaterOrEqual(t, left, time.Duration(0), "%s: %v: never forever", name, ttl)
			}
			_, left, err := s.GetWithTTL(t.Context(), "k")
			if errors.Is(err, store.NotFound{}) {
				continue // the entry ended before it was read
			}
			require.NoError(t, err)
			require.Positive(t, left, "%s: %v: an expiry is not reported as none", name, ttl)
			if ours {
				require.LessOrEqual(t, left, ttl+time.Millisecond)
			} else {
				require.LessOrEqual(t, left, time.Second, "in whole seconds")
			}
		}
		require.NoError(t, set(90*time.Second))
		_, left, err := s.GetWithTTL(t.Context(), "k")
		require.NoError(t, err)
		require.InDelta(t, 90*time.Second, left, float64(patience))

		// A TTL under a second ends the entry.
		require.NoError(t, set(30*time.Millisecond))
		eventually(t, name+": expiry", func(ctx context.Context) error {
			if _, err := s.Get(ctx, "k"); !errors.Is(err, store.NotFound{}) {
				return fmt.Errorf("still there: %w", err)
			}
			return nil
		})
	}

	// Sealing a plaintext entry keeps its expiry to the millisecond, or its absence.
	s := sealed(t, overRedis(t, server), envelope(t), middleware.WithPlaintext(middleware.SealOnRead))
	for key, ttl := range map[string]time.Duration{"some": 1234567 * time.Millisecond, "none": 0} {
		require.NoError(t, admin.Set(t.Context(), key, "clear", ttl).Err())
		_, err := s.Get(t.Context(), key)
		require.NoError(t, err)
		stored, err := admin.Get(t.Context(), key).Bytes()
		require.NoError(t, err)
		_, err = middleware.Inspect(stored)
		require.NoError(t, err, "sealed in place")
		left := admin.PTTL(t.Context(), key).Val()
		if ttl == 0 {
			require.Equal(t, time.Duration(-1), left)
		} else {
			require.InDelta(t, ttl, left, float64(patience))
		}
	}
}

// An application changes an entry that another program gave an expiry of more than 292 years. A Duration cannot hold it.
func TestSealedEndOfMoreThan292Years(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx, admin := t.Context(), server.Client(t)
	s := sealed(t, overRedis(t, server), envelope(t), middleware.WithNamespace("ttl"), middleware.WithAuthenticatedExpiry())
	const longest = math.MaxInt64 / int64(time.Millisecond)
	for _, pttl := range []int64{longest + 1e6, 2*longest + 60_000, 1 << 50} {
		require.NoError(t, s.Set(ctx, "n", int64(1)))
		require.NoError(t, admin.Do(ctx, "pexpire", "ttl:n", pttl).Err())
		n, err := s.Increment(ctx, "n", 1)
		require.NoError(t, err)
		require.EqualValues(t, 2, n)
		require.NoError(t, s.Update(ctx, "n", func(any, bool) (any, error) { return int64(3), nil }))
		v, left, err := s.GetWithTTL(ctx, "n")
		require.NoError(t, err, pttl)
		require.EqualValues(t, 3, v)
		require.Greater(t, left, 292*365*24*time.Hour, pttl)
	}
}
