package migrate_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// failsOverDeletions lets a replica take over that lacks the first deletions of originals on a master.
type failsOverDeletions struct {
	rdb             *redis.ClusterClient
	originals       map[string]bool
	master, replica *redistest.Server
	others          []*redistest.Server                          // masters
	during, after   func(t *testing.T, rdb *redis.ClusterClient) // by the application, while the entries are deleted, and after the failover
	t               *testing.T

	digest  string // of dropSource
	deleted []string
	fresh   *redis.ClusterClient // knows the new master
}

func (*failsOverDeletions) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*failsOverDeletions) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *failsOverDeletions) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		args := cmds[0].Args()
		source := args[0] == "eval" && strings.Contains(fmt.Sprint(args[1]), sendsDeletions)
		if source {
			h.digest = rediscmd.NewScript(fmt.Sprint(args[1])).Digest
		}
		if h.deleted != nil || !source && (args[0] != "evalsha" || args[1] != h.digest) || !h.originals[fmt.Sprint(args[3])] {
			return next(ctx, cmds)
		}
		if node, err := h.rdb.MasterForKey(ctx, fmt.Sprint(args[3])); err != nil || node.Options().Addr != h.master.Addr() {
			return next(ctx, cmds)
		}
		if err := h.replica.Pause(); err != nil {
			h.t.Error(err)
		}
		if err := h.master.Client(h.t).Do(ctx, "client", "kill", "type", "replica").Err(); err != nil {
			h.t.Error(err)
		}
		err := next(ctx, cmds)
		if redis.HasErrorPrefix(cmds[0].Err(), "NOSCRIPT") {
			return err
		}
		for _, cmd := range cmds {
			h.deleted = append(h.deleted, fmt.Sprint(cmd.Args()[3]))
		}
		h.during(h.t, h.rdb)
		h.fresh = h.failOver(ctx)
		h.after(h.t, h.fresh)
		return err
	}
}

// failOver returns a client that knows the new master.
func (h *failsOverDeletions) failOver(ctx context.Context) *redis.ClusterClient {
	for _, err := range []error{h.master.Kill(), h.replica.Resume(), h.replica.Client(h.t).Do(ctx, "cluster", "failover", "takeover").Err()} {
		if err != nil {
			h.t.Error(err)
		}
	}
	awaitTakeover(h.t, h.master, append(h.others, h.replica)...)
	fresh := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{h.replica.Addr()}})
	h.t.Cleanup(func() { _ = fresh.Close() })
	return fresh
}

// If a failover brings originals back whose deletions the replicas had not confirmed, the run does not take what the application
// changes in them for older than their copies. If it changes both, both stay.
func TestFailoverOfDeletedOriginals(t *testing.T) {
	t.Parallel()
	for _, both := range []bool{false, true} {
		t.Run(fmt.Sprint("the copies change, too: ", both), func(t *testing.T) {
			t.Parallel()
			r := newRenamingOfCounters(t)
			const node = 1
			by := func(delta int64) func(t *testing.T, rdb *redis.ClusterClient) {
				return func(t *testing.T, rdb *redis.ClusterClient) {
					t.Helper()
					r.now = migratetest.SealedStore(t, rdb, r.config.Keys, "ns", middleware.WithHiddenKeys(r.config.HiddenKeys))
					for i := range r.n {
						if _, err := r.now.Increment(t.Context(), key(i), delta); err != nil {
							t.Error(err)
						}
					}
				}
			}
			rdb := r.cluster.Client(t)
			h := &failsOverDeletions{
				rdb: rdb, t: t, originals: scanned(t, rdb, "ns:*"), master: r.cluster.Nodes()[node], replica: r.cluster.StartReplica(t, node),
				others: []*redistest.Server{r.cluster.Nodes()[0], r.cluster.Nodes()[2]},
				during: func(*testing.T, *redis.ClusterClient) {}, after: by(1),
			}
			if both {
				h.during = by(5)
			}
			rdb.AddHook(h)
			report, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
			require.NoError(t, err)
			require.NotEmpty(t, h.deleted)
			require.Positive(t, report.Restarts, "the scan began again after the failover")
			if !both {
				require.True(t, report.Done(), "%+v", report)
				for i := range r.n {
					got, err := r.now.Increment(t.Context(), key(i), 0)
					require.NoError(t, err)
					require.EqualValues(t, i+1, got, key(i))
				}
				require.Len(t, scanned(t, h.fresh, "ns:*"), r.n, "each has one entry")
				return
			}
			stay := int64(0)
			for _, name := range h.deleted {
				n, err := h.fresh.Exists(t.Context(), name).Result()
				require.NoError(t, err)
				stay += n
			}
			require.Positive(t, stay)
			require.Equal(t, stay, report.Conflicts, "%+v", report)
			require.Len(t, scanned(t, h.fresh, "ns:*"), r.n+int(stay), "nothing was deleted")
		})
	}
}
