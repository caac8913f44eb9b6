package migrate_test

import (
	"bytes"
	"cmp"
	"context"
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

// afterFirstCopies calls do after copies were written for the first time, when the run has looked at their originals once more.
type afterFirstCopies struct {
	written, done atomic.Bool
	do            func()
	copies        int // that were written
}

func (*afterFirstCopies) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*afterFirstCopies) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *afterFirstCopies) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		const look = 7 // eval, script, 1, key, and the arguments of lookSource
		args := cmds[0].Args()
		err := next(ctx, cmds)
		switch {
		case len(args) > 3 && args[0] == "set" && args[3] == "nx" && h.written.CompareAndSwap(false, true):
			h.copies = len(cmds)
		case len(args) == look && args[0] == "eval" && h.written.Load() && h.done.CompareAndSwap(false, true):
			h.do()
		}
		return err
	}
}

// renaming is a Cluster with hidden names that a run gives new names to.
type renaming struct {
	cluster *redistest.Cluster
	now     *middleware.Store
	config  migrate.Config
	n       int
}

func key(i int) string { return fmt.Sprint("k", i) }

func newRenaming(t *testing.T) *renaming {
	t.Helper()
	return newRenamingOf(t, func(old *middleware.Store, i int) error { return old.Set(t.Context(), key(i), fmt.Sprint("v", i)) })
}

// newRenamingOfCounters has counters, which the application changes under their old names.
func newRenamingOfCounters(t *testing.T) *renaming {
	t.Helper()
	return newRenamingOf(t, func(old *middleware.Store, i int) error {
		_, err := old.Increment(t.Context(), key(i), int64(i))
		return err
	})
}

func newRenamingOf(t *testing.T, write func(old *middleware.Store, i int) error) *renaming {
	t.Helper()
	cluster := redistest.StartCluster(t, "--cluster-node-timeout", "60000") // a node that is paused stays a master
	rdb, a, keys := cluster.Client(t), sealtest.Envelope(t), newPRFKeys(t, 2)
	r := &renaming{cluster: cluster, n: 60}
	old := migratetest.SealedStore(t, rdb, a, "ns", middleware.WithHiddenKeys(keys.set(t, 0)))
	for i := range r.n {
		require.NoError(t, write(old, i))
	}
	r.now = migratetest.SealedStore(t, rdb, a, "ns", middleware.WithHiddenKeys(keys.set(t, 1)))
	r.config = migrate.Config{
		Operation: migrate.Reseal, From: migrate.Space{Namespace: "ns"}, Keys: a, HiddenKeys: keys.set(t, 1), AllowUnproven: true,
	}
	return r
}

func (r *renaming) requireAll(t *testing.T) {
	t.Helper()
	for i := range r.n {
		require.Equal(t, fmt.Sprint("v", i), value(t, r.now, key(i)), key(i))
	}
	require.Len(t, scanned(t, r.cluster.Client(t), "ns:*"), r.n, "no original is left")
}

// incrementAll increments every counter once.
func (r *renaming) incrementAll(t *testing.T) {
	t.Helper()
	for i := range r.n {
		if _, err := r.now.Increment(t.Context(), key(i), 1); err != nil {
			t.Error(err)
		}
	}
}

// requireIncremented requires that each counter was incremented once.
func (r *renaming) requireIncremented(t *testing.T) {
	t.Helper()
	for i := range r.n {
		got, err := r.now.Increment(t.Context(), key(i), 0)
		require.NoError(t, err)
		require.EqualValues(t, i+1, got, key(i))
	}
	require.Len(t, scanned(t, r.cluster.Client(t), "ns:*"), r.n, "each has one entry")
}

// completes runs the migration to its end.
func (r *renaming) completes(t *testing.T) *migrate.Report {
	t.Helper()
	report, err := migrate.Run(t.Context(), r.cluster.Client(t), r.config)
	require.NoError(t, err)
	require.True(t, report.Done(), "%+v", report)
	return report
}

// faulty returns a client whose connections have a fault.
func (r *renaming) faulty(t *testing.T, fault func(c net.Conn) net.Conn) *redis.ClusterClient {
	t.Helper()
	o := r.cluster.ClientOptions()
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return fault(conn), nil
	}
	rdb := redis.NewClusterClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

const (
	sendsDeletions = "tonumber(ARGV[3]) then return 0 end\nreturn redis.call('DEL'" // of dropSource
	sendsSwaps     = "ARGV[4*i-3]"                                                  // of swapSource
	sendsCopies    = "\r\n$2\r\nnx\r\n"
)

// lostReplyConn loses replies to the first pipeline that holds a text, after the server has executed it.
type lostReplyConn struct {
	net.Conn
	to           string
	lose         *atomic.Bool
	lost         func() // may be nil
	most         int    // bytes of the replies arrive
	losesReplies bool
	gone         bool // all further replies were read and dropped
}

func (c *lostReplyConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(c.to)) && c.lose.CompareAndSwap(true, false) {
		c.losesReplies = true
	}
	return c.Conn.Write(b)
}

func (c *lostReplyConn) Read(b []byte) (int, error) {
	if !c.losesReplies {
		return c.Conn.Read(b)
	}
	if c.most > 0 {
		n, err := c.Conn.Read(b[:min(len(b), c.most)])
		c.most -= n
		return n, err
	}
	if !c.gone { // the client of a Cluster goes on reading
		c.gone = true
		c.drain()
		if c.lost != nil {
			c.lost()
		}
	}
	return 0, io.EOF
}

// drain reads replies until the server sends no more, so that it has executed everything.
func (c *lostReplyConn) drain() {
	var b [1 << 12]byte
	for n := 1; n > 0; {
		const silence = time.Second
		if err := c.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return
		}
		n, _ = c.Conn.Read(b[:])
	}
}

// loses returns a client that loses replies once, all but the first bytes.
func (r *renaming) loses(t *testing.T, to string, most int, lost func()) *redis.ClusterClient {
	t.Helper()
	lose := new(atomic.Bool)
	lose.Store(true)
	t.Cleanup(func() { require.False(t, lose.Load(), "a reply was lost") })
	return r.faulty(t, func(c net.Conn) net.Conn { return &lostReplyConn{Conn: c, to: to, lose: lose, lost: lost, most: most} })
}

// A copy stays if the reply to the deletion of its original is lost.
func TestLostReplyToADeletion(t *testing.T) {
	t.Parallel()
	r := newRenaming(t)
	rdb := r.loses(t, sendsDeletions, 0, nil)
	report, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 10}), rdb, r.config)
	require.NoError(t, err)
	require.True(t, report.Done(), "%+v", report)
	r.requireAll(t)
}

// A run that finds the copies of another run completes them, and the other one does not take them back.
func TestTwoRunsThatRename(t *testing.T) {
	t.Parallel()
	r := newRenaming(t)
	second := false
	rdb := r.cluster.Client(t)
	rdb.AddHook(&afterFirstCopies{do: func() {
		report, err := migrate.Run(t.Context(), r.cluster.Client(t), r.config)
		if err != nil || !report.Done() || report.AlreadyDone == 0 {
			t.Errorf("%+v, %v", report, err)
		}
		second = true
	}})
	report, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 100}), rdb, r.config)
	require.NoError(t, err)
	require.True(t, report.Done(), "%+v", report)
	require.True(t, second)
	r.requireAll(t)
}

// An entry that the application deletes while its copy waits for its replicas does not come back, also if the run ends.
func TestDeletedOriginalOfACopy(t *testing.T) {
	t.Parallel()
	r := newRenaming(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rdb, app := r.cluster.Client(t), r.cluster.Client(t)
	originals := scanned(t, rdb, "ns:*")
	deleted := 0
	rdb.AddHook(&afterFirstCopies{do: func() {
		for name := range originals {
			n, err := app.Del(t.Context(), name).Result()
			if err != nil {
				t.Error(err)
			}
			deleted += int(n) // 0 for an entry that another batch has renamed already
		}
		cancel()
	}})
	_, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100}), rdb, r.config)
	require.ErrorIs(t, err, context.Canceled)
	require.Positive(t, deleted)
	require.Len(t, scanned(t, app, "ns:*"), r.n-deleted)
}

// If the reply to the first copies is lost, the run does not take them for entries of the application.
func TestLostReplyToACopy(t *testing.T) {
	t.Parallel()
	r := newRenaming(t)
	report, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 100}), r.loses(t, sendsCopies, 0, nil), r.config)
	require.NoError(t, err)
	require.True(t, report.Done(), "%+v", report)
	require.EqualValues(t, r.n, report.Renamed)
	require.Zero(t, report.AlreadyDone)
	r.requireAll(t)
}

// An original that the application changes while its copy waits for its replicas wins over the copy, also if the run ends.
func TestChangedOriginalOfACopy(t *testing.T) {
	t.Parallel()
	r := newRenamingOfCounters(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rdb := r.cluster.Client(t)
	rdb.AddHook(&afterFirstCopies{do: func() {
		r.incrementAll(t)
		cancel()
	}})
	_, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100}), rdb, r.config)
	require.ErrorIs(t, err, context.Canceled)
	r.completes(t)
	r.requireIncremented(t)
}

// The same, if the answers to the deletions of the originals are lost and the run ends then.
func TestChangedOriginalWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	r := newRenamingOfCounters(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rdb := r.loses(t, sendsDeletions, 0, cancel)
	rdb.AddHook(&afterFirstCopies{do: func() { r.incrementAll(t) }})
	_, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.ErrorIs(t, err, context.Canceled)
	r.completes(t)
	r.requireIncremented(t)
}

// swallowingConn loses the first deletions before they arrive.
type swallowingConn struct {
	net.Conn
	swallow *atomic.Bool
	lost    func()
	mine    bool
}

func (c *swallowingConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(sendsDeletions)) && c.swallow.CompareAndSwap(true, false) {
		c.mine = true
		c.lost()
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *swallowingConn) Read(b []byte) (int, error) {
	if c.mine {
		return 0, io.EOF
	}
	return c.Conn.Read(b)
}

// If deletions of originals do not arrive and the run ends then, no copies stay that would win over originals that the application
// changes later.
func TestLostDeletionsOfARunThatEnds(t *testing.T) {
	t.Parallel()
	r := newRenamingOfCounters(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	swallow := new(atomic.Bool)
	swallow.Store(true)
	rdb := r.faulty(t, func(c net.Conn) net.Conn { return &swallowingConn{Conn: c, swallow: swallow, lost: cancel} })
	_, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, swallow.Load())
	require.Len(t, scanned(t, r.cluster.Client(t), "ns:*"), r.n, "no copies are left")
	r.incrementAll(t)
	r.completes(t)
	r.requireIncremented(t)
}

// deadConn does not reach its server any more.
type deadConn struct {
	net.Conn
	dead *atomic.Bool
}

func (c *deadConn) Write(b []byte) (int, error) {
	if c.dead.Load() {
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(b)
}

// leftCopies leaves copies behind, as a run that is killed does.
func (r *renaming) leftCopies(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dead := new(atomic.Bool)
	rdb := r.faulty(t, func(c net.Conn) net.Conn { return &deadConn{c, dead} })
	rdb.AddHook(&afterFirstCopies{do: func() {
		dead.Store(true)
		cancel()
	}})
	report, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100, Workers: 1, CleanupTimeout: time.Second}), rdb, r.config)
	require.ErrorIs(t, err, context.Canceled)
	require.Contains(t, strings.Join(report.Warnings, "\n"), "copies of entries may be left")
	require.Greater(t, len(scanned(t, r.cluster.Client(t), "ns:*")), r.n, "there are copies")
}

// afterTakingOver calls do after copies of another run were taken over for the first time.
type afterTakingOver struct {
	done atomic.Bool
	do   func()
}

func (*afterTakingOver) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*afterTakingOver) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *afterTakingOver) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		const swap = 8 // eval, script, 1, key, and the arguments of swapSource
		err := next(ctx, cmds)
		if args := cmds[0].Args(); len(args) == swap && args[0] == "eval" && h.done.CompareAndSwap(false, true) {
			h.do()
		}
		return err
	}
}

// An original that the application changes while a copy of an earlier run waits for its replicas wins over the copy.
func TestChangedOriginalOfACopyTakenOver(t *testing.T) {
	t.Parallel()
	for _, ends := range []bool{false, true} {
		t.Run(fmt.Sprint("the run ends: ", ends), func(t *testing.T) {
			t.Parallel()
			r := newRenamingOfCounters(t)
			r.leftCopies(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			rdb, hook := r.cluster.Client(t), &afterTakingOver{do: func() {
				r.incrementAll(t)
				if ends {
					cancel()
				}
			}}
			rdb.AddHook(hook)
			_, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100}), rdb, r.config)
			if ends {
				require.ErrorIs(t, err, context.Canceled)
				r.completes(t)
			} else {
				require.NoError(t, err)
			}
			require.True(t, hook.done.Load())
			r.requireIncremented(t)
		})
	}
}

// The same, if a reply to the swap of the copies is lost.
func TestChangedOriginalOfACopyTakenOverWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	r := newRenamingOfCounters(t)
	r.leftCopies(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rdb := r.loses(t, sendsSwaps, 0, nil)
	rdb.AddHook(&afterTakingOver{do: func() {
		r.incrementAll(t)
		cancel()
	}})
	_, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.ErrorIs(t, err, context.Canceled)
	r.completes(t)
	r.requireIncremented(t)
}

// heldConn holds back the first copies, or other commands. The client finds the connection closed, and they arrive later.
type heldConn struct {
	net.Conn
	held *heldCopies
	mine bool
}

type heldCopies struct {
	text    string // of the commands; empty for copies
	hold    atomic.Bool
	conn    net.Conn
	data    []byte
	arrived bool
}

// arrive sends the copies.
func (h *heldCopies) arrive(t *testing.T) {
	t.Helper()
	_ = h.conn.SetDeadline(time.Time{}) // of the client
	_, err := h.conn.Write(h.data)
	if err == nil {
		_, err = h.conn.Read(make([]byte, 1<<10)) // the first replies
	}
	if err != nil {
		t.Error(err)
	}
	_ = h.conn.Close()
}

func (c *heldConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(cmp.Or(c.held.text, sendsCopies))) && c.held.hold.CompareAndSwap(true, false) {
		c.mine, c.held.conn, c.held.data = true, c.Conn, bytes.Clone(b)
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *heldConn) Read(b []byte) (int, error) {
	if c.mine {
		return 0, io.EOF
	}
	return c.Conn.Read(b)
}

func (c *heldConn) Close() error {
	if c.mine {
		return nil
	}
	return c.Conn.Close()
}

// beforeReading calls do before entries are read once more.
type beforeReading struct {
	held *heldCopies
	do   func()
}

func (*beforeReading) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*beforeReading) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *beforeReading) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		const read = 4 // evalsha, script, 1, key
		if len(cmds[0].Args()) == read && !h.held.hold.Load() && !h.held.arrived {
			h.held.arrived = true
			h.do()
		}
		return next(ctx, cmds)
	}
}

// Copies that arrive after the run has given them up do not win over originals that have changed since.
func TestCopiesThatArriveLate(t *testing.T) {
	t.Parallel()
	r := newRenamingOfCounters(t)
	held := new(heldCopies)
	held.hold.Store(true)
	rdb := r.faulty(t, func(c net.Conn) net.Conn { return &heldConn{Conn: c, held: held} })
	rdb.AddHook(&beforeReading{held, func() {
		r.incrementAll(t)
		held.arrive(t)
	}})
	report, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.NoError(t, err)
	require.True(t, report.Done(), "%+v", report)
	require.True(t, held.arrived)
	r.requireIncremented(t)
}

// deletesBeforeReading deletes originals before they are read once more. The held copies arrive after the run has tried to delete
// them then.
type deletesBeforeReading struct {
	held    *heldCopies
	del     func()
	arrive  func()
	deleted bool
}

func (*deletesBeforeReading) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*deletesBeforeReading) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *deletesBeforeReading) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		const read, drop = 4, 6 // evalsha, script, 1, key, and the arguments of dropSource without an expiry
		args := cmds[0].Args()
		if len(args) == read && !h.held.hold.Load() && !h.deleted {
			h.deleted = true
			h.del()
		}
		err := next(ctx, cmds)
		if len(args) == drop && h.deleted && !h.held.arrived {
			h.held.arrived = true
			h.arrive()
		}
		return err
	}
}

// Copies that arrive late do not stay in a complete run if the application has deleted their originals.
func TestCopiesOfDeletedOriginalsThatArriveLate(t *testing.T) {
	t.Parallel()
	r := newRenaming(t)
	held := new(heldCopies)
	held.hold.Store(true)
	rdb, app := r.faulty(t, func(c net.Conn) net.Conn { return &heldConn{Conn: c, held: held} }), r.cluster.Client(t)
	originals := scanned(t, app, "ns:*")
	left, late := 0, 0
	rdb.AddHook(&deletesBeforeReading{held: held, del: func() {
		for name := range originals {
			if err := app.Del(t.Context(), name).Err(); err != nil {
				t.Error(err)
			}
		}
		left = len(scanned(t, app, "ns:*"))
	}, arrive: func() {
		held.arrive(t)
		late = len(scanned(t, app, "ns:*"))
	}})
	_, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.NoError(t, err)
	require.True(t, held.arrived)
	require.Greater(t, late, left)
	require.Len(t, scanned(t, app, "ns:*"), left)
}

// The same as TestCopiesThatArriveLate, if only the expiry of the originals has changed.
func TestCopiesThatArriveAfterATouch(t *testing.T) {
	t.Parallel()
	r := newRenaming(t)
	held := new(heldCopies)
	held.hold.Store(true)
	rdb := r.faulty(t, func(c net.Conn) net.Conn { return &heldConn{Conn: c, held: held} })
	rdb.AddHook(&beforeReading{held, func() {
		for i := range r.n {
			if err := r.now.Touch(t.Context(), key(i), time.Hour); err != nil {
				t.Error(err)
			}
		}
		held.arrive(t)
	}})
	report, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.NoError(t, err)
	require.True(t, report.Done(), "%+v", report)
	require.True(t, held.arrived)
	app := r.cluster.Client(t)
	for name := range scanned(t, app, "ns:*") {
		require.Positive(t, app.PTTL(t.Context(), name).Val())
	}
	r.requireAll(t)
}

// If some answers to deletions are lost, the others decide about their copies: those of entries that the application has deleted
// do not stay.
func TestDeletedOriginalsAlthoughAnswersAreLost(t *testing.T) {
	t.Parallel()
	r := newRenaming(t)
	const answered = 3
	rdb, app := r.loses(t, sendsDeletions, answered*len(":-1\r\n"), nil), r.cluster.Client(t)
	originals := scanned(t, app, "ns:*")
	hook := &afterFirstCopies{do: func() {
		for name := range originals {
			if err := app.Del(t.Context(), name).Err(); err != nil {
				t.Error(err)
			}
		}
	}}
	rdb.AddHook(hook)
	report, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.NoError(t, err)
	require.True(t, report.Done(), "%+v", report)
	require.Greater(t, hook.copies, answered)
	require.Len(t, scanned(t, app, "ns:*"), hook.copies-answered, "without its answer, a deletion may be the run's own")
}
