package migrate_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// A replica that is promoted during a run does not get the last writes. The run is not complete, and the same run on the new
// master completes the work.
func TestPromotedReplicaLacksTheLastWrites(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	require.NoError(t, rdb.ConfigSet(t.Context(), "repl-diskless-sync-delay", "0").Err())
	host, port, err := net.SplitHostPort(server.Addr())
	require.NoError(t, err)
	promoted := redistest.Start(t, "--replicaof", host+" "+port).Client(t)
	const n = 300
	fill(t, rdb, "ns", n)
	await(t, func() bool {
		return strings.Contains(rdb.Info(t.Context(), "replication").Val(), "state=online") && promoted.DBSize(t.Context()).Val() >= n
	})

	c := migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t), Rate: 60,
		AllowUnproven: true, Checkpoint: t.TempDir() + "/run",
	}
	promote := make(chan error, 1)
	c.Progress = func(p migrate.Progress) {
		if p.Phase != "entries" {
			return
		}
		select {
		case promote <- promoted.Do(t.Context(), "replicaof", "no", "one").Err():
		default:
		}
	}
	ctx := tuned(t.Context(), rediswalk.Tuning{BatchSize: 10, ProgressEvery: time.Millisecond, ConfirmFor: 2 * time.Second})
	r, err := migrate.Run(ctx, rdb, c)
	require.ErrorIs(t, err, migrate.ErrUnconfirmed)
	require.False(t, r.Complete)
	require.NoError(t, <-promote)
	c.Rate = 0

	// The old master does not forget its replica, whether the checkpoint is kept or not.
	r, err = migrate.Run(ctx, rdb, c)
	require.ErrorIs(t, err, migrate.ErrUnconfirmed)
	require.False(t, r.Complete)
	again := c
	again.Checkpoint = ""
	stopped, stop := context.WithTimeout(tuned(t.Context(), rediswalk.Tuning{ConfirmFor: 5 * time.Minute}), time.Second)
	_, err = migrate.Run(stopped, rdb, again)
	stop()
	require.ErrorIs(t, err, context.DeadlineExceeded, "it is stopped while it waits")
	for range 2 {
		_, err = migrate.Run(ctx, rdb, again)
		require.ErrorIs(t, err, migrate.ErrUnconfirmed)
	}

	r, err = migrate.Run(t.Context(), promoted, c)
	require.NoError(t, err)
	require.True(t, r.Complete)
	require.Positive(t, r.Written, "entries that the old master sealed after the promotion")
	// Nor does it forget its replica when it was restarted.
	require.NoError(t, rdb.Save(t.Context()).Err())
	require.NoError(t, server.Restart())
	_, err = migrate.Run(ctx, rdb, again)
	require.ErrorIs(t, err, migrate.ErrUnconfirmed)
	again.AllowFewerReplicas = true
	r, err = migrate.Run(ctx, rdb, again)
	require.NoError(t, err)
	require.True(t, r.Complete)
	again.AllowFewerReplicas = false
	_, err = migrate.Run(ctx, rdb, again)
	require.NoError(t, err, "the complete run has settled it")
	require.EqualValues(t, n, audited(t, promoted, audit.Config{Namespace: "ns"}).Total.Sealed.Values)
}

// A failover in the scan may lose tags that were copied before. They are copied again.
func TestTagsAreCopiedAgainAfterAFailover(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	s, err := redisstore.New(rdb)
	require.NoError(t, err)
	for _, key := range []string{"a", "b", "c"} {
		require.NoError(t, s.Set(t.Context(), "ns:"+key, "plain", store.WithTags([]string{"tag"})))
	}
	fill(t, rdb, "ns", 300)
	failed := false
	c := migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t), AllowUnproven: true, Rate: 60,
	}
	c.Progress = func(p migrate.Progress) {
		if p.Written == 0 || failed { // earlier, the scan has not begun
			return
		}
		failed = true
		// A replica that was behind would take over like this: another run of a server, without the copied tags.
		for _, err := range []error{
			rdb.Del(t.Context(), "gocache_tag_ns:tag").Err(), rdb.Save(t.Context()).Err(), server.Kill(), server.Restart(),
		} {
			if err != nil {
				t.Error(err)
			}
		}
	}
	r, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 10, ProgressEvery: time.Millisecond}), rdb, c)
	require.NoError(t, err)
	require.True(t, r.Complete)
	require.Positive(t, r.Restarts)
	require.ElementsMatch(t, []string{"ns:a", "ns:b", "ns:c"}, rdb.SMembers(t.Context(), "gocache_tag_ns:tag").Val())
}
