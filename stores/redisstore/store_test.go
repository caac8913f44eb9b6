package redisstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/stores/redisstore"
)

type text struct{ s string }

func (v text) MarshalBinary() ([]byte, error) {
	if v.s == "secret" {
		return nil, errors.New("cannot marshal " + v.s)
	}
	return []byte("text:" + v.s), nil
}

// Set accepts the values that gocache's Redis store accepts. Get returns the bytes that Redis holds.
func TestSetAcceptsTheValuesOfGocache(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		at := time.Date(2026, 11, 23, 1, 2, 3, 4, time.UTC)
		n := 7
		for i, c := range []struct {
			value any
			want  string
		}{
			{nil, ""},
			{"text", "text"},
			{[]byte{0, 1, 0xff}, "\x00\x01\xff"},
			{[]byte{}, ""},
			{true, "1"},
			{false, "0"},
			{42, "42"},
			{int64(math.MinInt64), "-9223372036854775808"},
			{uint64(math.MaxUint64), "18446744073709551615"},
			{1.5, "1.5"},
			{&n, "7"},
			{at, "2026-11-23T01:02:03.000000004Z"},
			{time.Second, "1000000000"},
			{text{"x"}, "text:x"},
		} {
			for _, opts := range [][]store.Option{nil, {store.WithTags([]string{p + "tag"})}} {
				key := fmt.Sprint(p, i)
				require.NoError(t, s.Set(t.Context(), key, c.value, opts...), "%T", c.value)
				got, err := s.Get(t.Context(), key)
				require.NoError(t, err)
				require.IsType(t, []byte{}, got)
				require.Equal(t, []byte(c.want), got, "%T", c.value)
				raw, err := rdb.Get(t.Context(), key).Result()
				require.NoError(t, err)
				require.Equal(t, c.want, raw)
			}
		}
		for _, v := range []any{struct{ A string }{"secret"}, []string{"secret"}, map[string]string{}, make(chan int), text{"secret"}} {
			err := s.Set(t.Context(), p+"bad", v)
			require.ErrorContains(t, err, fmt.Sprintf("%T", v))
			require.NotContains(t, err.Error(), "secret")
			_, err = s.Get(t.Context(), p+"bad")
			require.ErrorIs(t, err, &store.NotFound{})
		}
	})
}

func TestKeysOfOtherTypesAreErrors(t *testing.T) {
	t.Parallel()
	s, ctx := newStore(t, shared.Single.Client(t)), t.Context()
	for _, key := range []any{nil, 1, []byte("k"), struct{}{}} {
		_, err := s.Get(ctx, key)
		require.ErrorContains(t, err, "not a string")
		_, _, err = s.GetWithTTL(ctx, key)
		require.ErrorContains(t, err, "not a string")
		require.ErrorContains(t, s.Set(ctx, key, "v"), "not a string")
		_, err = s.SetIfNotExists(ctx, key, "v")
		require.ErrorContains(t, err, "not a string")
		require.ErrorContains(t, s.Delete(ctx, key), "not a string")
	}
}

func TestMissIsNotFound(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, _ redis.UniversalClient, p string) {
		ctx := t.Context()
		_, err := s.Get(ctx, p+"none")
		require.ErrorIs(t, err, &store.NotFound{})
		require.ErrorIs(t, err, redis.Nil)
		_, _, err = s.GetWithTTL(ctx, p+"none")
		require.ErrorIs(t, err, &store.NotFound{})
		_, err = s.GetBytes(ctx, p+"none")
		require.ErrorIs(t, err, &store.NotFound{})
		_, _, err = s.GetBytesWithTTL(ctx, p+"none")
		require.ErrorIs(t, err, &store.NotFound{})
		require.NoError(t, s.Delete(ctx, p+"none"))
	})
}

// The caller owns the returned bytes: changing them changes nothing else.
func TestReturnedBytesAreTheCallersOwn(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, _ redis.UniversalClient, p string) {
		ctx := t.Context()
		for _, size := range []int{0, 1, 100, 100_000} {
			value := bytes.Repeat([]byte("x"), size)
			given := bytes.Clone(value)
			require.NoError(t, s.SetBytes(ctx, p+"k", given))
			for i := range given {
				given[i] = 'y' // Set does not keep the slice
			}
			a, err := s.GetBytes(ctx, p+"k")
			require.NoError(t, err)
			require.NotNil(t, a)
			b, ttl, err := s.GetBytesWithTTL(ctx, p+"k")
			require.NoError(t, err)
			require.Zero(t, ttl)
			require.Equal(t, value, a)
			require.Equal(t, value, b)
			for i := range a {
				a[i] = 'z'
			}
			again, err := s.GetBytes(ctx, p+"k")
			require.NoError(t, err)
			require.Equal(t, value, b)
			require.Equal(t, value, again)
		}
	})
}

func TestReturnedBytesAreTheCallersOwnUnderClientSideCaching(t *testing.T) {
	t.Parallel()
	opts := shared.Single.ClientOptions()
	opts.ClientSideCacheConfig = &redis.ClientSideCacheConfig{}
	rdb := redis.NewClient(opts)
	defer func() { require.NoError(t, rdb.Close()) }()
	s, key := newStore(t, rdb), t.Name()
	require.NoError(t, s.Set(t.Context(), key, "value"))
	for range 5 {
		b, err := s.GetBytes(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, "value", string(b))
		clear(b)
	}
}

func TestTTLs(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx := t.Context()
		for _, tags := range []store.Option{store.WithTags(nil), store.WithTags([]string{p + "tag"})} {
			for _, c := range []struct{ given, low, high time.Duration }{
				{0, 0, 0},
				{-1, 0, 0}, // -1 means no expiry in Redis, and gocache's Chain passes it on
				{time.Hour + 500*time.Millisecond, time.Hour + 500*time.Millisecond, time.Hour + 500*time.Millisecond},
				{time.Hour, time.Hour, time.Hour},
				{time.Hour + time.Nanosecond, time.Hour, time.Hour + time.Millisecond},
			} {
				began := time.Now()
				require.NoError(t, s.Set(ctx, p+"k", "v", store.WithExpiration(c.given), tags))
				v, ttl, err := s.GetWithTTL(ctx, p+"k")
				require.NoError(t, err)
				require.Equal(t, []byte("v"), v)
				elapsed := time.Since(began)
				require.GreaterOrEqual(t, ttl, c.low-elapsed-time.Millisecond, "%v, after %v", c.given, elapsed)
				require.LessOrEqual(t, ttl, c.high, "%v", c.given)
				_, err = s.GetBytes(ctx, p+"k")
				require.NoError(t, err)
				pttl, err := rdb.PTTL(ctx, p+"k").Result()
				require.NoError(t, err)
				require.Equal(t, c.high == 0, pttl == -1)
			}
			// A nanosecond becomes a millisecond, not "no expiry".
			require.NoError(t, s.Set(ctx, p+"short", "v", store.WithExpiration(time.Nanosecond), tags))
			require.Eventually(t, func() bool {
				_, err := s.Get(ctx, p+"short")
				return errors.Is(err, &store.NotFound{})
			}, 2*time.Minute, time.Millisecond)

			for _, d := range []time.Duration{-2, -time.Millisecond, -time.Hour, math.MinInt64} {
				err := s.Set(ctx, p+"bad", "v", store.WithExpiration(d), tags)
				require.Error(t, err, "%v", d)
				_, err = s.SetIfNotExists(ctx, p+"bad", "v", store.WithExpiration(d), tags)
				require.Error(t, err, "%v", d)
				_, err = s.Get(ctx, p+"bad")
				require.ErrorIs(t, err, &store.NotFound{})
			}
		}
	})
}

// Redis stores expiries that a Duration cannot hold. They are not reported as a short time, or as none.
func TestTTLOfMoreThan292Years(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx, key := t.Context(), p+"k"
		const longest = math.MaxInt64 / int64(time.Millisecond)
		for _, pttl := range []int64{longest + 1e6, 2*longest + 60_000, 1 << 50, 1 << 53} {
			require.NoError(t, rdb.Do(ctx, "set", key, "v", "px", pttl).Err())
			_, ttl, err := s.GetBytesWithTTL(ctx, key) // in a transaction
			require.NoError(t, err)
			require.Equal(t, time.Duration(longest)*time.Millisecond, ttl, pttl)
			_, ttl, err = s.GetBytesToSwap(ctx, key, 10) // in a script
			require.NoError(t, err)
			require.Equal(t, time.Duration(longest)*time.Millisecond, ttl, pttl)
			require.NoError(t, s.Set(ctx, key, "v", store.WithExpiration(ttl)))
		}
	})
}

// A TTL under a millisecond is not reported as 0, which means "no expiry".
func TestTTLOfAnExpiringEntryIsNeverZero(t *testing.T) {
	t.Parallel()
	s, ctx, key := newStore(t, shared.Single.Client(t)), t.Context(), t.Name()
	require.NoError(t, s.Set(ctx, key, "v", store.WithExpiration(30*time.Millisecond)))
	for {
		_, ttl, err := s.GetBytesWithTTL(ctx, key)
		if errors.Is(err, &store.NotFound{}) {
			return
		}
		require.NoError(t, err)
		require.Positive(t, ttl)
	}
}

func TestSetWithoutExpirationRemovesTheTTL(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, _ redis.UniversalClient, p string) {
		require.NoError(t, s.Set(t.Context(), p+"k", "v", store.WithExpiration(time.Hour)))
		require.NoError(t, s.Set(t.Context(), p+"k", "v"))
		_, ttl, err := s.GetWithTTL(t.Context(), p+"k")
		require.NoError(t, err)
		require.Zero(t, ttl)
	})
}

func TestDefaultsComeFirst(t *testing.T) {
	t.Parallel()
	s := newStore(t, shared.Single.Client(t), store.WithExpiration(time.Hour), store.WithTags([]string{t.Name()}))
	require.NoError(t, s.Set(t.Context(), t.Name()+"1", "v"))
	require.NoError(t, s.Set(t.Context(), t.Name()+"2", "v", store.WithExpiration(time.Minute)))
	_, ttl, err := s.GetWithTTL(t.Context(), t.Name()+"1")
	require.NoError(t, err)
	require.Greater(t, ttl, time.Minute)
	_, ttl, err = s.GetWithTTL(t.Context(), t.Name()+"2")
	require.NoError(t, err)
	require.LessOrEqual(t, ttl, time.Minute)
	require.NoError(t, s.Invalidate(t.Context(), store.WithInvalidateTags([]string{t.Name()})))
	_, err = s.Get(t.Context(), t.Name()+"2")
	require.ErrorIs(t, err, &store.NotFound{})
}

func TestSetIfNotExists(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, _ redis.UniversalClient, p string) {
		ctx := t.Context()
		for _, tags := range []store.Option{store.WithTags(nil), store.WithTags([]string{p + "tag"})} {
			key := p + "k"
			require.NoError(t, s.Delete(ctx, key))
			written, err := s.SetIfNotExists(ctx, key, "first", store.WithExpiration(time.Hour), tags)
			require.NoError(t, err)
			require.True(t, written)
			written, err = s.SetIfNotExists(ctx, key, "second", tags)
			require.NoError(t, err)
			require.False(t, written)
			b, ttl, err := s.GetBytesWithTTL(ctx, key)
			require.NoError(t, err)
			require.Equal(t, "first", string(b))
			require.Greater(t, ttl, 59*time.Minute)
		}
		require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{p + "tag"})))
		_, err := s.Get(ctx, p+"k")
		require.ErrorIs(t, err, &store.NotFound{})

		// SetIfNotExists adds no tags if the entry exists.
		require.NoError(t, s.Set(ctx, p+"other", "v"))
		_, err = s.SetIfNotExists(ctx, p+"other", "w", store.WithTags([]string{p + "tag"}))
		require.NoError(t, err)
		require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{p + "tag"})))
		_, err = s.Get(ctx, p+"other")
		require.NoError(t, err)
	})
}

func TestNamesOfAnyBytes(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, _ redis.UniversalClient, p string) {
		ctx := t.Context()
		names := []string{
			"\x00", "\r\n", "\xff\xfe", "a b", "*", "?", "[", "]", `\`, "{}", "{", "}x{", "é", "🗝",
			strings.Repeat("long", 250_000), // 1 MB
		}
		for i, name := range names {
			key := p + name
			value := fmt.Sprint("value", i)
			require.NoError(t, s.Set(ctx, key, value, store.WithTags([]string{p + name})))
			b, _, err := s.GetBytesWithTTL(ctx, key)
			require.NoError(t, err)
			require.Equal(t, value, string(b))
			swapped, err := s.CompareAndSwap(ctx, key, b, 0, []byte("new"), -1)
			require.NoError(t, err)
			require.True(t, swapped)
		}
		for _, name := range names {
			require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{p + name})))
			_, err := s.Get(ctx, p+name)
			require.ErrorIs(t, err, &store.NotFound{}, "%.20q", name)
		}
	})
}

func TestEmptyKey(t *testing.T) {
	t.Parallel() // no other test uses the empty key of this database
	opts := shared.Single.ClientOptions()
	opts.DB = 199
	single := redis.NewClient(opts)
	t.Cleanup(func() { _ = single.Close() })
	for name, rdb := range map[string]redis.UniversalClient{"single": single, "cluster": shared.Cluster.Client(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, ctx := newStore(t, rdb), t.Context()
			_, _, err := s.GetBytesWithTTL(ctx, "")
			require.ErrorIs(t, err, &store.NotFound{})
			require.NoError(t, s.Set(ctx, "", "v"))
			for range 20 { // go-redis selects a random node for the empty key
				b, ttl, err := s.GetBytesWithTTL(ctx, "")
				require.NoError(t, err)
				require.Equal(t, "v", string(b))
				require.Zero(t, ttl)
				b, err = s.GetBytes(ctx, "")
				require.NoError(t, err)
				require.Equal(t, "v", string(b))
			}
			require.NoError(t, s.Set(ctx, "", "w", store.WithExpiration(time.Hour), store.WithTags([]string{"", name})))
			_, ttl, err := s.GetBytesWithTTL(ctx, "")
			require.NoError(t, err)
			require.Greater(t, ttl, 59*time.Minute)
			swapped, err := s.CompareAndSwap(ctx, "", []byte("w"), 0, []byte("x"), -1)
			require.NoError(t, err)
			require.True(t, swapped)
			written, err := s.SetIfNotExists(ctx, "", "y")
			require.NoError(t, err)
			require.False(t, written)
			require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{""})))
			_, err = s.Get(ctx, "")
			require.ErrorIs(t, err, &store.NotFound{})
		})
	}
}

func TestLargeValue(t *testing.T) {
	t.Parallel()
	s, ctx, key := newStore(t, shared.Single.Client(t)), t.Context(), t.Name()
	value := bytes.Repeat([]byte("0123456789abcdef"), 4<<20) // 64 MiB
	require.NoError(t, s.SetBytes(ctx, key, value))
	b, err := s.GetBytes(ctx, key)
	require.NoError(t, err)
	require.True(t, bytes.Equal(value, b))
	b, _, err = s.GetBytesWithTTL(ctx, key)
	require.NoError(t, err)
	require.True(t, bytes.Equal(value, b))
	swapped, err := s.CompareAndSwap(ctx, key, b, 16, []byte("small"), -1)
	require.NoError(t, err)
	require.True(t, swapped)
	require.NoError(t, s.Delete(ctx, key))
}

func TestUnderGocache(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, _ redis.UniversalClient, p string) {
		ctx := t.Context()
		b := cache.New[[]byte](s)
		require.NoError(t, b.Set(ctx, p+"k", []byte("v")))
		got, err := b.Get(ctx, p+"k")
		require.NoError(t, err)
		require.Equal(t, "v", string(got))
		_, err = b.Get(ctx, p+"none")
		require.ErrorIs(t, err, &store.NotFound{})
		require.Equal(t, "redis", s.GetType())
	})
}

func TestStoreShowsNothing(t *testing.T) {
	t.Parallel()
	s := open(t, "redis://user:hunter2@127.0.0.1:1/0?expiration=1m")
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("opened", "store", s)
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), log.String()} {
		require.NotContains(t, text, "hunter2")
		require.Contains(t, text, "redisstore.Store")
	}
}

func TestContextEndsACall(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, _ redis.UniversalClient, p string) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Get(ctx, p)
		require.ErrorIs(t, err, context.Canceled)
		_, _, err = s.GetWithTTL(ctx, p)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, s.Set(ctx, p, "v"), context.Canceled)
		require.ErrorIs(t, s.Set(ctx, p, "v", store.WithTags([]string{p})), context.Canceled)
		_, err = s.SetIfNotExists(ctx, p, "v")
		require.ErrorIs(t, err, context.Canceled)
		_, err = s.CompareAndSwap(ctx, p, nil, 0, nil, 0)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, s.Delete(ctx, p), context.Canceled)
		require.ErrorIs(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{p})), context.Canceled)
		require.ErrorIs(t, s.ClearPrefix(ctx, p), context.Canceled)
		require.ErrorIs(t, s.Clear(ctx), context.Canceled)
		require.ErrorIs(t, s.Ping(ctx), context.Canceled)
		n := 0
		for _, err := range s.Keys(ctx, p) {
			require.ErrorIs(t, err, context.Canceled)
			n++
		}
		require.Equal(t, 1, n)
	})
}
