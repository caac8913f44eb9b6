package rediswalk

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// masters are the masters of a Cluster.
type masters []*redis.Client

func mastersThatTake(t *testing.T, times ...time.Duration) (m masters) {
	t.Helper()
	for _, answers := range times {
		c := redis.NewClient(new(redis.Options))
		t.Cleanup(func() { _ = c.Close() })
		c.AddHook(slow(answers))
		m = append(m, c)
	}
	return m
}

func (m masters) ForEachMaster(ctx context.Context, fn func(ctx context.Context, client *redis.Client) error) error {
	for _, c := range m {
		if err := fn(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (m masters) MasterForKey(context.Context, string) (*redis.Client, error) { return nil, redis.Nil }

// slow answers each command after a time, without a server.
type slow time.Duration

func (s slow) DialHook(redis.DialHook) redis.DialHook {
	return func(context.Context, string, string) (net.Conn, error) { return nil, redis.ErrClosed }
}

func (s slow) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(context.Context, redis.Cmder) error {
		time.Sleep(time.Duration(s))
		return nil
	}
}

func (s slow) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// The slowest master of a Cluster decides whether a run pauses, and not the sum of all.
func TestLatencyOfACluster(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		masters masters
		paused  []string
	}{
		{mastersThatTake(t, 2*time.Millisecond, 2*time.Millisecond, 2*time.Millisecond), nil},
		{mastersThatTake(t, 2*time.Millisecond, 9*time.Millisecond, 2*time.Millisecond), []string{reasonLatency}},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			throttle := NewThrottle(0, 0, 1)
			done := make(chan struct{})
			go func() {
				defer close(done)
				Guard{MaxLatency: 5 * time.Millisecond}.Watch(ctx, &Servers{cluster: c.masters}, throttle)
			}()
			time.Sleep(5 * time.Second)
			require.Equal(t, c.paused, throttle.Paused())
			cancel()
			<-done
		})
	}
}

// laggard shows one replica that is behind, and then refuses INFO.
type laggard struct{ calls int }

func (*laggard) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *laggard) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		if l.calls++; l.calls > 1 {
			cmd.SetErr(refusal("ERR 42"))
			return cmd.Err()
		}
		cmd.(*redis.StringCmd).SetVal("run_id:x\r\nmaster_repl_offset:100\r\nslave0:ip=127.0.0.1,port=1,state=online,offset=0,lag=0\r\n")
		return nil
	}
}

func (*laggard) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// refusal is an error reply.
type refusal string

func (r refusal) Error() string { return string(r) }
func (refusal) RedisError()     {}

// A run that is paused for replica lag goes on if INFO is refused for good. Its own calls then report the refusal.
func TestLagWithoutInfo(t *testing.T) {
	t.Parallel()
	node := redis.NewClient(new(redis.Options))
	t.Cleanup(func() { _ = node.Close() })
	node.AddHook(new(laggard))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		throttle := NewThrottle(0, 0, 1)
		done := make(chan struct{})
		go func() {
			defer close(done)
			Guard{MaxLagBytes: 10}.Watch(ctx, &Servers{Client: node, shown: new(sync.Map)}, throttle)
		}()
		time.Sleep(retryFor / 2)
		require.Equal(t, []string{reasonLag}, throttle.Paused())
		time.Sleep(retryFor)
		require.Empty(t, throttle.Paused())
		cancel()
		<-done
	})
}
