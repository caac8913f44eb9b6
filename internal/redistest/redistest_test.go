package redistest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServerAnswersOnPortAndSocket(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	ctx := t.Context()
	require.NoError(t, s.Client(t).Set(ctx, "k", "v", 0).Err())
	unix := redis.NewClient(&redis.Options{Network: "unix", Addr: s.Socket()})
	defer func() { require.NoError(t, unix.Close()) }()
	require.Equal(t, "v", unix.Get(ctx, "k").Val())
	host, _, err := net.SplitHostPort(s.Addr())
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", host)
}

func TestCloseLeavesNothing(t *testing.T) {
	t.Parallel()
	s, err := redistest.Run(t.Context(), redistest.Options{})
	require.NoError(t, err)
	pid, dir := s.Pid(), s.Dir()
	require.NotZero(t, pid)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "a second Close does nothing")
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH)
	_, err = os.Stat(dir)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestRunReportsABadArgument(t *testing.T) {
	t.Parallel()
	_, err := redistest.Run(t.Context(), redistest.Options{Args: []string{"--no-such-option", "1"}})
	require.ErrorContains(t, err, "did not answer after its start")
	require.ErrorContains(t, err, "no-such-option", "what the server said")
}

func TestMissingBinaryErrorNamesThePackage(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := redistest.Run(t.Context(), redistest.Options{})
	require.ErrorContains(t, err, "apt-get install redis-server")
}

func TestRestartKeepsThePortAndForgetsTheData(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rdb, addr, pid := s.Client(t), s.Addr(), s.Pid()
	require.NoError(t, rdb.Set(t.Context(), "k", "v", 0).Err())
	require.NoError(t, s.Kill())
	require.Zero(t, s.Pid())
	require.NoError(t, s.Restart())
	require.Equal(t, addr, s.Addr())
	require.NotEqual(t, pid, s.Pid())
	require.ErrorIs(t, rdb.Get(t.Context(), "k").Err(), redis.Nil)
}

func TestAppendOnlySurvivesKill(t *testing.T) {
	t.Parallel()
	s := redistest.StartWith(t, redistest.Options{AppendOnly: true})
	rdb := s.Client(t)
	require.NoError(t, rdb.Set(t.Context(), "k", "canary-value", 0).Err())
	require.NoError(t, s.Kill())
	require.NoError(t, s.Restart())
	require.Equal(t, "canary-value", rdb.Get(t.Context(), "k").Val())
	found := 0
	for name, b := range s.DumpFiles(t) {
		if bytes.Contains(b, []byte("canary-value")) {
			found++
		}
		require.True(t, name == "dump.rdb" || strings.HasPrefix(name, "appendonlydir/"), name)
	}
	require.GreaterOrEqual(t, found, 2, "the dump and an append-only file hold the value")
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	rdb := s.Client(t)
	require.NoError(t, rdb.Ping(t.Context()).Err())
	require.NoError(t, s.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, rdb.Ping(ctx).Err(), context.DeadlineExceeded)
	require.NoError(t, s.Resume())
	require.NoError(t, rdb.Ping(t.Context()).Err())
}

func TestMonitorShowsArguments(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]redistest.Options{
		"clear": {},
		"tls":   {TLS: true, TLSClientAuth: true},
		"acl":   {User: "alice", Password: "s3 cret"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.StartWith(t, opts)
			m := s.Monitor(t)
			rdb := s.Client(t)
			require.NoError(t, rdb.Set(t.Context(), "k", "canary-value", 0).Err())
			require.Contains(t, string(m.Bytes(t)), "canary-value")
			require.NoError(t, rdb.Eval(t.Context(), "return redis.call('SET', 'k', 'from-'..'script')", nil).Err())
			require.Contains(t, string(m.Bytes(t)), "from-script")
		})
	}
}

func TestTLSRefusesOthers(t *testing.T) {
	t.Parallel()
	s := redistest.StartWith(t, redistest.Options{TLS: true})
	require.True(t, strings.HasPrefix(s.URL(), "rediss://"))
	other := redistest.StartWith(t, redistest.Options{TLS: true})
	opts := s.ClientOptions()
	opts.TLSConfig = other.TLSConfig()
	opts.MaxRetries, opts.DialerRetries = -1, 1
	rdb := redis.NewClient(opts)
	defer func() { require.NoError(t, rdb.Close()) }()
	require.ErrorContains(t, rdb.Ping(t.Context()).Err(), "unknown authority")
}

func TestACLRefusesTheDefaultUser(t *testing.T) {
	t.Parallel()
	s := redistest.StartWith(t, redistest.Options{User: "alice", Password: "s3cret", Rules: "~app:* &* +@all"})
	require.NoError(t, s.Client(t).Set(t.Context(), "app:k", "v", 0).Err())
	require.ErrorContains(t, s.Client(t).Set(t.Context(), "k", "v", 0).Err(), "NOPERM")
	opts := s.ClientOptions()
	opts.Username, opts.Password = "", ""
	rdb := redis.NewClient(opts)
	defer func() { require.NoError(t, rdb.Close()) }()
	require.ErrorContains(t, rdb.Ping(t.Context()).Err(), "NOAUTH")
}

func TestClusterServesEverySlot(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	rdb := c.Client(t)
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		require.NoError(t, rdb.Set(t.Context(), key, "v", 0).Err())
	}
	for _, s := range c.Nodes() {
		n, err := s.Client(t).DBSize(t.Context()).Result()
		require.NoError(t, err)
		require.Positive(t, n, "each master holds a part")
	}
}

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]redistest.SentinelOptions{
		"open":      {},
		"passwords": {Password: "data", SentinelPassword: "watch"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.StartSentinelWith(t, opts)
			rdb := s.Client(t)
			require.NoError(t, rdb.Set(t.Context(), "k", "v", 0).Err())
			before, replica := s.Master(t), s.Replica(t)
			s.Failover(t)
			require.Same(t, replica, s.Master(t))
			require.Same(t, before, s.Replica(t))
			require.Eventually(t, func() bool { return rdb.Set(t.Context(), "k", "w", 0).Err() == nil },
				2*time.Minute, 50*time.Millisecond)
		})
	}
}

func TestSentinelReplacesAKilledMaster(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t)
	replica := s.Replica(t)
	require.NoError(t, s.Master(t).Kill())
	s.AwaitMaster(t, replica)
}

func TestProxyCutsInTheMiddleOfAReply(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	require.NoError(t, s.Client(t).Set(t.Context(), "k", strings.Repeat("x", 10_000), 0).Err())
	p := redistest.StartProxy(t, s.Addr())
	opts := s.ClientOptions()
	opts.Addr, opts.MaxRetries = p.Addr(), -1
	rdb := redis.NewClient(opts)
	defer func() { require.NoError(t, rdb.Close()) }()
	require.NoError(t, rdb.Ping(t.Context()).Err())
	require.Equal(t, 1, p.Connections())
	p.CutReplyAfter(5_000)
	require.Error(t, rdb.Get(t.Context(), "k").Err())
	require.Len(t, rdb.Get(t.Context(), "k").Val(), 10_000, "one cut only")

	p.Delay(50 * time.Millisecond)
	start := time.Now()
	require.NoError(t, rdb.Ping(t.Context()).Err())
	require.GreaterOrEqual(t, time.Since(start), 50*time.Millisecond)
	p.Delay(0)

	p.Cut()
	p.Refuse(true)
	require.Error(t, rdb.Ping(t.Context()).Err())
	p.Refuse(false)
	require.NoError(t, rdb.Ping(t.Context()).Err())
}

func ExampleRun() {
	s, err := redistest.Run(context.Background(), redistest.Options{})
	if err != nil {
		panic(err)
	}
	rdb := redis.NewClient(s.ClientOptions())
	defer func() {
		if err := errors.Join(rdb.Close(), s.Close()); err != nil {
			panic(err)
		}
	}()
	pong, err := rdb.Ping(context.Background()).Result()
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString(pong)
	// Output: PONG
}

// A cluster gets a master, slots move with their keys, and a replica takes over.
func TestClusterMovesSlots(t *testing.T) {
	t.Parallel()
	c := redistest.StartClusterWith(t, redistest.Options{User: "app", Password: "pw"})
	ctx, rdb := t.Context(), c.Client(t)
	slots := map[int]bool{}
	for i := range 100 {
		key := fmt.Sprint("k", i%10, "{", i%7, "}")
		require.NoError(t, rdb.Set(ctx, key, i, time.Hour).Err())
		slots[int(rdb.ClusterKeySlot(ctx, key).Val())] = true
	}
	has := func(s *redistest.Server) (keys int) { return int(s.Client(t).DBSize(ctx).Val()) }
	all := slices.Sorted(maps.Keys(slots))
	added := c.AddMaster(t)
	require.Len(t, c.Nodes(), 4)
	require.Zero(t, has(added))
	for _, to := range []*redistest.Server{added, added, c.Nodes()[0], c.Nodes()[1]} {
		require.NoError(t, c.MoveSlots(ctx, to, all...))
		require.Equal(t, 70, has(to))
		require.Equal(t, "99", rdb.Get(ctx, "k9{1}").Val())
		require.Positive(t, rdb.TTL(ctx, "k9{1}").Val())
	}

	// Half of the keys have moved, and the client finds all of them.
	from, err := c.OpenSlot(ctx, added, all[0])
	require.NoError(t, err)
	require.Same(t, c.Nodes()[1], from)
	n, err := redistest.MoveKeys(ctx, from, added, all[0], 3)
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Equal(t, []int{67, 3}, []int{has(from), has(added)})
	for i := range 100 {
		require.NoError(t, rdb.Get(ctx, fmt.Sprint("k", i%10, "{", i%7, "}")).Err())
	}
	require.Error(t, c.CloseSlot(ctx, added, all[0]), "keys would be lost")
	for n > 0 {
		n, err = redistest.MoveKeys(ctx, from, added, all[0], 3)
		require.NoError(t, err)
	}
	require.NoError(t, c.CloseSlot(ctx, added, all[0]))

	replica := c.StartReplica(t, 1)
	require.NoError(t, c.Promote(ctx, replica))
	require.Contains(t, replica.Client(t).Info(ctx, "replication").Val(), "role:master")
	require.NoError(t, rdb.Set(ctx, "k0{1}", "after", 0).Err())
	require.Equal(t, "after", replica.Client(t).Get(ctx, "k0{1}").Val())
}
