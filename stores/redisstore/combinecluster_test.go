package redisstore_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// writers lets goroutines set and get keys of their own until stop is called, which returns the number of rounds.
func writers(s *redisstore.Store, keys []string, failed func(key string, err error)) (rounds *atomic.Int64, stop func()) {
	rounds = new(atomic.Int64)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, key := range keys {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				value := fmt.Sprint(key, "=", i)
				err := s.Set(context.Background(), key, value)
				if err == nil {
					var got []byte
					if got, err = s.GetBytes(context.Background(), key); err == nil && string(got) != value {
						err = fmt.Errorf("read %q, want %q", got, value)
					}
				}
				if err != nil {
					failed(key, err)
					return
				}
				rounds.Add(1)
			}
		})
	}
	return rounds, func() { close(done); wg.Wait() }
}

// Slots move while 64 callers use them: MOVED and ASK are followed for each command of a batch.
func TestCombinedDuringReshard(t *testing.T) { // not parallel: it keeps the processors busy
	c := redistest.StartCluster(t)
	o := c.ClientOptions()
	o.PoolSize, o.ContextTimeoutEnabled = 2, true
	client := redis.NewClusterClient(o)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	s, ctx := newStore(t, client), t.Context()
	var keys []string
	slots := make(map[int]bool)
	for i := range 64 {
		key := fmt.Sprintf("{%d}", i%5)
		slot, err := client.ClusterKeySlot(ctx, key).Result()
		require.NoError(t, err)
		slots[int(slot)] = true
		keys = append(keys, key+fmt.Sprint(i))
	}
	rounds, stop := writers(s, keys, func(key string, err error) { t.Errorf("%s: %v", key, err) })
	for _, to := range c.Nodes() {
		for slot := range slots {
			from, err := c.OpenSlot(ctx, to, slot)
			require.NoError(t, err)
			if from == to {
				continue
			}
			n := rounds.Load()
			require.Eventually(t, func() bool { return t.Failed() || rounds.Load() > n+64 }, 2*time.Minute, time.Millisecond) // ASK for new keys
			require.NoError(t, c.MoveSlots(ctx, to, slot))
		}
	}
	n := rounds.Load()
	require.Eventually(t, func() bool { return t.Failed() || rounds.Load() > n+64 }, 2*time.Minute, time.Millisecond)
	stop()
	t.Logf("%d rounds, %+v", rounds.Load(), s.Stats())
	require.Positive(t, s.Stats().Combined)
}

// The callers of two masters go on while the third is frozen and its callers wait.
func TestFrozenMaster(t *testing.T) { // not parallel: it keeps the processors busy
	c := redistest.StartCluster(t)
	o := c.ClientOptions()
	o.PoolSize, o.ContextTimeoutEnabled = 2, true
	client := redis.NewClusterClient(o)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	s, ctx := newStore(t, client), t.Context()
	frozen := c.Nodes()[0]
	var alive, waits []string
	for i := 0; len(alive) < 32 || len(waits) < 32; i++ {
		key := fmt.Sprint("key-", i)
		node, err := client.MasterForKey(ctx, key)
		require.NoError(t, err)
		if node.Options().Addr == frozen.Addr() {
			waits = append(waits, key)
		} else {
			alive = append(alive, key)
		}
	}
	rounds, stop := writers(s, alive[:32], func(key string, err error) { t.Errorf("%s: %v", key, err) })
	n := rounds.Load()
	require.Eventually(t, func() bool { return rounds.Load() > n+100 }, 2*time.Minute, time.Millisecond)
	require.NoError(t, frozen.Pause())
	limited, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, key := range waits[:32] {
		wg.Go(func() { _, _ = s.GetBytes(limited, key) })
	}
	require.Eventually(t, func() bool { return s.Stats().Waiting >= 20 }, 2*time.Minute, time.Millisecond)
	n = rounds.Load()
	require.Eventually(t, func() bool { return t.Failed() || rounds.Load() > n+1000 }, 2*time.Minute, time.Millisecond)
	stop()
	cancel()
	require.NoError(t, frozen.Resume())
	wg.Wait()
}
