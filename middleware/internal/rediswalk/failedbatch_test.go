package rediswalk

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
)

// asked counts the calls of INFO with which the scan checks that the server is the same. The scan makes them when no
// batch is pending.
type asked struct {
	infos atomic.Int64
	ch    chan struct{}
}

func (a *asked) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a *asked) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (a *asked) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "info" && a.infos.Add(1) == 2 { // the first comes before the scan
			close(a.ch)
		}
		return next(ctx, cmd)
	}
}

// A batch that failed stays pending. Its master is not done, however long the worker takes to end the run.
func TestFailedBatchIsNotDone(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	for i := range 100 {
		require.NoError(t, rdb.Set(t.Context(), fmt.Sprint("k", i), "v", 0).Err())
	}
	a := &asked{ch: make(chan struct{})}
	rdb.AddHook(a)
	s, err := New(rdb)
	require.NoError(t, err)
	for batch := range 3 { // the first, one between, the last
		a.infos.Store(0)
		a.ch = make(chan struct{})
		var calls atomic.Int64
		w := &Walk[int]{
			Servers: s, Pattern: "*", Log: slog.New(slog.DiscardHandler), Tuning: Tuning{BatchSize: 40, Workers: 1},
			Work: func(context.Context, []string) (*int, error) {
				if calls.Add(1) == int64(batch)+1 {
					return nil, aead.ErrClosed
				}
				return new(1), nil
			},
			Merge: func(tally, n *int) { *tally += *n },
		}
		w.failed = func() {
			select {
			case <-a.ch:
				t.Error("the scan goes on as if the failed batch were done")
			case <-time.After(100 * time.Millisecond):
			}
		}
		err := w.Run(t.Context(), nil, "")
		require.ErrorIs(t, err, aead.ErrClosed)
		require.False(t, w.Tracks[0].Done)
		require.NotEmpty(t, w.Tracks[0].pending)
		require.Equal(t, batch, w.Tracks[0].Tally, "the batches before it")
		require.NotErrorIs(t, err, context.Canceled)
	}
}

// renamed makes INFO name the mode of the server in another field.
type renamed struct{ field string }

func (renamed) DialHook(next redis.DialHook) redis.DialHook { return next }

func (renamed) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r renamed) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if info, ok := cmd.(*redis.StringCmd); ok && cmd.Name() == "info" {
			info.SetVal(strings.NewReplacer("redis_mode", r.field, "cluster_enabled", "nothing_enabled").Replace(info.Val()))
		}
		return err
	}
}

// A client for a single node is refused at one node of a Cluster, because SCAN would return a part of the entries.
func TestOneNodeOfAClusterIsRefused(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	node := cluster.Nodes()[0].Client(t)
	w := func(s *Servers) error {
		return (&Walk[int]{
			Servers: s, Pattern: "*", Log: slog.New(slog.DiscardHandler), Tuning: TuningOf(t.Context(), 0),
			Work: func(context.Context, []string) (*int, error) { return new(0), nil },
		}).Run(t.Context(), nil, "")
	}
	s, err := New(node)
	require.NoError(t, err)
	err = w(s)
	require.ErrorIs(t, err, ErrClusterNode)
	require.ErrorIs(t, err, ErrUnsuitable)
	require.ErrorContains(t, err, "redis+cluster://")

	// A server that does not offer INFO is recognized by CLUSTER INFO.
	require.NoError(t, node.Do(t.Context(), "acl", "setuser", "default", "-info").Err())
	s, err = New(node)
	require.NoError(t, err)
	s.AllowUnwatched = true
	require.ErrorIs(t, w(s), ErrClusterNode)
	require.NoError(t, node.Do(t.Context(), "acl", "setuser", "default", "+info").Err())

	// Valkey names the mode otherwise, and other servers do not name it.
	for _, field := range []string{"server_mode", "nothing"} {
		node := cluster.Nodes()[0].Client(t)
		node.AddHook(renamed{field})
		s, err = New(node)
		require.NoError(t, err)
		require.ErrorIs(t, w(s), ErrClusterNode, field)
	}

	s, err = New(cluster.Client(t))
	require.NoError(t, err)
	require.NoError(t, w(s))
}
