package migrate_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// beforeHiding calls do before entries are given hidden names for the first time.
type beforeHiding struct {
	done atomic.Bool
	do   func()
}

func (*beforeHiding) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*beforeHiding) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *beforeHiding) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		args := cmds[0].Args()
		writes := len(args) > 3 && args[0] == "set" && args[3] == "nx"
		names, script := 0, len(args) > 3 && (args[0] == "evalsha" || args[0] == "eval")
		if script {
			names, _ = args[2].(int)
		}
		if (writes || names > 1) && h.done.CompareAndSwap(false, true) {
			h.do()
		}
		return next(ctx, cmds)
	}
}

// An atomic operation of a process that hides names does not see an entry under its plain name. The entry that it creates, under
// the oldest PRF key, is not lost when the plain one is hidden, and neither is the plain one.
func TestHideNextToACreatedEntry(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		for name, during := range map[string]bool{"created before the run": false, "created when the plain ones are to be renamed": true} {
			t.Run(name, func(t *testing.T) {
				a, keys, ctx, ns := sealtest.Envelope(t), newPRFKeys(t, 3), t.Context(), fmt.Sprint(ns, during)
				plain := migratetest.SealedStore(t, rdb, a, ns)
				app := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(keys.set(t, 2)))
				const n = 40 // a scan meets either of both entries first
				for i := range n {
					require.NoError(t, plain.Set(ctx, key(i), "plain"))
				}
				create := func() {
					for i := range n {
						won, err := app.SetIfNotExists(ctx, key(i), "created")
						if err != nil || !won {
							t.Error(won, err)
						}
					}
				}
				if during {
					h := &beforeHiding{do: create}
					rdb.AddHook(h)
					defer func() { require.True(t, h.done.Load()) }()
				} else {
					create()
				}
				config := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a, HiddenKeys: keys.set(t, 2)}
				for range 2 {
					r := runBy(tuned(ctx, rediswalk.Tuning{BatchSize: 3, Workers: 1}), t, rdb, config)
					require.EqualValues(t, n, r.Conflicts, "%+v", r)
					for i := range n {
						require.Equal(t, "created", value(t, app, key(i)))
						require.Equal(t, "plain", value(t, plain, key(i)))
					}
				}
				require.Len(t, scanned(t, rdb, ns+":*"), 2*n)
			})
		}
	})
}

// The same, if the run changes the namespace, too. Then also an entry under the primary key keeps the plain one from its new name.
func TestHideAndMoveNextToASetEntry(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, keys, ctx := sealtest.Envelope(t), newPRFKeys(t, 1), t.Context()
		hide := middleware.WithHiddenKeys(keys.set(t, 0))
		plain, source, target := migratetest.SealedStore(t, rdb, a, ns), migratetest.SealedStore(t, rdb, a, ns, hide), migratetest.SealedStore(t, rdb, a, ns+"-new", hide)
		const n = 40
		for i := range n {
			require.NoError(t, plain.Set(ctx, key(i), "plain"))
			require.NoError(t, source.Set(ctx, key(i), "set"))
		}
		config := migrate.Config{
			Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, To: &migrate.Space{Namespace: ns + "-new"}, Keys: a, HiddenKeys: keys.set(t, 0),
		}
		for range 2 {
			r := runBy(small(ctx, 3), t, rdb, config)
			require.EqualValues(t, n, r.Conflicts, "%+v", r)
			for i := range n {
				require.Equal(t, "set", value(t, target, key(i)))
				require.Equal(t, "plain", value(t, plain, key(i)))
			}
		}
	})
}

// In a Cluster, an entry that the application sets over the copy of a plain one is newer, so the plain one is deleted.
func TestSetOverTheCopyOfAPlainEntry(t *testing.T) {
	t.Parallel()
	r := newRenamingOf(t, func(*middleware.Store, int) error { return nil })
	plain := migratetest.SealedStore(t, r.cluster.Client(t), r.config.Keys, "ns")
	for i := range r.n {
		require.NoError(t, plain.Set(t.Context(), key(i), fmt.Sprint("v", i)))
	}
	rdb := r.cluster.Client(t)
	set := map[int]bool{}
	rdb.AddHook(&afterFirstCopies{do: func() {
		for i := range r.n {
			if _, err := r.now.Get(t.Context(), key(i)); err == nil { // there is a copy
				set[i] = true
				if err := r.now.Set(t.Context(), key(i), "new"); err != nil {
					t.Error(err)
				}
			}
		}
	}})
	r.config.Operation = migrate.Seal
	report, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.NoError(t, err)
	require.NotEmpty(t, set)
	require.Zero(t, report.Conflicts, "%+v", report)
	require.True(t, report.Done())
	for i := range r.n {
		want := fmt.Sprint("v", i)
		if set[i] {
			want = "new"
		}
		require.Equal(t, want, value(t, r.now, key(i)))
	}
	require.Len(t, scanned(t, rdb, "ns:*"), r.n, "no plain name is left")
}
