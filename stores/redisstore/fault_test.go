package redisstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
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

// every calls each operation once and returns the errors by operation.
func every(ctx context.Context, s *redisstore.Store, key string) map[string]error {
	errs := make(map[string]error)
	_, errs["get"] = s.Get(ctx, key)
	_, _, errs["get with TTL"] = s.GetWithTTL(ctx, key)
	errs["set"] = s.Set(ctx, key, "secret-value")
	errs["set tagged"] = s.Set(ctx, key, "secret-value", store.WithTags([]string{"secret-tag"}))
	_, errs["set if not exists"] = s.SetIfNotExists(ctx, key, "secret-value")
	_, errs["set if not exists, tagged"] = s.SetIfNotExists(ctx, key, "secret-value", store.WithTags([]string{"secret-tag"}))
	_, errs["compare and swap"] = s.CompareAndSwap(ctx, key, []byte("secret-value"), 0, []byte("secret-value"), -1)
	errs["delete"] = s.Delete(ctx, key)
	errs["invalidate"] = s.Invalidate(ctx, store.WithInvalidateTags([]string{"secret-tag"}))
	for _, err := range s.Keys(ctx, "secret") {
		errs["keys"] = err
	}
	errs["clear prefix"] = s.ClearPrefix(ctx, "secret")
	errs["ping"] = s.Ping(ctx)
	return errs
}

// quiet fails if an error shows a value or a key name.
func quiet(t *testing.T, name string, err error) {
	t.Helper()
	if err == nil || errors.Is(err, &store.NotFound{}) {
		return
	}
	require.True(t, strings.HasPrefix(err.Error(), "redisstore: "), "%s: %v", name, err)
	require.NotContains(t, err.Error(), "secret", name)
}

func TestServerKilledAndRestarted(t *testing.T) {
	t.Parallel()
	srv := redistest.StartWith(t, redistest.Options{AppendOnly: true})
	s := open(t, srv.URL()+"?max_retries=0")
	ctx := t.Context()
	require.NoError(t, s.Set(ctx, "kept", "v"))
	require.NoError(t, srv.Kill())
	limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for name, err := range every(limited, s, "secret-key") {
		require.Error(t, err, name)
		var op *net.OpError
		require.ErrorAs(t, err, &op, name)
		quiet(t, name, err)
	}
	require.NoError(t, srv.Restart())
	require.Eventually(t, func() bool { return s.Ping(ctx) == nil }, 2*time.Minute, 10*time.Millisecond)
	b, err := s.GetBytes(ctx, "kept") // the same store recovers without a restart of the process
	require.NoError(t, err)
	require.Equal(t, "v", string(b))
	works(t, s)
}

// A server is killed under load and starts again. Every acknowledged write is there.
func TestServerKilledUnderLoad(t *testing.T) {
	t.Parallel()
	srv := redistest.StartWith(t, redistest.Options{AppendOnly: true})
	s := open(t, srv.URL()+"?max_retries=1")
	ctx := t.Context()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	acknowledged := make(map[string]struct{})
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				key := fmt.Sprint(w, "-", i)
				if s.Set(ctx, key, "v", store.WithTags([]string{"t"})) == nil {
					mu.Lock()
					acknowledged[key] = struct{}{}
					mu.Unlock()
				}
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged)
	}
	for range 2 {
		n := count()
		require.Eventually(t, func() bool { return count() > n+20 }, 2*time.Minute, time.Millisecond)
		require.NoError(t, srv.Kill())
		require.NoError(t, srv.Restart())
	}
	n := count()
	require.Eventually(t, func() bool { return count() > n+20 }, 2*time.Minute, time.Millisecond)
	close(stop)
	wg.Wait()
	for key := range acknowledged {
		_, err := s.GetBytes(ctx, key)
		require.NoError(t, err)
	}
	require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{"t"})))
	require.Empty(t, names(t, s, ""))
}

// A reply that is cut off is an error, or the command is repeated. It is never half a value.
func TestConnectionsCutInTheMiddleOfReplies(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	proxy := redistest.StartProxy(t, srv.Addr())
	s := open(t, "redis://"+proxy.Addr()+"?max_retries=0")
	ctx := t.Context()
	value := bytes.Repeat([]byte("0123456789"), 10_000)
	require.NoError(t, s.SetBytes(ctx, "k", value))
	failures := 0
	for n := 0; n < 100_100; n += 4567 {
		proxy.CutReplyAfter(n)
		for range 3 {
			b, err := s.GetBytes(ctx, "k")
			if err != nil {
				failures++
				quiet(t, "get", err)
				continue
			}
			require.True(t, bytes.Equal(value, b))
			b, _, err = s.GetBytesWithTTL(ctx, "k")
			if err != nil {
				failures++
				continue
			}
			require.True(t, bytes.Equal(value, b))
		}
	}
	require.Positive(t, failures)
	proxy.CutReplyAfter(-1)
	for range 50 {
		proxy.Cut()
		_, _ = s.GetBytes(ctx, "k")
	}
	works(t, s)
	// Connections that were cut are closed, here and at the server.
	require.Eventually(t, func() bool { return proxy.Connections() <= 4 }, 2*time.Minute, 10*time.Millisecond)
}

func TestNoGoroutineIsLeftBehind(t *testing.T) { // not parallel, because it counts goroutines
	srv := redistest.Start(t)
	proxy := redistest.StartProxy(t, srv.Addr())
	before := runtime.NumGoroutine()
	for range 20 {
		s, err := redisstore.Open(t.Context(), "redis://"+proxy.Addr()+"?max_retries=0&min_idle_conns=2")
		require.NoError(t, err)
		require.NoError(t, s.Ping(t.Context()))
		proxy.Cut()
		_ = every(t.Context(), s, "k")
		require.NoError(t, s.Close())
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+2 }, 2*time.Minute, 10*time.Millisecond)
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, "--maxmemory-policy", "noeviction")
	s, rdb := open(t, srv.URL()), srv.Client(t)
	ctx := t.Context()
	require.NoError(t, s.Set(ctx, "secret0", "secret-value"))
	require.NoError(t, rdb.ConfigSet(ctx, "maxmemory", "1").Err())
	errs := every(ctx, s, "secret0")
	for name, err := range errs {
		quiet(t, name, err)
	}
	for _, name := range []string{"set", "set tagged", "set if not exists", "compare and swap"} {
		require.ErrorContains(t, errs[name], "OOM", name)
	}
	for _, name := range []string{"get", "get with TTL", "delete", "keys", "ping", "invalidate", "clear prefix"} {
		require.NoError(t, errs[name], "%s still works, and can free memory", name)
	}
	require.Zero(t, rdb.Exists(ctx, "gocache_tag_secret-tag").Val(), "no half of a tagged Set is left")
	require.NoError(t, rdb.ConfigSet(ctx, "maxmemory", "0").Err())
	works(t, s)
}

func TestReadOnlyReplica(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	_, port, err := net.SplitHostPort(master.Addr())
	require.NoError(t, err)
	replica := redistest.Start(t, "--replicaof", "127.0.0.1 "+port)
	ctx := t.Context()
	require.NoError(t, newStore(t, master.Client(t)).Set(ctx, "secret-key", "v"))
	s := open(t, replica.URL()+"?max_retries=1&max_retry_backoff=10ms")
	require.Eventually(t, func() bool { _, err := s.GetBytes(ctx, "secret-key"); return err == nil }, 2*time.Minute, 10*time.Millisecond)
	for name, err := range every(ctx, s, "secret-key") {
		switch name {
		case "get", "get with TTL", "keys", "ping":
			require.NoError(t, err, name)
		case "set if not exists", "set if not exists, tagged", "compare and swap":
			// An answer that a script finds before it writes is valid. Otherwise the error is READONLY.
			if err != nil {
				require.ErrorContains(t, err, "READONLY", name)
			}
		default:
			require.ErrorContains(t, err, "READONLY", name)
		}
		quiet(t, name, err)
	}
}

func TestWrongType(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx := t.Context()
		key := p + "secret-key"
		for range 3 { // its connections stay usable
			require.NoError(t, rdb.RPush(ctx, key, "secret-element").Err())
			_, err := s.Get(ctx, key)
			require.ErrorContains(t, err, "WRONGTYPE")
			quiet(t, "get", err)
			_, _, err = s.GetWithTTL(ctx, key)
			require.ErrorContains(t, err, "WRONGTYPE")
			quiet(t, "get with TTL", err)
			_, err = s.CompareAndSwap(ctx, key, []byte("secret"), 0, []byte("x"), -1)
			require.ErrorContains(t, err, "WRONGTYPE")
			quiet(t, "swap", err)
			written, err := s.SetIfNotExists(ctx, key, "v")
			require.NoError(t, err)
			require.False(t, written)
			require.NoError(t, s.Set(ctx, key, "v"), "Set replaces, as SET does")
			require.NoError(t, s.Delete(ctx, key))
		}
	})
}

// A server that has lost its scripts (restart, failover, SCRIPT FLUSH) gets them again.
func TestScriptsAreSentAgain(t *testing.T) {
	t.Parallel()
	for _, rdb := range []redis.UniversalClient{redistest.Start(t).Client(t), redistest.StartCluster(t).Client(t)} {
		s := newStore(t, rdb)
		for range 3 {
			works(t, s)
			require.NoError(t, rdb.ScriptFlush(t.Context()).Err())
		}
	}
}

// The store follows a slot that moves during operations.
func TestClusterSlotMoves(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	s, ctx := newStore(t, c.Client(t)), t.Context()
	const key = "{slot}k"
	require.NoError(t, s.Set(ctx, key, "v", store.WithTags([]string{"{slot}t"})))
	slot, err := c.Client(t).ClusterKeySlot(ctx, key).Result()
	require.NoError(t, err)
	nodes := c.Nodes()
	from := nodes[slot*3/16384]
	to := nodes[(slot*3/16384+1)%3]
	id := func(n *redistest.Server) string { return n.Client(t).Do(ctx, "cluster", "myid").Val().(string) }
	a, b := from.Client(t), to.Client(t)
	require.NoError(t, b.Do(ctx, "cluster", "setslot", slot, "importing", id(from)).Err())
	require.NoError(t, a.Do(ctx, "cluster", "setslot", slot, "migrating", id(to)).Err())
	host, port, err := net.SplitHostPort(to.Addr())
	require.NoError(t, err)
	require.NoError(t, a.Do(ctx, "migrate", host, port, "", 0, 60_000, "keys", key, "gocache_tag_{slot}t").Err())

	value, _, err := s.GetBytesWithTTL(ctx, key) // ASK
	require.NoError(t, err)
	swapped, err := s.CompareAndSwap(ctx, key, value, 0, []byte("w"), -1)
	require.NoError(t, err)
	require.True(t, swapped)

	for _, n := range []*redis.Client{b, a, nodes[(slot*3/16384+2)%3].Client(t)} {
		require.NoError(t, n.Do(ctx, "cluster", "setslot", slot, "node", id(to)).Err())
	}
	swapped, err = s.CompareAndSwap(ctx, key, []byte("w"), 0, []byte("x"), -1) // MOVED
	require.NoError(t, err)
	require.True(t, swapped)
	require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{"{slot}t"})))
	_, err = s.Get(ctx, key)
	require.ErrorIs(t, err, &store.NotFound{})
}
