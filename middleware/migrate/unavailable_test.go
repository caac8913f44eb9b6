package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// refusedOnce calls run with a client at which one INFO is refused, for each INFO of a run, and last with one at which none is.
func refusedOnce(t *testing.T, srv *redistest.Server, run func(rdb *redis.Client, info string)) {
	t.Helper()
	for n := int64(1); ; n++ {
		addr, calls := redistest.RefusingOnce(t, srv.Addr(), "info", n, "ERR max requests limit exceeded")
		rdb := redis.NewClient(&redis.Options{Addr: addr})
		run(rdb, fmt.Sprint("INFO ", n))
		require.NoError(t, rdb.Close())
		if calls() < n {
			require.Greater(t, n, int64(5))
			return
		}
	}
}

// An old master that has lost its promoted replica never completes a run, also if one INFO is refused.
func TestLostReplicaWithRefusedInfo(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	require.NoError(t, rdb.ConfigSet(t.Context(), "repl-diskless-sync-delay", "0").Err())
	host, port, err := net.SplitHostPort(srv.Addr())
	require.NoError(t, err)
	replica := redistest.Start(t, "--replicaof", host+" "+port).Client(t)
	fill(t, rdb, "ns", 100)
	await(t, func() bool { return strings.Contains(rdb.Info(t.Context(), "replication").Val(), "state=online") })
	c := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t), AllowUnproven: true}
	var promoted error
	c.Progress = func(p migrate.Progress) {
		if p.Phase == "entries" {
			promoted = replica.Do(t.Context(), "replicaof", "no", "one").Err()
		}
	}
	ctx := tuned(t.Context(), rediswalk.Tuning{BatchSize: 10, ProgressEvery: time.Millisecond, ConfirmFor: 300 * time.Millisecond})
	slow := c
	slow.Rate = 60
	_, err = migrate.Run(ctx, rdb, slow)
	require.NoError(t, promoted)
	require.ErrorIs(t, err, migrate.ErrUnconfirmed)
	c.Progress = nil
	refusedOnce(t, srv, func(rdb *redis.Client, info string) {
		r, err := migrate.Run(ctx, rdb, c)
		require.Error(t, err, info)
		require.False(t, r.Complete, info)
	})
}

// A run never goes on as if there were enough memory, also if one INFO is refused.
func TestMemoryWithRefusedInfo(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	rdb, ctx := srv.Client(t), t.Context()
	fill(t, rdb, "ns", 10)
	require.NoError(t, rdb.SetRange(ctx, "large", 20<<20, "v").Err())
	var used int64
	_, rest, _ := strings.Cut(rdb.Info(ctx, "memory").Val(), "used_memory:")
	_, err := fmt.Sscan(rest, &used)
	require.NoError(t, err)
	require.NoError(t, rdb.ConfigSet(ctx, "maxmemory", fmt.Sprint(used+used/50)).Err()) // more than a run may use of it is in use
	refusedOnce(t, srv, func(rdb *redis.Client, info string) {
		c := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t)}
		r, err := migratetest.Unproven(ctx, rdb, c)
		require.Error(t, err, info)
		require.False(t, r.Complete, info)
		require.Zero(t, r.Written, info)
	})
}

// A run always warns of SWAPDB, also if its counters are reset, and if one INFO is refused.
func TestSwapWithRefusedInfo(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	admin := srv.Client(t)
	fill(t, admin, "ns", 10)
	c := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t)}
	refusedOnce(t, srv, func(rdb *redis.Client, info string) {
		infos := 200
		rdb.AddHook(beforeScan{func(ctx context.Context) error {
			err := errors.Join(admin.Do(ctx, "swapdb", 5, 6).Err(), admin.ConfigResetStat(ctx).Err())
			for range infos { // after each reset, the server counts fewer calls than before
				err = errors.Join(err, admin.Info(ctx, "server").Err())
			}
			infos = max(0, infos-50)
			return err
		}})
		r, err := migratetest.Unproven(t.Context(), rdb, c)
		require.Equal(t, err == nil, r.Complete, info)
		require.True(t, err != nil || r.Moved, info)
	})
}

// beforeScan calls do before each SCAN.
type beforeScan struct {
	do func(ctx context.Context) error
}

func (beforeScan) DialHook(next redis.DialHook) redis.DialHook { return next }

func (beforeScan) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (b beforeScan) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "scan" {
			if err := b.do(ctx); err != nil {
				return err
			}
		}
		return next(ctx, cmd)
	}
}

// A run says that it cannot notice SWAPDB and MOVE if the server does not show their counters.
func TestCountersNotShown(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	require.NoError(t, srv.Client(t).Set(t.Context(), "ns:k", "v", 0).Err())
	rdb := redis.NewClient(&redis.Options{Addr: redistest.Refusing(t, srv.Addr(), map[string]string{"info all": "ERR 42"})})
	t.Cleanup(func() { _ = rdb.Close() })
	r := run(t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t)})
	require.Contains(t, text(t, r), "the run cannot notice SWAPDB and MOVE")
}

// An error names the command that the server refuses, because not every server does.
func TestRefusalNamesTheCommand(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	admin, ctx, keys := srv.Client(t), t.Context(), sealtest.Keyring(t)
	for command, run := range map[string]func(rdb *redis.Client) error{
		"STRLEN": func(rdb *redis.Client) error {
			_, err := audit.Run(ctx, rdb, audit.Config{Namespace: "ns"})
			return err
		},
		"TYPE": func(rdb *redis.Client) error {
			_, err := audit.Run(ctx, rdb, audit.Config{Namespace: "ns"})
			return err
		},
		"PTTL": func(rdb *redis.Client) error {
			_, err := migrate.Plan(ctx, rdb, migrate.PlanConfig{From: migrate.Space{Namespace: "ns"}})
			return err
		},
		"MGET": func(rdb *redis.Client) error {
			_, err := migratetest.Unproven(ctx, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: keys})
			return err
		},
		"SSCAN": func(rdb *redis.Client) error {
			_, err := migratetest.Unproven(ctx, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: keys})
			return err
		},
	} {
		require.NoError(t, admin.FlushAll(ctx).Err())
		require.NoError(t, admin.Set(ctx, "ns:long", strings.Repeat("v", 10<<10), 0).Err())
		require.NoError(t, admin.Set(ctx, "ns:empty", "", 0).Err())
		require.NoError(t, admin.SAdd(ctx, "gocache_tag_t", "ns:long").Err())
		rdb := redis.NewClient(&redis.Options{Addr: redistest.Refusing(t, srv.Addr(), map[string]string{strings.ToLower(command): "ERR 42"})})
		t.Cleanup(func() { _ = rdb.Close() })
		require.ErrorContains(t, run(rdb), "cannot call "+command+": ERR 42")
	}
}

// A dry run fails if the server refuses the record of a real run, in any wording.
func TestDryRunWithRefusedRecord(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	fill(t, srv.Client(t), "ns", 1)
	for _, command := range []string{"hincrby", "hset", "expire"} {
		rdb := redis.NewClient(&redis.Options{Addr: redistest.Refusing(t, srv.Addr(), map[string]string{command: "ERR 42"})})
		t.Cleanup(func() { _ = rdb.Close() })
		c := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t), AllowUnproven: true}
		_, err := migrate.Run(t.Context(), rdb, c)
		require.ErrorContains(t, err, "cannot record the run (Redis key sealcache.runs): ERR 42")
		c.DryRun = true
		_, err = migrate.Run(t.Context(), rdb, c)
		require.ErrorContains(t, err, "a real run would fail: cannot call "+strings.ToUpper(command)+": ERR 42")
	}
}

// A Sentinel answers INFO, but stores nothing.
func TestSentinelIsNoServer(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: redistest.StartSentinel(t).Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	_, err := audit.Run(t.Context(), rdb, audit.Config{})
	require.ErrorIs(t, err, audit.ErrConfig)
	require.ErrorContains(t, err, "the server is a Sentinel, which stores nothing")
	_, err = migrate.Run(t.Context(), rdb, migrate.Config{Operation: migrate.Seal, Keys: sealtest.Keyring(t)})
	require.ErrorIs(t, err, migrate.ErrConfig)
	_, err = migrate.Plan(t.Context(), rdb, migrate.PlanConfig{})
	require.ErrorIs(t, err, migrate.ErrConfig)
}
