package migrate_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// onNodes returns the names of a pattern on some masters.
func onNodes(t *testing.T, pattern string, nodes ...*redistest.Server) (names []string) {
	t.Helper()
	for _, node := range nodes {
		some, err := node.Client(t).Keys(t.Context(), pattern).Result()
		require.NoError(t, err)
		names = append(names, some...)
	}
	return names
}

// duringBatch calls before or after the copies of a batch are written whose originals are on one master. This master is not
// scanned any more.
type duringBatch struct {
	rdb           *redis.ClusterClient
	node          *redistest.Server
	before, after func()
	inBatch, done bool
}

func (*duringBatch) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*duringBatch) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *duringBatch) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		args := cmds[0].Args()
		if len(args) == 4 && args[2] == 1 { // the originals are read
			master, err := h.rdb.MasterForKey(ctx, fmt.Sprint(args[3]))
			h.inBatch = err == nil && master.Options().Addr == h.node.Addr()
		}
		now := h.inBatch && !h.done && len(args) > 3 && args[0] == "set" && args[3] == "nx"
		h.done = h.done || now
		if now && h.before != nil {
			h.before()
		}
		err := next(ctx, cmds)
		if now && h.after != nil {
			h.after()
		}
		return err
	}
}

// Copies of entries that the application has deleted are taken back from the masters that answer, although another master does
// not answer.
func TestTakeBackWithAMasterDown(t *testing.T) {
	t.Parallel()
	r := newRenaming(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := r.cluster.ClientOptions()
	o.ContextTimeoutEnabled, o.ReadTimeout = true, -1
	rdb, app := redis.NewClusterClient(o), r.cluster.Client(t)
	t.Cleanup(func() { _ = rdb.Close() })
	down, up := r.cluster.Nodes()[1], []*redistest.Server{r.cluster.Nodes()[0], r.cluster.Nodes()[2]}
	t.Cleanup(func() { _ = down.Resume() })
	originals := scanned(t, app, "ns:*")
	copies, renamed := 0, map[string]bool{}
	rdb.AddHook(&duringBatch{rdb: rdb, node: down, before: func() {
		for name := range scanned(t, app, "ns:*") {
			renamed[name] = !originals[name]
		}
	}, after: func() {
		for name := range originals {
			if err := app.Del(t.Context(), name).Err(); err != nil {
				t.Error(err)
			}
		}
		copies = len(onNodes(t, "ns:*", up...))
		if err := down.Pause(); err != nil {
			t.Error(err)
		}
		cancel()
	}})
	_, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100, Workers: 1, CleanupTimeout: 10 * time.Second}), rdb, r.config)
	require.ErrorIs(t, err, context.Canceled)
	left := onNodes(t, "ns:*", up...)
	require.Less(t, len(left), copies)
	for _, name := range left {
		require.True(t, renamed[name], "only the batches before are there")
	}
}

// beforeFirstCopies calls do before copies are written for the first time.
type beforeFirstCopies struct {
	done atomic.Bool
	do   func()
}

func (*beforeFirstCopies) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*beforeFirstCopies) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *beforeFirstCopies) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if args := cmds[0].Args(); len(args) > 3 && args[0] == "set" && args[3] == "nx" && h.done.CompareAndSwap(false, true) {
			h.do()
		}
		return next(ctx, cmds)
	}
}

// waitingConn calls do before copies wait for their replicas for the first time.
type waitingConn struct {
	net.Conn
	waits *atomic.Bool
	do    func()
}

func (c *waitingConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("'', 'NX')")) && c.waits.CompareAndSwap(false, true) { // of markSource
		c.do()
	}
	return c.Conn.Write(b)
}

// A token that the application has taken just before its copy is written cannot be taken again while the copy waits for its
// replicas.
func TestTakenTokensWhileCopiesWait(t *testing.T) {
	t.Parallel()
	r := newRenaming(t)
	var taken []string
	twice := 0
	waits := new(atomic.Bool)
	rdb := r.faulty(t, func(c net.Conn) net.Conn {
		return &waitingConn{Conn: c, waits: waits, do: func() {
			for _, k := range taken {
				if _, err := r.now.GetAndDelete(t.Context(), k); err == nil {
					twice++
				}
			}
		}}
	})
	rdb.AddHook(&beforeFirstCopies{do: func() {
		for i := range r.n / 2 {
			if _, err := r.now.GetAndDelete(t.Context(), key(i)); err != nil {
				t.Error(err)
			}
			taken = append(taken, key(i))
		}
	}})
	_, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.NoError(t, err)
	require.NotEmpty(t, taken)
	require.True(t, waits.Load())
	require.Zero(t, twice)
	require.Len(t, scanned(t, r.cluster.Client(t), "ns:*"), r.n-len(taken))
}

// afterFailedTakeBack makes the first deletions of copies fail, and calls do then.
type afterFailedTakeBack struct {
	done atomic.Bool
	do   func()
}

func (*afterFailedTakeBack) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*afterFailedTakeBack) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *afterFailedTakeBack) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		const drop = 6 // evalsha, script, 1, key, and the arguments of dropSource without an expiry
		if len(cmds[0].Args()) != drop || !h.done.CompareAndSwap(false, true) {
			return next(ctx, cmds)
		}
		for _, cmd := range cmds {
			cmd.SetErr(io.EOF)
		}
		h.do()
		return io.EOF
	}
}

// afterSecondCopies calls do after a copy was written for the second time.
type afterSecondCopies struct {
	names map[any]bool
	do    func()
}

func (*afterSecondCopies) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*afterSecondCopies) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *afterSecondCopies) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		again := false
		for _, cmd := range cmds {
			if args := cmd.Args(); len(args) > 3 && args[0] == "set" && args[3] == "nx" {
				again = again || h.names[args[1]]
				h.names[args[1]] = true
			}
		}
		if again {
			h.do()
		}
		return err
	}
}

// If originals change before their deletions are sent again, the next copies of them do not stay when the run ends.
func TestTakeBackAfterLostDeletions(t *testing.T) {
	t.Parallel()
	r := newRenamingOfCounters(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	swallow := new(atomic.Bool)
	swallow.Store(true)
	rdb := r.faulty(t, func(c net.Conn) net.Conn {
		return &swallowingConn{Conn: c, swallow: swallow, lost: func() { r.incrementAll(t) }}
	})
	rdb.AddHook(&afterSecondCopies{names: map[any]bool{}, do: cancel})
	_, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, swallow.Load())
	require.Len(t, scanned(t, r.cluster.Client(t), "ns:*"), r.n, "no copies are left")
	r.completes(t)
	r.requireIncremented(t)
}

// failsAfterLostCopies makes the first deletions fail after an answer to the write of copies was lost, and calls do then.
type failsAfterLostCopies struct {
	do         func() // may be nil
	lost, done bool
}

func (*failsAfterLostCopies) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*failsAfterLostCopies) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *failsAfterLostCopies) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		const drop = 7 // evalsha, script, 1, key, and the arguments of dropSource
		args := cmds[0].Args()
		if len(args) == drop && h.lost && !h.done {
			h.done = true
			for _, cmd := range cmds {
				cmd.SetErr(io.EOF)
			}
			if h.do != nil {
				h.do()
			}
			return io.EOF
		}
		err := next(ctx, cmds)
		if len(args) > 3 && args[0] == "set" && args[3] == "nx" && err != nil && !errors.Is(err, redis.Nil) {
			h.lost = true
		}
		return err
	}
}

// A run that finds its own copies, which it could not take back at once, does not leave them when it ends.
func TestTakeBackOwnCopiesThatItFinds(t *testing.T) {
	t.Parallel()
	r := newRenamingOfCounters(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rdb := r.loses(t, sendsCopies, 0, nil)
	failed, found := new(failsAfterLostCopies), &afterTakingOver{do: cancel}
	rdb.AddHook(failed)
	rdb.AddHook(found)
	_, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, failed.done)
	require.True(t, found.done.Load())
	require.Len(t, scanned(t, r.cluster.Client(t), "ns:*"), r.n, "no copies are left")
	r.incrementAll(t)
	r.completes(t)
	r.requireIncremented(t)
}

// If the answers to the write of copies and to their deletion are lost, and the application deletes the originals then, a complete
// run has no copies of them.
func TestDeletedOriginalsOfLostCopies(t *testing.T) {
	t.Parallel()
	r := newRenaming(t)
	rdb, app := r.loses(t, sendsCopies, 0, nil), r.cluster.Client(t)
	originals := scanned(t, app, "ns:*")
	deleted := 0
	failed := &failsAfterLostCopies{do: func() {
		for name := range originals {
			n, err := app.Del(t.Context(), name).Result()
			if err != nil {
				t.Error(err)
			}
			deleted += int(n)
		}
	}}
	rdb.AddHook(failed)
	report, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.NoError(t, err)
	require.True(t, report.Done(), "%+v", report)
	require.True(t, failed.done)
	require.Positive(t, deleted)
	require.Len(t, scanned(t, app, "ns:*"), r.n-deleted)
}

// If copies of entries that the application has deleted cannot be taken back at once, this is tried again, also if the run ends.
func TestTakeBackAgain(t *testing.T) {
	t.Parallel()
	for _, ends := range []bool{false, true} {
		t.Run(fmt.Sprint("the run ends: ", ends), func(t *testing.T) {
			t.Parallel()
			r := newRenaming(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			rdb, app := r.cluster.Client(t), r.cluster.Client(t)
			originals := scanned(t, app, "ns:*")
			deleted := 0
			rdb.AddHook(&afterFirstCopies{do: func() {
				for name := range originals {
					n, err := app.Del(t.Context(), name).Result()
					if err != nil {
						t.Error(err)
					}
					deleted += int(n)
				}
			}})
			failed := &afterFailedTakeBack{do: func() {
				if ends {
					cancel()
				}
			}}
			rdb.AddHook(failed)
			_, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
			if ends {
				require.ErrorIs(t, err, context.Canceled)
			} else {
				require.NoError(t, err)
			}
			require.True(t, failed.done.Load())
			require.Positive(t, deleted)
			require.Len(t, scanned(t, app, "ns:*"), r.n-deleted)
		})
	}
}

// A run that is cancelled ends although a server does not answer any more and the client has no timeouts.
func TestCancelledRunWithoutTimeouts(t *testing.T) {
	t.Parallel()
	r := newRenaming(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := r.cluster.ClientOptions()
	o.ContextTimeoutEnabled, o.ReadTimeout, o.WriteTimeout = true, -1, -1
	rdb := redis.NewClusterClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	down := r.cluster.Nodes()[1]
	t.Cleanup(func() { _ = down.Resume() })
	rdb.AddHook(&duringBatch{rdb: rdb, node: down, before: func() {
		if err := down.Pause(); err != nil {
			t.Error(err)
		}
		cancel()
	}})
	ended := make(chan error, 1)
	go func() {
		_, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100, Workers: 1, CleanupTimeout: time.Second}), rdb, r.config)
		ended <- err
	}()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, context.Canceled)
	case <-time.After(2 * time.Minute):
		require.NoError(t, down.Resume())
		t.Error("it waits forever")
		t.Log(<-ended)
	}
}

// unsealing is a Cluster with hidden names that a run of Unseal gives their plain names back.
func unsealing(t *testing.T) (r *renaming, hidden *middleware.Store, plain func(i int) string) {
	t.Helper()
	cluster := redistest.StartCluster(t)
	a, keys := sealtest.Envelope(t), newPRFKeys(t, 1)
	r = &renaming{cluster: cluster, n: 60}
	hidden = migratetest.SealedStore(t, cluster.Client(t), a, "ns", middleware.WithHiddenKeys(keys.set(t, 0)))
	for i := range r.n {
		require.NoError(t, hidden.Set(t.Context(), key(i), fmt.Sprint("v", i)))
	}
	r.config = migrate.Config{
		Operation: migrate.Unseal, From: migrate.Space{Namespace: "ns"}, Keys: a, HiddenKeys: keys.set(t, 0), AllowUnproven: true,
	}
	return r, hidden, func(i int) string { return "ns:" + key(i) }
}

// An application may write the same plaintext under a plain name. A run of Unseal leaves it there, also if it ends then.
func TestUnsealLeavesPlaintextOfTheApplication(t *testing.T) {
	t.Parallel()
	for _, ends := range []bool{false, true} {
		t.Run(fmt.Sprint("the run ends: ", ends), func(t *testing.T) {
			t.Parallel()
			r, _, plain := unsealing(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			rdb, app := r.cluster.Client(t), r.cluster.Client(t)
			originals := scanned(t, app, "ns:*")
			rdb.AddHook(&afterFirstCopies{do: func() {
				for i := range r.n {
					if err := app.Set(t.Context(), plain(i), fmt.Sprint("v", i), 0).Err(); err != nil {
						t.Error(err)
					}
				}
				for name := range originals {
					if err := app.Del(t.Context(), name).Err(); err != nil {
						t.Error(err)
					}
				}
				if ends {
					cancel()
				}
			}})
			report, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
			if ends {
				require.ErrorIs(t, err, context.Canceled)
			} else {
				require.NoError(t, err)
				require.Contains(t, strings.Join(report.Warnings, "\n"), "plaintext entries may be left")
			}
			for i := range r.n {
				require.Equal(t, fmt.Sprint("v", i), app.Get(t.Context(), plain(i)).Val())
			}
		})
	}
}

// If the application changes hidden entries while their copies wait, a run of Unseal that ends does not leave the old plaintext.
func TestUnsealTakesBackStalePlaintext(t *testing.T) {
	t.Parallel()
	r, hidden, plain := unsealing(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rdb, app := r.cluster.Client(t), r.cluster.Client(t)
	rdb.AddHook(&afterFirstCopies{do: func() {
		for i := range r.n {
			if err := hidden.Set(t.Context(), key(i), fmt.Sprint("new", i)); err != nil {
				t.Error(err)
			}
		}
		cancel()
	}})
	_, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.ErrorIs(t, err, context.Canceled)
	r.completes(t)
	for i := range r.n {
		require.Equal(t, fmt.Sprint("new", i), app.Get(t.Context(), plain(i)).Val())
	}
	require.Len(t, scanned(t, app, "ns:*"), r.n)
}

// changesAfterLostCopies calls do before entries are read again whose copies got no answer.
type changesAfterLostCopies struct {
	do         func()
	lost, done bool
}

func (*changesAfterLostCopies) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*changesAfterLostCopies) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *changesAfterLostCopies) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		const read = 4 // evalsha, script, 1, key
		args := cmds[0].Args()
		if len(args) == read && h.lost && !h.done {
			h.done = true
			h.do()
		}
		err := next(ctx, cmds)
		if len(args) > 3 && args[0] == "set" && args[3] == "nx" && err != nil && !errors.Is(err, redis.Nil) {
			h.lost = true
		}
		return err
	}
}

// The same, if the answer to the write of the copies was lost and the hidden entries change before the next attempt.
func TestUnsealReplacesStalePlaintext(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(hidden *middleware.Store, i int) error{
		"value":  func(hidden *middleware.Store, i int) error { return hidden.Set(t.Context(), key(i), "new") },
		"expiry": func(hidden *middleware.Store, i int) error { return hidden.Touch(t.Context(), key(i), time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, hidden, plain := unsealing(t)
			rdb, app := r.loses(t, sendsCopies, 0, nil), r.cluster.Client(t)
			h := &changesAfterLostCopies{do: func() {
				for i := range r.n {
					if err := change(hidden, i); err != nil {
						t.Error(err)
					}
				}
			}}
			rdb.AddHook(h)
			report, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
			require.NoError(t, err)
			require.True(t, h.done)
			require.True(t, report.Done(), "%+v", report)
			for i := range r.n {
				if name == "value" {
					require.Equal(t, "new", app.Get(t.Context(), plain(i)).Val())
				} else {
					require.Positive(t, app.PTTL(t.Context(), plain(i)).Val())
				}
			}
			require.Len(t, scanned(t, app, "ns:*"), r.n)
		})
	}
}

// If a hidden entry is written again with the same value, the plaintext of the older one is deleted. If that deletion arrives late, it
// finds the plaintext of the newer one, which looks the same. So the hidden entry stays.
func TestUnsealWithALateDeletion(t *testing.T) {
	t.Parallel()
	r, hidden, plain := unsealing(t)
	held := &heldCopies{text: sendsDeletions}
	held.hold.Store(true)
	rdb, app := r.faulty(t, func(c net.Conn) net.Conn { return &heldConn{Conn: c, held: held} }), r.cluster.Client(t)
	h := &beforeFirstCopies{do: func() {
		for i := range r.n {
			if err := hidden.Set(t.Context(), key(i), fmt.Sprint("v", i)); err != nil {
				t.Error(err)
			}
		}
	}}
	rdb.AddHook(h)
	report, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.NoError(t, err)
	require.True(t, h.done.Load())
	require.False(t, held.hold.Load())
	held.arrive(t)
	for i := range r.n {
		if app.Get(t.Context(), plain(i)).Val() == "" {
			require.Equal(t, fmt.Sprint("v", i), value(t, hidden, key(i)))
		}
	}
	require.Positive(t, report.KeptChanging, "the caller learns of them")
	r.completes(t)
	for i := range r.n {
		require.Equal(t, fmt.Sprint("v", i), app.Get(t.Context(), plain(i)).Val())
	}
}

// Plaintext that arrives after Unseal has given it up, and after the application has deleted the hidden entry, is counted. The
// application may have written the same, so it stays.
func TestPlaintextThatArrivesLate(t *testing.T) {
	t.Parallel()
	r, _, _ := unsealing(t)
	held := new(heldCopies)
	held.hold.Store(true)
	rdb, app := r.faulty(t, func(c net.Conn) net.Conn { return &heldConn{Conn: c, held: held} }), r.cluster.Client(t)
	originals := scanned(t, app, "ns:*")
	finished, late := r.n, 0
	rdb.AddHook(&beforeReading{held, func() {
		for name := range originals {
			n, err := app.Del(t.Context(), name).Result()
			if err != nil {
				t.Error(err)
			}
			finished -= int(n)
		}
		before := len(scanned(t, app, "ns:*"))
		held.arrive(t)
		late = len(scanned(t, app, "ns:*")) - before
	}})
	report, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.NoError(t, err)
	require.True(t, held.arrived)
	require.Positive(t, late)
	left := len(scanned(t, app, "ns:*")) - finished
	require.GreaterOrEqual(t, left, late)
	require.Contains(t, strings.Join(report.Warnings, "\n"), fmt.Sprintf("%d plaintext entries may be left", left))
}

// endsAfterABatch calls do before copies are written for the first time, and ends the run when the next batch is read.
type endsAfterABatch struct {
	do, end func()
	done    bool
}

func (*endsAfterABatch) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*endsAfterABatch) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *endsAfterABatch) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		args := cmds[0].Args()
		switch {
		case !h.done && len(args) > 3 && args[0] == "set" && args[3] == "nx":
			h.done = true
			h.do()
		case h.done && len(args) == 4 && args[2] == 1: // the originals are read
			h.end()
		}
		return next(ctx, cmds)
	}
}

// A run of Unseal that is stopped warns of the plaintext of deleted entries, too. The next run takes it for that of the application.
func TestPlaintextOfAStoppedRun(t *testing.T) {
	t.Parallel()
	r, _, _ := unsealing(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rdb, app := r.cluster.Client(t), r.cluster.Client(t)
	originals := scanned(t, app, "ns:*")
	rdb.AddHook(&endsAfterABatch{do: func() {
		for name := range originals {
			if err := app.Del(t.Context(), name).Err(); err != nil {
				t.Error(err)
			}
		}
	}, end: cancel})
	report, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.ErrorIs(t, err, context.Canceled)
	left := len(scanned(t, app, "ns:*"))
	require.Positive(t, left)
	require.Contains(t, strings.Join(report.Warnings, "\n"), fmt.Sprintf("%d plaintext entries may be left", left))
}
