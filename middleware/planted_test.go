package middleware_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// The predecessor stored integers as plaintext, and accepted any digits that an attacker planted.
func TestPlantedPlaintextOverRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	attacker := server.Client(t)
	for name, backing := range overBoth(t, server) {
		s := sealed(t, backing, envelope(t))
		numbers := cache.New[int64](s)
		forgiving := sealed(t, backing, envelope(t), middleware.WithMissOnOpenFailure())
		const key = "balance"
		refused := func(what string) {
			t.Helper()
			_, err := s.Get(t.Context(), key)
			require.ErrorIs(t, err, middleware.ErrNotSealed, "%s: %s", name, what)
			_, _, err = s.GetWithTTL(t.Context(), key)
			require.ErrorIs(t, err, middleware.ErrNotSealed, "%s: %s", name, what)
			n, err := numbers.Get(t.Context(), key)
			require.ErrorIs(t, err, middleware.ErrNotSealed, "%s: %s", name, what)
			require.Zero(t, n)
			written, err := s.SetIfNotExists(t.Context(), key, int64(1))
			require.NoError(t, err)
			require.False(t, written, "a planted value is there, and stays until it is looked at")
			_, err = forgiving.Get(t.Context(), key)
			require.ErrorIs(t, err, store.NotFound{}, "%s: %s", name, what)
			require.ErrorIs(t, err, middleware.ErrNotSealed)
		}

		require.NoError(t, attacker.Del(t.Context(), key).Err())
		require.NoError(t, attacker.Incr(t.Context(), key).Err())
		refused("INCR of an absent key")
		require.NoError(t, attacker.IncrByFloat(t.Context(), key, 0.5).Err())
		refused("INCRBYFLOAT")
		for _, digits := range []string{"0", "1", "-1", "42", fmt.Sprint(math.MaxInt64), "1e6", "true", "", " 7", "007", "\x00\x00\x00\x00\x00\x00\x00\x2a"} {
			require.NoError(t, attacker.Set(t.Context(), key, digits, 0).Err())
			refused("SET " + digits)
		}
		require.NoError(t, attacker.SetBit(t.Context(), key, 7, 1).Err())
		refused("SETBIT")

		// Commands that count or append on a sealed number fail or destroy it. They never make another number.
		require.NoError(t, numbers.Set(t.Context(), key, 1000))
		require.Error(t, attacker.Incr(t.Context(), key).Err(), "Redis finds no integer to count")
		n, err := numbers.Get(t.Context(), key)
		require.NoError(t, err)
		require.EqualValues(t, 1000, n)
		for what, tamper := range map[string]func() error{
			"APPEND":   func() error { return attacker.Append(t.Context(), key, "0").Err() },
			"SETRANGE": func() error { return attacker.SetRange(t.Context(), key, 20, "1").Err() },
			"SETBIT":   func() error { return attacker.Do(t.Context(), "bitfield", key, "incrby", "u8", "#30", "1").Err() },
			"GETRANGE": func() error {
				b := attacker.GetRange(t.Context(), key, 0, -2).Val()
				return attacker.Set(t.Context(), key, b, 0).Err()
			},
			"COPY from another key": func() error {
				require.NoError(t, numbers.Set(t.Context(), "other", 1_000_000))
				return attacker.Copy(t.Context(), "other", key, 0, true).Err()
			},
			"RENAME": func() error {
				require.NoError(t, numbers.Set(t.Context(), "other", 1_000_000))
				return attacker.Rename(t.Context(), "other", key).Err()
			},
		} {
			require.NoError(t, numbers.Set(t.Context(), key, 1000))
			require.NoError(t, tamper(), what)
			n, err := numbers.Get(t.Context(), key)
			require.Zero(t, n, "%s: %s", name, what)
			require.ErrorIs(t, err, middleware.ErrUnauthentic, "%s: %s", name, what)
		}

		// A planted list is refused in the place of a list value, too.
		require.NoError(t, attacker.Del(t.Context(), key).Err())
		require.NoError(t, attacker.RPush(t.Context(), key, "42").Err())
		n, err = numbers.Get(t.Context(), key)
		require.Zero(t, n)
		require.True(t, replied("WRONGTYPE")(err), "%v", err)
		require.NoError(t, attacker.Del(t.Context(), key, "other").Err())
	}
}

// Planted values have the header of a sealed value and other bytes after it.
func TestPlantedHeadersOverRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	attacker := server.Client(t)
	for name, backing := range overBoth(t, server) {
		s := sealed(t, backing, envelope(t))
		require.NoError(t, s.Set(t.Context(), "k", "value"))
		stored, err := attacker.Get(t.Context(), "k").Bytes()
		require.NoError(t, err)
		for n := range len(stored) {
			for _, tail := range []string{"", "42", strings.Repeat("\x00", 100), strings.Repeat("\xff", 5000)} {
				require.NoError(t, attacker.Set(t.Context(), "k", string(stored[:n])+tail, 0).Err())
				v, err := s.Get(t.Context(), "k")
				require.Nil(t, v, "%s: %d bytes and %q", name, n, tail)
				require.False(t, err == nil || errors.Is(err, store.NotFound{}))
				oneOf(t, err, middleware.ErrNotSealed, middleware.ErrUnauthentic, middleware.ErrUnsupportedFormat, middleware.ErrUnknownKey,
					middleware.ErrKeyServiceUnavailable) // the last error comes when the gate has refused too many unknown data keys
			}
		}
	}
}

// An attacker who can write only to the set of a tag cannot make the application
// delete entries outside its namespace.
func TestPlantedTagMembersAreLeftAlone(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	backing, err := redisstore.New(client)
	require.NoError(t, err)
	a := keyring(t)
	s := sealed(t, backing, a, middleware.WithNamespace("shop"))
	require.NoError(t, s.Set(t.Context(), "k", "v", store.WithTags([]string{"t"})))
	require.NoError(t, client.RPush(t.Context(), "asynq:{default}:pending", "a job").Err())
	require.NoError(t, client.Set(t.Context(), "bank:balance", "1", 0).Err())
	require.NoError(t, client.SAdd(t.Context(), "gocache_tag_shop:t", "asynq:{default}:pending", "bank:balance").Err())
	require.NoError(t, s.Invalidate(t.Context(), store.WithInvalidateTags([]string{"t"})))
	_, err = s.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.NotFound{})
	n, err := client.Exists(t.Context(), "asynq:{default}:pending", "bank:balance").Result()
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
}
