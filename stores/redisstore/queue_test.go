package redisstore

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

// With more than 8 callers, the limit is 4 while an operation of the last second was short, and that of the pool otherwise.
func TestQueueLimit(t *testing.T) {
	t.Parallel()
	q := queue{peakCallers: 9}
	start := time.Unix(1000, 0)
	limit := func(after time.Duration, pool int) int {
		q.fastest.roll(start.Add(after))
		return q.limit(pool)
	}
	add := func(after, d time.Duration) { q.fastest.add(start.Add(after), d) }
	require.Equal(t, 20, limit(0, 20), "nothing is known yet")
	require.Equal(t, 64, limit(0, 300))
	add(0, 500*time.Microsecond)
	require.Equal(t, 20, limit(0, 20))
	add(time.Millisecond, 149*time.Microsecond)
	add(2*time.Millisecond, 900*time.Microsecond)
	require.Equal(t, 4, limit(3*time.Millisecond, 20))
	require.Equal(t, 2, limit(3*time.Millisecond, 2))
	add(1100*time.Millisecond, 600*time.Microsecond)
	require.Equal(t, 4, limit(1900*time.Millisecond, 20), "the second before counts")
	add(2100*time.Millisecond, 600*time.Microsecond)
	require.Equal(t, 20, limit(2100*time.Millisecond, 20))
	require.Equal(t, 64, limit(time.Hour, 300), "after a pause nothing is known")
}

// The first of every 8 calls is timed. After a pause it forgets the times before.
func TestQueueTimesCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q queue
		timed := 0
		for range 10 * timedCalls {
			if !q.enter().IsZero() {
				timed++
			}
		}
		require.Equal(t, 10, timed)
		q.fastest.add(time.Now(), time.Microsecond)
		require.Equal(t, nearLimit, q.limit(20))
		time.Sleep(time.Hour)
		require.False(t, q.enter().IsZero())
		require.Equal(t, 20, q.limit(20))
	})
}

// Up to 8 callers of a near server have one connection each. More callers share 4, also while most of them have just left with
// their batch, until there were few for some hundred calls.
func TestQueueLimitFollowsTheCrowd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q queue
		q.fastest.add(time.Now(), 100*time.Microsecond)
		limit := func() int { return q.limit(20) }
		enter := func(n int) {
			for range n {
				q.enter()
			}
		}
		enter(8)
		require.Equal(t, 8, limit())
		enter(1)
		require.Equal(t, 4, limit(), "the ninth")
		enter(23)
		for range 10 {
			q.leave(28)
			require.Equal(t, 4, limit(), "a batch has left")
			enter(28)
		}
		q.leave(32)
		for range 100 {
			enter(1)
			q.leave(1)
		}
		require.Equal(t, 4, limit(), "a short pause")
		for range 400 {
			enter(1)
			q.leave(1)
		}
		require.Equal(t, 8, limit())
		require.Zero(t, q.callers)
	})
}

// Every call that ends leaves the count. It may have run alone or in a batch. Its context may have ended before the call, in the
// queue or in the batch. A call that is counted forever would look like a crowd.
func TestQueueCountsItsCallers(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	c := newCombiner(client, slog.New(slog.DiscardHandler))
	var wg sync.WaitGroup
	for worker := range 32 {
		wg.Go(func() {
			for i := range 100 {
				ctx, cancel := context.WithCancel(t.Context())
				switch (worker + i) % 4 {
				case 0:
					cancel()
				case 1:
					go cancel()
				}
				_ = c.process(ctx, request{key: "k", cmd: redis.NewStringCmd(ctx, "get", "k")}) // with any result
				cancel()
			}
		})
	}
	wg.Wait()
	require.NotZero(t, c.batches.Load())
	require.Eventually(t, func() bool { // a batch may outlive its callers
		c.one.mu.Lock()
		defer c.one.mu.Unlock()
		return c.one.running == 0 && c.one.callers == 0
	}, time.Minute, time.Millisecond)
}

// mastersByKey is a Cluster in which each key has its own master.
type mastersByKey map[string]*redis.Client

func (m mastersByKey) MasterForKey(_ context.Context, key string) (*redis.Client, error) {
	return m[key], nil
}

// In a Cluster with many masters, a queue stays while it is used. It is dropped after a minute without calls.
func TestQueuesOfManyMasters(t *testing.T) {
	t.Parallel()
	masters := make(mastersByKey)
	var old []string
	for i := range 3 * manyQueues {
		addr := fmt.Sprint("127.0.0.1:", i+1)
		old, masters[addr] = append(old, addr), redis.NewClient(&redis.Options{Addr: addr})
	}
	masters["new"] = redis.NewClient(&redis.Options{Addr: "127.0.0.1:9999"})
	t.Cleanup(func() {
		for _, client := range masters {
			require.NoError(t, client.Close())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := &combiner{cluster: masters, queues: make(map[string]*queue)}
		find := func(addr string) *queue {
			q := c.queueFor(t.Context(), request{key: addr})
			for range timedCalls {
				q.enter() // as process does
			}
			return q
		}
		queues := make(map[string]*queue)
		for range 3 {
			for _, addr := range old {
				q := find(addr)
				if queues[addr] == nil {
					queues[addr] = q
				}
				require.Same(t, queues[addr], q)
			}
			time.Sleep(unusedFor / 2)
		}
		time.Sleep(2 * unusedFor)
		find("new")
		require.Len(t, c.queues, 1)
	})
}

func TestQueue(t *testing.T) {
	t.Parallel()
	var q queue
	calls := make([]*waitingCall, 5)
	for i := range calls {
		calls[i] = &waitingCall{size: i}
		q.push(calls[i])
	}
	require.True(t, q.withdraw(calls[2]))
	require.False(t, q.withdraw(calls[2]))
	require.True(t, q.withdraw(calls[0]))
	require.True(t, q.withdraw(calls[4]))
	require.Equal(t, []*waitingCall{calls[1], calls[3]}, q.take())
	require.False(t, q.withdraw(calls[1]))
	require.Nil(t, q.take())
	huge := &waitingCall{size: 2 * combinedBytes}
	q.push(huge)
	q.push(calls[0])
	require.Equal(t, []*waitingCall{huge}, q.take(), "the first goes with any size")
	require.Equal(t, []*waitingCall{calls[0]}, q.take())
}
