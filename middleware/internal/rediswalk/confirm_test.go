package rediswalk

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
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
		Servers: s, Pattern: "*", Log: slog.New(slog.DiscardHandler), Tuning: TuningOf(WithTuning(t.Context(), Tuning{ConfirmFor: time.Minute}), 0),
		Work: func(context.Context, []string) (*int, error) { return new(0), nil },
	}
	var before map[string]int
	require.Eventually(t, func() bool {
		states, err := s.States(t.Context())
		require.NoError(t, err)
		before = Replicas(states)
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

// requireUnconfirmed gives the replicas little time.
func requireUnconfirmed(t *testing.T, w *Walk[int], before map[string]int) {
	t.Helper()
	w.Tuning.ConfirmFor = 2 * time.Second
	require.ErrorIs(t, w.Confirm(t.Context(), before, false), ErrUnconfirmed)
	w.Tuning.ConfirmFor = time.Minute
}

// Writes count as done when the replica has them, and not before.
func TestConfirmWaitsForReplicas(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	rdb := master.Client(t)
	replica := replicaOf(t, master)
	w, before := scanned(t, rdb, 1)
	require.NoError(t, rdb.Set(t.Context(), "a", "v", 0).Err())
	require.NoError(t, w.Confirm(t.Context(), before, false))
	require.Equal(t, "v", replica.Client(t).Get(t.Context(), "a").Val())

	require.NoError(t, replica.Pause())
	t.Cleanup(func() { _ = replica.Resume() })
	require.NoError(t, rdb.Set(t.Context(), "a", "w", 0).Err())
	requireUnconfirmed(t, w, before)
	require.NoError(t, replica.Resume())
	require.NoError(t, w.Confirm(t.Context(), before, false))
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
	requireUnconfirmed(t, w, before)

	_, alone := scanned(t, rdb, 0)
	require.NoError(t, w.Confirm(t.Context(), alone, false), "a run that starts without replicas waits for none")
}

// A master that has one replica less confirms after a second look.
func TestConfirmWithFewerReplicas(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	rdb := master.Client(t)
	replicaOf(t, master)
	other := replicaOf(t, master)
	w, before := scanned(t, rdb, 2)
	require.NoError(t, other.Client(t).Do(t.Context(), "replicaof", "no", "one").Err())
	require.NoError(t, w.Confirm(t.Context(), before, false))
}

// A restart loses what the server had not saved.
func TestConfirmNoticesARestart(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	w, before := scanned(t, master.Client(t), 0)
	require.NoError(t, w.Confirm(t.Context(), before, false))
	require.NoError(t, master.Kill())
	require.NoError(t, master.Restart())
	requireUnconfirmed(t, w, before)
}

// The client of Sentinel may keep a connection to the old master. Confirm asks Sentinel.
func TestConfirmNoticesAFailover(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	old := sentinel.Master(t)
	w, before := scanned(t, sentinel.Client(t), 1)
	require.NoError(t, w.Confirm(t.Context(), before, false))
	sentinel.Failover(t)
	w.Servers.Client = old.Client(t) // as a connection that outlives the failover
	requireUnconfirmed(t, w, before)
	w.Servers.Client = sentinel.Client(t)
	requireUnconfirmed(t, w, before)
}

// A server that refuses INFO after the writes says nothing about the replicas.
func TestConfirmWithoutInfo(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	refusing := redistest.Refusing(t, srv.Addr(), map[string]string{"info": "ERR 42"})
	var refuses atomic.Bool
	rdb := redis.NewClient(&redis.Options{Addr: srv.Addr(), Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if refuses.Load() {
			addr = refusing
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	t.Cleanup(func() { _ = rdb.Close() })
	w, before := scanned(t, rdb, 0)
	refuses.Store(true)
	w.Tuning.ConfirmFor = 300 * time.Millisecond
	err := w.Confirm(t.Context(), before, false)
	require.ErrorIs(t, err, ErrInfoRefused)
	require.NotErrorIs(t, err, ErrUnconfirmed)
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

// Two lines with the same address count as two replicas, because replicas behind a NAT may share it. They may also be an old
// connection of one replica and its new one. The run then waits for both, and never takes one confirmation for two.
func TestStateCountsReplicasOfOneAddress(t *testing.T) {
	t.Parallel()
	m := parseState(strings.Join([]string{
		"run_id:x", "master_repl_offset:100",
		"slave0:ip=127.0.0.1,port=1,state=online,offset=90,lag=9",
		"slave1:ip=127.0.0.1,port=1,state=online,offset=100,lag=0",
	}, "\r\n"))
	require.Equal(t, State{RunID: "x", Online: 2, Offset: 100, LagBytes: 10}, m)
}

func TestAllConfirmed(t *testing.T) {
	t.Parallel()
	targets := map[string]int64{"m": 10, "new": 10}
	for _, c := range []struct {
		name                      string
		state                     State
		before                    map[string]int
		confirmed, allowed, fewer bool
	}{
		{"without replicas", State{RunID: "m", Offset: 10}, map[string]int{"m": 0}, true, true, false},
		{"lost its replica", State{RunID: "m", Offset: 10}, map[string]int{"m": 1}, false, true, true},
		{"its replica is filled again", State{RunID: "m", Offset: 10, Syncing: 1}, map[string]int{"m": 1}, false, true, true},
		{"a first replica is being filled", State{RunID: "m", Offset: 10, Syncing: 1}, map[string]int{"m": 0}, true, true, false},
		{"promoted, alone", State{RunID: "new", Offset: 10}, map[string]int{"m": 1}, true, true, true},
		{"promoted, its replica is filled", State{RunID: "new", Offset: 10, Syncing: 1}, map[string]int{"m": 1}, false, true, true},
		{"behind", State{RunID: "m", Offset: 12, Online: 1, LagBytes: 3}, map[string]int{"m": 1}, false, false, false},
		{"has it", State{RunID: "m", Offset: 12, Online: 1, LagBytes: 2}, map[string]int{"m": 1}, true, true, false},
		{"not seen at first", State{RunID: "other", Offset: 10, Online: 1}, map[string]int{"m": 1}, false, false, false},
	} {
		confirmed, fewer := allConfirmed([]State{c.state}, targets, c.before, false)
		require.Equal(t, c.confirmed, confirmed, c.name)
		require.Equal(t, c.fewer, fewer, c.name)
		confirmed, _ = allConfirmed([]State{c.state}, targets, c.before, true)
		require.Equal(t, c.allowed, confirmed, c.name)
	}
}
