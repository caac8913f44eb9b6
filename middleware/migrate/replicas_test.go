package migrate_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
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
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: keyring(t), Rate: 200,
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
	r, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 10, ProgressEvery: time.Millisecond}), rdb, c)
	require.ErrorIs(t, err, migrate.ErrUnconfirmed)
	require.False(t, r.Complete)
	require.NoError(t, <-promote)

	c.Rate = 0
	r, err = migrate.Run(t.Context(), promoted, c)
	require.NoError(t, err)
	require.True(t, r.Complete)
	require.Positive(t, r.Written, "entries that the old master sealed after the promotion")
	require.EqualValues(t, n, audited(t, promoted, audit.Config{Namespace: "ns"}).Total.Sealed.Values)
}
