package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// atFirstCopy calls do before the first copy is written.
type atFirstCopy struct {
	do func()
}

func (*atFirstCopy) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*atFirstCopy) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *atFirstCopy) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if args := cmds[0].Args(); len(args) > 3 && args[0] == "set" && args[3] == "nx" {
			h.do()
		}
		return next(ctx, cmds)
	}
}

// awaitTakeover waits until all nodes that are up know that another one has the slots of a master. A client asks any of them.
func awaitTakeover(t *testing.T, of *redistest.Server, up ...*redistest.Server) {
	t.Helper()
	for _, node := range up {
		rdb := node.Client(t)
		await(t, func() bool {
			slots, err := rdb.ClusterSlots(t.Context()).Result() //nolint:staticcheck // Redis 6.2 has no CLUSTER SHARDS
			return err == nil && !slices.ContainsFunc(slots, func(s redis.ClusterSlot) bool { return s.Nodes[0].Addr == of.Addr() })
		})
	}
}

// While the replica of a master does not get the copies, the originals on other masters stay. When it then takes over, every
// entry is still there, and the same run completes the work.
func TestFailoverOfCopies(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, "--cluster-node-timeout", "60000") // no failover but those below
	replicas := []*redistest.Server{1: cluster.StartReplica(t, 1), 2: cluster.StartReplica(t, 2)}
	a, keys := sealtest.Envelope(t), newPRFKeys(t, 2)
	var down []*redistest.Server
	const n = 90
	key := func(i int) string { return fmt.Sprint("k", i) }
	for _, c := range []struct {
		ns     string
		node   int
		before []middleware.Option
		after  []middleware.Option
		to     string
		config migrate.Config
	}{
		{
			"renamed", 1, []middleware.Option{middleware.WithHiddenKeys(keys.set(t, 0))},
			[]middleware.Option{middleware.WithHiddenKeys(keys.set(t, 1))}, "renamed",
			migrate.Config{Operation: migrate.Reseal, HiddenKeys: keys.set(t, 1)},
		},
		{"moved", 2, nil, nil, "arrived", migrate.Config{Operation: migrate.Seal, To: &migrate.Space{Namespace: "arrived"}, DeleteOld: true}},
	} {
		// Not parallel: one failover at a time.
		rdb, ctx, master := cluster.Client(t), t.Context(), cluster.Nodes()[c.node]
		old := migratetest.SealedStore(t, rdb, a, c.ns, c.before...)
		for i := range n {
			require.NoError(t, old.Set(ctx, key(i), fmt.Sprint("v", i), store.WithTags([]string{"all"})))
		}
		link := master.Client(t)
		require.EqualValues(t, 1, link.Do(ctx, "wait", 1, 0).Val())
		cut := sync.OnceFunc(func() {
			if err := replicas[c.node].Pause(); err != nil {
				t.Error(err)
			}
			if err := link.Do(ctx, "client", "kill", "type", "replica").Err(); err != nil {
				t.Error(err)
			}
		})
		rdb.AddHook(&atFirstCopy{cut})
		config := c.config
		config.From, config.Keys, config.AllowUnproven = migrate.Space{Namespace: c.ns}, a, true
		r, err := migrate.Run(tuned(ctx, rediswalk.Tuning{ConfirmFor: time.Second, BatchSize: 10}), rdb, config)
		require.ErrorIs(t, err, migrate.ErrUnconfirmed, c.ns)
		require.False(t, r.Complete)

		require.NoError(t, master.Kill())
		require.NoError(t, replicas[c.node].Resume())
		require.NoError(t, replicas[c.node].Client(t).Do(ctx, "cluster", "failover", "takeover").Err())
		var up []*redistest.Server
		for _, node := range slices.Concat(cluster.Nodes(), replicas[1:]) {
			if node != master && !slices.Contains(down, node) {
				up = append(up, node)
			}
		}
		down = append(down, master)
		awaitTakeover(t, master, up...)
		fresh := cluster.Client(t)
		was, now := migratetest.SealedStore(t, fresh, a, c.ns, c.before...), migratetest.SealedStore(t, fresh, a, c.to, c.after...)
		for i := range n {
			got, err := was.Get(ctx, key(i))
			if err != nil {
				got, err = now.Get(ctx, key(i))
			}
			require.NoError(t, err, "%s: %s is lost", c.ns, key(i))
			require.Equal(t, fmt.Sprint("v", i), got)
		}
		r, err = migrate.Run(ctx, fresh, config)
		for tries := 0; errors.Is(err, migrate.ErrUnconfirmed) && tries < 3; tries++ { // its text says to repeat the run
			for _, node := range up {
				t.Log(node.Addr(), node.Client(t).Info(ctx, "replication").Val())
			}
			r, err = migrate.Run(ctx, fresh, config)
		}
		require.NoError(t, err, c.ns)
		require.True(t, r.Done(), "%s: %+v", c.ns, r)
		for i := range n {
			require.Equal(t, fmt.Sprint("v", i), value(t, now, key(i)))
		}
		require.Len(t, scanned(t, fresh, c.to+":*"), n)
		require.NoError(t, now.Invalidate(ctx, store.WithInvalidateTags([]string{"all"})))
		require.Empty(t, scanned(t, fresh, c.to+":*"), "every entry has its tag")
	}
}

// The tags of entries that were renamed before their sets lost them are copied again. These entries are on other masters,
// which were not interrupted.
func TestTagsOfRenamedEntriesAreCopiedAgain(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	rdb, ctx := cluster.Client(t), t.Context()
	a, keys := sealtest.Envelope(t), newPRFKeys(t, 2)
	old := migratetest.SealedStore(t, rdb, a, "ns", middleware.WithHiddenKeys(keys.set(t, 0)))
	const n = 300
	for i := range n {
		require.NoError(t, old.Set(ctx, fmt.Sprint("k", i), "v", store.WithTags([]string{"all"})))
	}
	before := scanned(t, rdb, "gocache_tag_ns:*")
	require.Len(t, before, 1)
	interrupt := sync.OnceFunc(func() {
		// A replica that was behind would take over like this: another run of the server, without the new set.
		for set := range scanned(t, rdb, "gocache_tag_ns:*") {
			if before[set] {
				continue
			}
			for _, server := range cluster.Nodes() {
				node := server.Client(t)
				if node.Exists(ctx, set).Err() != nil {
					continue // it is on another one
				}
				for _, err := range []error{node.Del(ctx, set).Err(), node.Save(ctx).Err(), server.Kill(), server.Restart()} {
					if err != nil {
						t.Error(err)
					}
				}
			}
		}
	})
	config := migrate.Config{
		Operation: migrate.Reseal, From: migrate.Space{Namespace: "ns"}, Keys: a, HiddenKeys: keys.set(t, 1), AllowUnproven: true, Rate: 50,
		Progress: func(p migrate.Progress) {
			if p.Renamed > n/4 {
				interrupt()
			}
		},
	}
	r, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 10, ProgressEvery: time.Millisecond}), rdb, config)
	require.NoError(t, err)
	require.True(t, r.Done(), "%+v", r)
	require.Positive(t, r.Restarts)
	now := migratetest.SealedStore(t, rdb, a, "ns", middleware.WithHiddenKeys(keys.only(t, 1)))
	require.Len(t, scanned(t, rdb, "ns:*"), n)
	require.NoError(t, now.Invalidate(ctx, store.WithInvalidateTags([]string{"all"})))
	require.Empty(t, scanned(t, rdb, "ns:*"), "every entry has its tag")
}
