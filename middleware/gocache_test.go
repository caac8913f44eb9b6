package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/codec"
	"github.com/eko/gocache/lib/v4/marshaler"
	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// levels are a sealed memory in front of a sealed Redis, as in an application.
type levels struct {
	near, far *middleware.Store
	memory    *memorystore.Store
	server    *redistest.Server
}

// overLevels runs f with each of the two stores over Redis as the far level.
func overLevels(t *testing.T, f func(t *testing.T, l levels)) {
	t.Helper()
	for _, name := range []string{"redisstore", "gocache redis"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := levels{memory: memory(t), server: redistest.Start(t)}
			keys := envelope(t)
			l.near = sealed(t, l.memory, keys, middleware.WithNamespace("app"))
			l.far = sealed(t, overBoth(t, l.server)[name], keys, middleware.WithNamespace("app"))
			f(t, l)
		})
	}
}

// A Chain passes the TTL of the far level to the near one. No expiry stays no expiry, and a short TTL stays short.
func TestChainOverSealedLevels(t *testing.T) {
	t.Parallel()
	overLevels(t, func(t *testing.T, l levels) {
		t.Helper()
		for name, c := range map[string]struct{ ttl, least, most time.Duration }{
			"none":     {0, 0, 0},
			"an hour":  {time.Hour, 59 * time.Minute, time.Hour},
			"a minute": {time.Minute, time.Second, time.Minute},
		} {
			chain := cache.NewChain[string](cache.New[string](l.near), cache.New[string](l.far))
			key := "chain/" + name
			require.NoError(t, l.far.Set(t.Context(), key, "value", store.WithExpiration(c.ttl)))
			v, err := chain.Get(t.Context(), key)
			require.NoError(t, err)
			require.Equal(t, "value", v)
			require.NoError(t, chain.Close()) // waits for the writes to the near level
			v2, ttl, err := l.near.GetWithTTL(t.Context(), key)
			require.NoError(t, err, "%s: the near level has it", name)
			require.Equal(t, "value", v2)
			require.GreaterOrEqual(t, ttl, c.least, name)
			require.LessOrEqual(t, ttl, c.most, name)
		}

		// gocache's Redis store reports a TTL under half a second as 0. It must not become "no expiry".
		require.NoError(t, l.far.Set(t.Context(), "short", "value", store.WithExpiration(300*time.Millisecond)))
		chain := cache.NewChain[string](cache.New[string](l.near), cache.New[string](l.far))
		if _, err := chain.Get(t.Context(), "short"); err != nil {
			require.ErrorIs(t, err, store.NotFound{}, "a busy machine")
		}
		require.NoError(t, chain.Close())
		eventually(t, "a short TTL ends in the near level too", func(ctx context.Context) error {
			if _, err := l.near.Get(ctx, "short"); !errors.Is(err, store.NotFound{}) {
				return fmt.Errorf("still there: %w", err)
			}
			return nil
		})

		// Set, Delete, Invalidate and Clear change both levels.
		chain = cache.NewChain[string](cache.New[string](l.near), cache.New[string](l.far))
		defer chain.Close()
		both := func(key string, there bool) {
			t.Helper()
			for _, s := range []*middleware.Store{l.near, l.far} {
				_, err := s.Get(t.Context(), key)
				require.Equal(t, there, err == nil, "%s: %v", s.GetType(), err)
			}
		}
		require.NoError(t, chain.Set(t.Context(), "k", "value", store.WithTags([]string{"tag"})))
		both("k", true)
		require.NoError(t, chain.Invalidate(t.Context(), store.WithInvalidateTags([]string{"tag"})))
		both("k", false)
		require.NoError(t, chain.Set(t.Context(), "k", "value"))
		require.NoError(t, chain.Delete(t.Context(), "k"))
		both("k", false)

		// Both levels hold sealed values.
		require.NoError(t, chain.Set(t.Context(), "k", "value in plaintext?"))
		stored, err := l.server.Client(t).Get(t.Context(), "app:k").Result()
		require.NoError(t, err)
		require.NotContains(t, stored, "value")
		require.NotContains(t, string(raw(t, l.memory, "app:k")), "value")
	})
}

// A value that was altered in the near level is not returned. The Chain reads the far level and repairs the near one.
func TestChainSkipsUnreadableValues(t *testing.T) {
	t.Parallel()
	overLevels(t, func(t *testing.T, l levels) {
		t.Helper()
		chain := cache.NewChain[string](cache.New[string](l.near), cache.New[string](l.far))
		require.NoError(t, chain.Set(t.Context(), "k", "value"))
		require.NoError(t, l.memory.Set(t.Context(), "app:k", "planted"))
		v, err := chain.Get(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, "value", v)
		require.NoError(t, chain.Close())
		v2, err := l.near.Get(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, "value", v2)

		// A value that is unreadable in both levels is an error.
		chain = cache.NewChain[string](cache.New[string](l.near), cache.New[string](l.far))
		defer chain.Close()
		require.NoError(t, l.memory.Set(t.Context(), "app:k", "planted"))
		require.NoError(t, l.server.Client(t).Set(t.Context(), "app:k", "planted", 0).Err())
		v, err = chain.Get(t.Context(), "k")
		require.ErrorIs(t, err, middleware.ErrNotSealed)
		require.Empty(t, v)
	})
}

func TestLoadableOverSealedLevels(t *testing.T) {
	t.Parallel()
	overLevels(t, func(t *testing.T, l levels) {
		t.Helper()
		var loads atomic.Int64
		load := func(_ context.Context, key any) (string, []store.Option, error) {
			loads.Add(1)
			return "loaded " + key.(string), []store.Option{store.WithExpiration(time.Hour), store.WithTags([]string{"tag"})}, nil
		}
		chain := cache.NewChain[string](cache.New[string](l.near), cache.New[string](l.far))
		c := cache.NewLoadable[string](load, chain)
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				if v, err := c.Get(t.Context(), "k"); err != nil || v != "loaded k" {
					t.Errorf("%q, %v", v, err)
				}
			})
		}
		all.Wait()
		require.NoError(t, c.Close())
		require.NoError(t, chain.Close())
		before := loads.Load()
		require.Positive(t, before) // often 1: a caller that saw no entry may ask to load it when another has just written it
		for _, s := range []*middleware.Store{l.near, l.far} {
			v, ttl, err := s.GetWithTTL(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, "loaded k", v)
			require.InDelta(t, time.Hour, ttl, float64(time.Minute))
		}

		// A value that does not open is loaded again and replaced.
		require.NoError(t, l.near.Delete(t.Context(), "k"))
		require.NoError(t, l.server.Client(t).Set(t.Context(), "app:k", "42", 0).Err())
		c = cache.NewLoadable[string](load, cache.New[string](l.far))
		v, err := c.Get(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, "loaded k", v)
		require.NoError(t, c.Close())
		require.Equal(t, before+1, loads.Load())
		got, err := l.far.Get(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, "loaded k", got)
	})
}

type account struct {
	Holder string
	Cents  int64
	Tags   []string
}

func TestTypedCachesOverSealedRedis(t *testing.T) {
	t.Parallel()
	overLevels(t, func(t *testing.T, l levels) {
		t.Helper()
		typed(t, l.far, "text")
		typed(t, l.far, []byte("bytes \x00\xff"))
		typed(t, l.far, 42)
		typed(t, l.far, int64(-42))
		typed(t, l.far, uint8(7))
		typed(t, l.far, 1.5)
		typed(t, l.far, true)

		want := account{Holder: "Ada", Cents: 12345, Tags: []string{"a", "b"}}
		coded := sealed(t, overRedis(t, l.server), envelope(t), middleware.WithNamespace("codec"), middleware.WithCodec(middleware.JSON[account]()))
		typed(t, coded, want)

		// gocache's own marshaler works alone, in a chain and with a loader.
		m := marshaler.NewCache[account](cache.New[[]byte](l.far))
		require.NoError(t, m.Set(t.Context(), "m", want, store.WithExpiration(time.Hour)))
		got, err := m.Get(t.Context(), "m")
		require.NoError(t, err)
		require.Equal(t, want, got)
		got, ttl, err := m.GetWithTTL(t.Context(), "m")
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.InDelta(t, time.Hour, ttl, float64(time.Minute))
		c := cache.NewLoadable[account](func(context.Context, any) (account, []store.Option, error) { return want, nil, nil }, m)
		got, err = c.Get(t.Context(), "loaded")
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.NoError(t, c.Close())
		got, err = m.Get(t.Context(), "loaded")
		require.NoError(t, err)
		require.Equal(t, want, got)
		for _, key := range []string{"app:m", "app:loaded"} {
			stored, err := l.server.Client(t).Get(t.Context(), key).Result()
			require.NoError(t, err)
			require.NotContains(t, stored, "Ada")
		}
	})
}

func typed[T any](t *testing.T, s *middleware.Store, value T) {
	t.Helper()
	c := cache.New[T](s)
	key := fmt.Sprintf("typed/%T", value)
	require.NoError(t, c.Set(t.Context(), key, value, store.WithTags([]string{"typed"})))
	got, err := c.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, value, got)
	got, ttl, err := c.GetWithTTL(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, value, got)
	require.Zero(t, ttl)
	_, err = cache.New[struct{ X int }](s).Get(t.Context(), key)
	require.ErrorIs(t, err, cache.ErrValueTypeMismatch, "another type is an error, not a zero value")
	require.NoError(t, c.Invalidate(t.Context(), store.WithInvalidateTags([]string{"typed"})))
	_, err = c.Get(t.Context(), key)
	require.ErrorIs(t, err, store.NotFound{})

	// gocache makes a name of a key that is not a string.
	type composed struct{ A, B int }
	require.NoError(t, c.Set(t.Context(), composed{1, 2}, value))
	got, err = c.Get(t.Context(), composed{1, 2})
	require.NoError(t, err)
	require.Equal(t, value, got)
	require.NoError(t, c.Delete(t.Context(), composed{1, 2}))
}

// counted is a gocache metrics provider.
type counted struct {
	mu    sync.Mutex
	types []string
	last  codec.Stats
}

func (c *counted) RecordFromCodec(from codec.CodecInterface) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.types = append(c.types, from.GetStore().GetType())
	c.last = *from.GetStats()
}

func TestMetricOverSealedRedis(t *testing.T) {
	t.Parallel()
	overLevels(t, func(t *testing.T, l levels) {
		t.Helper()
		m := new(counted)
		c := cache.NewMetric[string](m, cache.New[string](l.far))
		require.NoError(t, c.Set(t.Context(), "k", "value"))
		v, err := c.Get(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, "value", v)
		_, err = c.Get(t.Context(), "absent")
		require.ErrorIs(t, err, store.NotFound{})
		require.NoError(t, l.server.Client(t).Set(t.Context(), "app:k", "planted", 0).Err())
		_, err = c.Get(t.Context(), "k")
		require.ErrorIs(t, err, middleware.ErrNotSealed)
		require.Equal(t, 1, m.last.Hits)
		require.Equal(t, 2, m.last.Miss)
		require.Equal(t, 1, m.last.SetSuccess)
		require.Equal(t, "redis", strings.Join(m.types[:1], ""), "dashboards keep their labels")
	})
}
