package rediswalk

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

// scanned returns a Walk that has scanned a server, which shows a number of replicas.
func scanned(t *testing.T, rdb redis.UniversalClient, replicas int) (*Walk[int], map[string]int) {
	t.Helper()
	s, err := New(rdb)
	require.NoError(t, err)
	w := &Walk[int]{
		Servers: s, Pattern: "*", Log: slog.New(slog.DiscardHandler), Tuning: TuningOf(WithTuning(t.Context(), Tuning{ConfirmFor: 2 * time.Second}), 0),
		Work:  func(context.Context, []string) (int, error) { return 0, nil },
		Merge: func(a, b int) int { return a + b },
	}
	var before map[string]int
	require.Eventually(t, func() bool {
		before, err = s.Replicas(t.Context())
		require.NoError(t, err)
		for _, n := range before {
			return n == replicas
		}
		return false
	}, time.Minute, 20*time.Millisecond)
	require.NoError(t, w.Run(t.Context(), nil, ""))
	return w, before
}

func replicaOf(t *testing.T, master *redistest.Server) *redistest.Server {
	t.Helper()
	host, port, err := net.SplitHostPort(master.Addr())
	require.NoError(t, err)
	require.NoError(t, master.Client(t).ConfigSet(t.Context(), "repl-diskless-sync-delay", "0").Err())
	return redistest.Start(t, "--replicaof", host+" "+port)
}

// Writes count as done when the replica has them, and not before.
func TestConfirmWaitsForReplicas(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	rdb := master.Client(t)
	replica := replicaOf(t, master)
	w, before := scanned(t, rdb, 1)
	require.NoError(t, rdb.Set(t.Context(), "a", "v", 0).Err())
	require.NoError(t, w.Confirm(t.Context(), before))
	require.Equal(t, "v", replica.Client(t).Get(t.Context(), "a").Val())

	require.NoError(t, replica.Pause())
	t.Cleanup(func() { _ = replica.Resume() })
	require.NoError(t, rdb.Set(t.Context(), "a", "w", 0).Err())
	require.ErrorIs(t, w.Confirm(t.Context(), before), ErrUnconfirmed)
	require.NoError(t, replica.Resume())
	w.Tuning.ConfirmFor = time.Minute
	require.NoError(t, w.Confirm(t.Context(), before))
	require.Equal(t, "w", replica.Client(t).Get(t.Context(), "a").Val())
}

// A master that has lost its only replica may have been replaced by it.
func TestConfirmNeedsTheReplicaOfTheStart(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	rdb := master.Client(t)
	replica := replicaOf(t, master)
	w, before := scanned(t, rdb, 1)
	require.NoError(t, replica.Client(t).Do(t.Context(), "replicaof", "no", "one").Err())
	require.NoError(t, rdb.Set(t.Context(), "a", "v", 0).Err())
	require.ErrorIs(t, w.Confirm(t.Context(), before), ErrUnconfirmed)

	_, alone := scanned(t, rdb, 0)
	require.NoError(t, w.Confirm(t.Context(), alone), "a run that starts without replicas waits for none")
}

// A master that has one replica less confirms after a second look.
func TestConfirmWithFewerReplicas(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	rdb := master.Client(t)
	replicaOf(t, master)
	other := replicaOf(t, master)
	w, before := scanned(t, rdb, 2)
	w.Tuning.ConfirmFor = time.Minute
	require.NoError(t, other.Client(t).Do(t.Context(), "replicaof", "no", "one").Err())
	require.NoError(t, w.Confirm(t.Context(), before))
}

// A restart loses what the server had not saved.
func TestConfirmNoticesARestart(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	w, before := scanned(t, master.Client(t), 0)
	require.NoError(t, w.Confirm(t.Context(), before))
	require.NoError(t, master.Kill())
	require.NoError(t, master.Restart())
	require.ErrorIs(t, w.Confirm(t.Context(), before), ErrUnconfirmed)
}

// The client of Sentinel may keep a connection to the old master. Confirm asks Sentinel.
func TestConfirmNoticesAFailover(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	old := sentinel.Master(t)
	w, before := scanned(t, sentinel.Client(t), 1)
	require.NoError(t, w.Confirm(t.Context(), before))
	sentinel.Failover(t)
	w.Servers.Client = old.Client(t) // as a connection that outlives the failover
	require.ErrorIs(t, w.Confirm(t.Context(), before), ErrUnconfirmed)
	w.Servers.Client = sentinel.Client(t)
	require.ErrorIs(t, w.Confirm(t.Context(), before), ErrUnconfirmed)
}

func TestStateCountsReplicas(t *testing.T) {
	t.Parallel()
	m := parseState(strings.Join([]string{
		"run_id:x", "master_repl_offset:100",
		"slave0:ip=127.0.0.1,port=1,state=online,offset=90,lag=0",
		"slave1:ip=127.0.0.1,port=2,state=wait_bgsave,offset=0,lag=0",
		"slave2:ip=127.0.0.1,port=3,state=online,offset=,lag=0",
		"slave3:ip=127.0.0.1,port=0,state=online,offset=0,lag=9",
	}, "\r\n"))
	require.Equal(t, State{RunID: "x", Online: 2, Syncing: 1, Offset: 100, LagBytes: 100}, m, "an offset that cannot be read confirms nothing")
	m = parseState("run_id:x\r\nslave0:ip=127.0.0.1,port=1,state=online,offset=90,lag=0\r\n")
	require.Equal(t, State{RunID: "x"}, m, "no offset of the master, nothing to wait for")
}
