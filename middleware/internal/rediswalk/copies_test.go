package rediswalk

import (
	"context"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

// Copies are read back only when the replicas of their masters have them, and while no master has lost a replica.
func TestCopiesWaitForReplicas(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	replica := cluster.StartReplica(t, 1)
	rdb, ctx := cluster.Client(t), t.Context()
	s, err := New(rdb)
	require.NoError(t, err)
	var copies *Copies
	make := func(allowFewer bool, within time.Duration) {
		t.Helper()
		states, err := s.States(ctx)
		require.NoError(t, err)
		copies, err = NewCopies(ctx, s, "mark:", Replicas(states), allowFewer, within)
		require.NoError(t, err)
	}
	names := []string{"a", "b", "c", "d", "e", "missing", "set"} // on all masters
	write := func(value string) {
		t.Helper()
		for _, name := range names[:5] {
			require.NoError(t, rdb.Set(ctx, name, value, 0).Err())
		}
	}
	values := func(value string) [][]byte {
		return [][]byte{[]byte(value), []byte(value), []byte(value), []byte(value), []byte(value), nil, nil}
	}
	members := []Member{{"set", "one", -1}, {"other", "one", -1}}
	for _, m := range members {
		require.NoError(t, rdb.SAdd(ctx, m.Set, m.Name).Err())
	}
	const short = 300 * time.Millisecond
	make(false, time.Minute)
	for range 2 { // the second time it knows how many replicas there are
		write("v")
		got, err := copies.Read(ctx, names, members)
		require.NoError(t, err)
		require.Equal(t, values("v"), got)
		// Confirmed means that the replica has it.
		for _, name := range names[:5] {
			onReplica := replica.Client(t)
			require.NoError(t, onReplica.Do(ctx, "readonly").Err())
			if v, err := onReplica.Get(ctx, name).Result(); err == nil {
				require.Equal(t, "v", v)
			}
		}
	}
	require.NoError(t, rdb.SRem(ctx, "other", "one").Err())
	_, err = copies.Read(ctx, names, members)
	require.ErrorIs(t, err, errCopyLost)
	require.True(t, transient(err))

	// A replica that is connected and does not answer.
	make(false, short)
	require.NoError(t, replica.Pause())
	t.Cleanup(func() { _ = replica.Resume() })
	write("w")
	_, err = copies.Read(ctx, names, nil)
	require.ErrorIs(t, err, ErrUnconfirmed)
	require.False(t, transient(err))
	copies.allowFewer = true
	_, err = copies.Read(ctx, names, nil)
	require.ErrorIs(t, err, ErrUnconfirmed, "the replicas that are left have to confirm")

	// One that has gone, and may have been promoted.
	require.NoError(t, cluster.Nodes()[1].Client(t).Do(ctx, "client", "kill", "type", "replica").Err())
	copies.allowFewer = false
	_, err = copies.Read(ctx, names, nil)
	require.ErrorIs(t, err, ErrUnconfirmed)
	copies.allowFewer = true
	got, err := copies.Read(ctx, names, nil)
	require.NoError(t, err)
	require.Equal(t, values("w"), got)
	require.NoError(t, replica.Resume())
	copies.allowFewer, copies.within = false, time.Minute
	_, err = copies.Read(ctx, names, nil)
	require.NoError(t, err)
	require.Empty(t, rdb.Keys(ctx, "mark:*").Val())
}

// A master whose only replica is being filled confirms nothing: the replica may have had everything before.
func TestCopiesOfAMasterWhoseReplicaIsFilled(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	rdb, ctx := cluster.Client(t), t.Context()
	s, err := New(rdb)
	require.NoError(t, err)
	for _, node := range cluster.Nodes() { // a transfer to a replica that does not begin
		require.NoError(t, node.Client(t).ConfigSet(ctx, "repl-diskless-sync-delay", "3600").Err())
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", node.Addr())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		for _, command := range []string{"REPLCONF listening-port 1", "REPLCONF capa eof", "PSYNC ? -1"} {
			_, err = conn.Write([]byte(command + "\r\n"))
			require.NoError(t, err)
			if command != "PSYNC ? -1" { // PSYNC answers when the transfer begins
				_, err = conn.Read(make([]byte, len("+OK\r\n")))
				require.NoError(t, err)
			}
		}
	}
	require.Eventually(t, func() bool {
		states, err := s.States(ctx)
		return err == nil && !slices.ContainsFunc(states, func(m State) bool { return m.Syncing == 0 })
	}, time.Minute, 20*time.Millisecond)
	// The run found no replica when it began.
	copies, err := NewCopies(ctx, s, "mark:", nil, false, 300*time.Millisecond)
	require.NoError(t, err)
	require.NoError(t, rdb.Set(ctx, "a", "v", 0).Err())
	_, err = copies.Read(ctx, []string{"a"}, nil)
	require.ErrorIs(t, err, ErrUnconfirmed)
	copies.allowFewer = true
	_, err = copies.Read(ctx, []string{"a"}, nil)
	require.NoError(t, err)
}

// A set that has expired may lack a member.
func TestCopiesWithoutSetsThatExpired(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	rdb, ctx := cluster.Client(t), t.Context()
	s, err := New(rdb)
	require.NoError(t, err)
	copies, err := NewCopies(ctx, s, "mark:", nil, false, time.Minute)
	require.NoError(t, err)
	require.NoError(t, rdb.Set(ctx, "a", "v", 0).Err())
	past, future := time.Now().Add(-time.Minute).UnixMilli(), time.Now().Add(time.Hour).UnixMilli()
	got, err := copies.Read(ctx, []string{"a"}, []Member{{"set", "a", past}, {"other", "a", past}})
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("v")}, got)
	for _, until := range []int64{future, -1} {
		_, err = copies.Read(ctx, []string{"a"}, []Member{{"set", "a", past}, {"set", "b", until}})
		require.ErrorIs(t, err, errCopyLost)
	}
}

// infoOff refuses INFO from the n-th call on.
type infoOff struct{ allowed *atomic.Int64 }

func (infoOff) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h infoOff) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if h.refuse(cmd); cmd.Err() != nil {
			err = cmd.Err()
		}
		return err
	}
}

func (h infoOff) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			h.refuse(cmd)
		}
		return err
	}
}

func (h infoOff) refuse(cmd redis.Cmder) {
	if cmd.Name() == "info" && h.allowed.Add(-1) < 0 {
		cmd.SetErr(refusal("ERR 42"))
	}
}

// A refusal of INFO while copies are read back is a disturbance, as in the rest of a run.
func TestCopiesWithoutInfo(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	rdb, ctx := cluster.Client(t), t.Context()
	var allowed atomic.Int64
	rdb.OnNewNode(func(node *redis.Client) { node.AddHook(infoOff{&allowed}) })
	s, err := New(rdb)
	require.NoError(t, err)
	const many = 1 << 20
	allowed.Store(many)
	copies, err := NewCopies(ctx, s, "mark:", nil, false, time.Minute)
	require.NoError(t, err)
	require.NoError(t, rdb.Set(ctx, "a", "v", 0).Err())
	lost := []Member{{"{a}set", "a", time.Now().Add(-time.Minute).UnixMilli()}}
	for n := range int64(3) { // before and after the mark, and for the clock
		allowed.Store(n)
		_, err = copies.Read(ctx, []string{"a"}, lost)
		require.EqualError(t, err, "the server now refuses INFO, although it answered INFO before (allow it in the ACL of the Redis user, or in the proxy): ERR 42", n)
		require.True(t, transient(err), n)
	}
	allowed.Store(many)
	_, err = copies.Read(ctx, []string{"a"}, lost)
	require.NoError(t, err)
}
