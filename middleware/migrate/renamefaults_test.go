package migrate_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// afterFirstCopies calls do after copies were written for the first time.
type afterFirstCopies struct {
	done atomic.Bool
	do   func()
}

func (*afterFirstCopies) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*afterFirstCopies) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *afterFirstCopies) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		args := cmds[0].Args()
		err := next(ctx, cmds)
		if len(args) > 3 && args[0] == "set" && args[3] == "nx" && h.done.CompareAndSwap(false, true) {
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
	cluster := redistest.StartCluster(t)
	rdb, a, keys := cluster.Client(t), envelope(t), newPRFKeys(t, 2)
	r := &renaming{cluster: cluster, n: 60}
	old := sealedStore(t, rdb, a, "ns", middleware.WithHiddenKeys(keys.set(t, 0)))
	for i := range r.n {
		require.NoError(t, old.Set(t.Context(), key(i), fmt.Sprint("v", i)))
	}
	r.now = sealedStore(t, rdb, a, "ns", middleware.WithHiddenKeys(keys.set(t, 1)))
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

// deafConn loses the reply to the first pipeline that deletes originals, after the server has executed it.
type deafConn struct {
	net.Conn
	lose *atomic.Bool
	deaf bool
}

func (c *deafConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("if ARGV[3] and redis.call('PEXPIRETIME'")) && c.lose.CompareAndSwap(true, false) {
		c.deaf = true
	}
	return c.Conn.Write(b)
}

func (c *deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.deaf {
		return 0, io.EOF
	}
	return n, err
}

// A copy stays if the reply to the deletion of its original is lost.
func TestLostReplyToADeletion(t *testing.T) {
	t.Parallel()
	r := newRenaming(t)
	var lose atomic.Bool
	lose.Store(true)
	o := r.cluster.ClientOptions()
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &deafConn{Conn: conn, lose: &lose}, err
	}
	rdb := redis.NewClusterClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	report, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 10}), rdb, r.config)
	require.NoError(t, err)
	require.True(t, report.Done(), "%+v", report)
	require.False(t, lose.Load(), "a reply was lost")
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
