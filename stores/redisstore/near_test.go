package redisstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

func openNear(t *testing.T, srv *redistest.Server, staleness time.Duration) *redisstore.Store {
	t.Helper()
	return open(t, fmt.Sprintf("%s?near_cache=16MiB&near_cache_max_staleness=%v", srv.URL(), staleness))
}

func TestNearCacheServesHotReads(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	s, ctx := openNear(t, srv, time.Minute), t.Context()
	require.NoError(t, s.Set(ctx, "k", "v"))
	before := srv.Monitor(t)
	for range 100 {
		b, err := s.GetBytes(ctx, "k")
		require.NoError(t, err)
		require.Equal(t, "v", string(b))
		clear(b)
		b, err = s.GetBytesMax(ctx, "k", 10)
		require.NoError(t, err)
		require.Equal(t, "v", string(b))
		clear(b)
	}
	require.GreaterOrEqual(t, s.Stats().NearHits, int64(190))
	require.Positive(t, s.Stats().NearBytes)
	require.Less(t, bytes.Count(before.Bytes(t), []byte(`"get"`)), 5)
	_, err := s.GetBytesMax(ctx, "k", 0)
	var large interface{ TooLarge() bool }
	require.ErrorAs(t, err, &large)
	_, err = s.GetBytesMax(ctx, "absent", 10)
	require.ErrorIs(t, err, &store.NotFound{})
}

// A writer reads its own write, whichever call wrote it and whichever goroutines read at the same time.
func TestNearCacheNeverShowsOwnWritesStale(t *testing.T) { // not parallel: it keeps the processors busy
	srv := redistest.Start(t)
	s := openNear(t, srv, time.Minute)
	const key = "ns:k"
	tagged := []store.Option{store.WithTags([]string{"ns:t"})}
	set := func(ctx context.Context, value string) error { return s.Set(ctx, key, value, tagged...) }
	writes := map[string]func(ctx context.Context, old []byte, value string) error{
		"set":        func(ctx context.Context, _ []byte, value string) error { return s.Set(ctx, key, value) },
		"set tagged": func(ctx context.Context, _ []byte, value string) error { return set(ctx, value) },
		"set many": func(ctx context.Context, _ []byte, value string) error {
			return errors.Join(s.SetBytesMany(ctx, []string{"ns:other", key}, [][]byte{nil, []byte(value)})...)
		},
		"swap": func(ctx context.Context, old []byte, value string) error {
			swapped, err := s.CompareAndSwap(ctx, key, old, 0, []byte(value), -1)
			if err == nil && !swapped {
				err = errors.New("not swapped")
			}
			return err
		},
	}
	removals := map[string]func(ctx context.Context, old []byte) error{
		"delete":      func(ctx context.Context, _ []byte) error { return s.Delete(ctx, key) },
		"delete many": func(ctx context.Context, _ []byte) error { return errors.Join(s.DeleteMany(ctx, []string{key})...) },
		"compare and delete": func(ctx context.Context, old []byte) error {
			_, err := s.CompareAndDelete(ctx, key, old, 0)
			return err
		},
		"invalidate": func(ctx context.Context, _ []byte) error {
			return s.Invalidate(ctx, store.WithInvalidateTags([]string{"ns:t"}))
		},
		"invalidate prefix": func(ctx context.Context, _ []byte) error {
			return s.InvalidatePrefix(ctx, "ns:", store.WithInvalidateTags([]string{"ns:t"}))
		},
		"clear prefix": func(ctx context.Context, _ []byte) error { return s.ClearPrefix(ctx, "ns:") },
		"clear":        func(ctx context.Context, _ []byte) error { return s.Clear(ctx) },
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = s.GetBytes(ctx, key)
			}
		})
	}
	defer func() { cancel(); wg.Wait() }()
	require.NoError(t, set(t.Context(), "first"))
	old := []byte("first")
	stale := make(map[string]int)
	reads := func(name, want string) {
		got, err := s.GetBytes(t.Context(), key)
		if errors.Is(err, &store.NotFound{}) {
			got, err = nil, nil
		}
		require.NoError(t, err)
		if string(got) != want {
			stale[name]++
		}
	}
	for i := range 40 {
		for name, write := range writes {
			value := fmt.Sprint(name, i)
			require.NoError(t, write(t.Context(), old, value), name)
			reads(name, value)
			old = []byte(value)
		}
	}
	for i := range 15 {
		for name, remove := range removals {
			value := fmt.Sprint(name, i)
			require.NoError(t, set(t.Context(), value))
			reads("set", value)
			require.NoError(t, remove(t.Context(), []byte(value)), name)
			reads(name, "")
			written, err := s.SetIfNotExists(t.Context(), key, value)
			require.NoError(t, err)
			require.True(t, written, name)
			reads("set if not exists", value)
		}
	}
	require.Empty(t, stale)
	require.Positive(t, s.Stats().NearHits)
}

func TestNearCacheSeesOtherClients(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	s, other, ctx := openNear(t, srv, time.Minute), srv.Client(t), t.Context()
	for i := range 50 {
		value := fmt.Sprint("v", i)
		require.NoError(t, other.Set(ctx, "k", value, 0).Err())
		require.Eventually(t, func() bool {
			b, err := s.GetBytes(ctx, "k")
			return err == nil && string(b) == value
		}, 2*time.Minute, time.Millisecond)
	}
}

// A server that does not answer is replaced by the near cache for the maximum staleness, and no longer.
func TestNearCacheOverAFrozenServer(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	long, short := openNear(t, srv, time.Hour), openNear(t, srv, time.Second)
	get := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := short.GetBytes(ctx, "k")
		return err
	}
	require.NoError(t, long.Set(t.Context(), "k", "v"))
	for _, s := range []*redisstore.Store{long, short} {
		require.Eventually(t, func() bool {
			_, err := s.GetBytes(t.Context(), "k")
			return err == nil && s.Stats().NearHits > 0
		}, 2*time.Minute, time.Millisecond)
	}
	require.NoError(t, srv.Pause())
	hits := long.Stats().NearHits
	_, err := long.GetBytes(t.Context(), "k")
	require.NoError(t, err, "from the near cache")
	require.Equal(t, hits+1, long.Stats().NearHits)
	require.Eventually(t, func() bool { return errors.Is(get(), context.DeadlineExceeded) }, 2*time.Minute, 10*time.Millisecond)
	require.NoError(t, srv.Resume())
	require.Eventually(t, func() bool { return get() == nil }, 2*time.Minute, 10*time.Millisecond)
}

// Each read returns its own bytes, from the server and from the caches of go-redis: readers overwrite what they get.
func TestRepliesAreTheReadersOwn(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	near, err := redisstore.NewNearCache(16<<20, time.Minute)
	require.NoError(t, err)
	for name, cache := range map[string]func(o *redis.Options){
		"none":   func(*redis.Options) {},
		"config": func(o *redis.Options) { o.ClientSideCacheConfig = &redis.ClientSideCacheConfig{} },
		"local":  func(o *redis.Options) { o.ClientSideCache = redis.NewLocalCache(redis.CacheConfig{}) },
		"near":   func(o *redis.Options) { o.ClientSideCache = near },
	} {
		o := srv.ClientOptions()
		o.ContextTimeoutEnabled = true
		cache(o)
		client := redis.NewClient(o)
		s := newStore(t, client)
		var wg sync.WaitGroup
		for i := range 8 {
			want := strings.Repeat(fmt.Sprint("value-", i%2), 50+i%2*2000)
			key := fmt.Sprint(name, i%2)
			require.NoError(t, s.Set(t.Context(), key, want))
			wg.Go(func() {
				for range 1500 {
					b, err := s.GetBytes(t.Context(), key)
					if err != nil || string(b) != want {
						t.Errorf("%s: %d bytes, %v", name, len(b), err)
						return
					}
					clear(b)
				}
			})
		}
		wg.Wait()
		require.NoError(t, client.Close())
	}
}

func TestNearCacheIsRefused(t *testing.T) {
	t.Parallel()
	const both = "near_cache=64MiB&near_cache_max_staleness=5s"
	for url, want := range map[string]string{
		"redis://h?near_cache=64MiB":                 "the options \"near_cache\" and \"near_cache_max_staleness\" must be given together",
		"redis://h?near_cache_max_staleness=5s":      "the options \"near_cache\" and \"near_cache_max_staleness\" must be given together",
		"redis://h/1?" + both:                        "the option \"near_cache\" works only with database 0",
		"redis://h?db=1&" + both:                     "the option \"near_cache\" works only with database 0",
		"redis://h?protocol=2&" + both:               "the option \"near_cache\" needs the option \"protocol=3\"",
		"redis://u@h?password_file=/x&" + both:       "the options \"near_cache\" and \"password_file\" cannot be used together (use \"password_env\")",
		"redis+cluster://h?" + both:                  "the option \"near_cache\" needs a single server, not Sentinel or Cluster",
		"redis+sentinel://h?master=m&" + both:        "the option \"near_cache\" needs a single server, not Sentinel or Cluster",
		"redis://h?near_cache=64":                    "the option \"near_cache\": the value in the URL is not a size such as 64MiB or 1GiB",
		"redis://h?near_cache=0MiB":                  "the option \"near_cache\": the value in the URL is not a size such as 64MiB or 1GiB",
		"redis://h?near_cache=-1MiB":                 "the option \"near_cache\": the value in the URL is not a size such as 64MiB or 1GiB",
		"redis://h?near_cache_max_staleness=forever": "the option \"near_cache_max_staleness\": the value in the URL is not a positive duration such as 500ms, 3s or 10m",
	} {
		_, err := redisstore.Open(t.Context(), url)
		require.EqualError(t, err, "redisstore: open: "+want, url)
		_, err = redisstore.OpenClient(t.Context(), url)
		require.EqualError(t, err, "redisstore: open: "+want, url)
	}
	_, err := redisstore.NewNearCache(1<<20-1, time.Second)
	require.Error(t, err)
	_, err = redisstore.NewNearCache(1<<20, 0)
	require.Error(t, err)

	for want, change := range map[string]func(o *redis.Options){
		"database 0": func(o *redis.Options) { o.DB = 1 },
		"RESP3":      func(o *redis.Options) { o.Protocol = 2 },
		"set Password": func(o *redis.Options) {
			o.CredentialsProvider = func() (string, string) { return "", "" }
		},
	} {
		near, err := redisstore.NewNearCache(1<<20, time.Second)
		require.NoError(t, err)
		o := &redis.Options{Addr: "127.0.0.1:1", ContextTimeoutEnabled: true, ClientSideCache: near}
		change(o)
		client := redis.NewClient(o)
		_, err = redisstore.New(client)
		require.ErrorContains(t, err, want)
		require.NoError(t, client.Close())
	}
}

// A near cache serves one client, for any number of stores.
func TestNearCacheBelongsToOneClient(t *testing.T) {
	t.Parallel()
	near, err := redisstore.NewNearCache(1<<20, time.Second)
	require.NoError(t, err)
	client := func() *redis.Client {
		o := shared.Single.ClientOptions()
		o.ContextTimeoutEnabled, o.ClientSideCache = true, near
		c := redis.NewClient(o)
		t.Cleanup(func() { require.NoError(t, c.Close()) })
		return c
	}
	first, second := client(), client()
	require.NoError(t, first.Set(t.Context(), t.Name(), "v", 0).Err())
	for range 3 {
		require.NoError(t, first.Get(t.Context(), t.Name()).Err())
	}
	require.Zero(t, near.Stats().Hits, "without a Store nothing is kept, because nothing would drop what the client writes")
	newStore(t, first)
	newStore(t, first)
	_, err = redisstore.New(second)
	require.EqualError(t, err, "redisstore: new: near cache: another Redis client uses the same NearCache (make one for each client)")
}
