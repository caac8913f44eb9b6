package migrate_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// MOVE may bring an entry into the database where the scan has already been. The run says so.
func TestEntryMovedIntoTheDatabaseDuringARun(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	o := *server.ClientOptions()
	o.DB = 7
	seventh := redis.NewClient(&o)
	defer seventh.Close()
	fill(t, rdb, "ns", 200)
	require.NoError(t, seventh.Set(t.Context(), "ns:late", "plaintext", 0).Err())
	c := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t)}

	const warning = "SWAPDB, MOVE or CONFIG RESETSTAT may have been called"
	end := halfway(t, rdb, c)
	moved, moveErr := seventh.Move(t.Context(), "ns:late", 0).Result()
	r, err := end()
	require.NoError(t, moveErr)
	require.True(t, moved)
	require.NoError(t, err)
	require.Contains(t, strings.Join(r.Warnings, "\n"), warning)
	require.True(t, r.Complete && r.Moved && !r.Done(), "%+v", r)

	r = run(t, rdb, c)
	require.True(t, r.Done(), "%+v", r)
	require.NotContains(t, strings.Join(r.Warnings, "\n"), warning)
	require.True(t, isSealed(stored(t, rdb, "ns:late")))
}

// The same between a stop and the run that continues it.
func TestEntryMovedIntoTheDatabaseBetweenRuns(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	o := *server.ClientOptions()
	o.DB = 7
	seventh := redis.NewClient(&o)
	defer seventh.Close()
	const n = 400
	fill(t, rdb, "ns", n)
	require.NoError(t, seventh.Set(t.Context(), "ns:late", "plaintext", 0).Err())
	c := migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t),
		Checkpoint: filepath.Join(t.TempDir(), "checkpoint"),
	}
	interrupted(t, rdb, c, n)
	require.True(t, seventh.Move(t.Context(), "ns:late", 0).Val())
	r := run(t, rdb, c)
	require.True(t, r.Complete && r.Moved && !r.Done(), "%+v", r)
	r = run(t, rdb, c)
	require.True(t, r.Done(), "%+v", r)
	require.True(t, isSealed(stored(t, rdb, "ns:late")))
}
