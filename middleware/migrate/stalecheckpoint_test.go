package migrate_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// A checkpoint is refused after a run that has undone its work, and after a flush. It is not refused because of the same
// job, other names, or a dry run.
func TestStaleCheckpoint(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	const n = 600
	a := sealtest.Keyring(t)
	seal := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: a}
	unseal := migrate.Config{Operation: migrate.Unseal, From: migrate.Space{Namespace: "ns"}, Keys: a}
	for name, c := range map[string]struct {
		between func(t *testing.T)
		refused bool
	}{
		"an opposite run":                 {func(t *testing.T) { run(t, rdb, unseal) }, true},
		"an opposite run of a part":       {func(t *testing.T) { u := unseal; u.From.Prefix = "k1"; run(t, rdb, u) }, true},
		"an opposite run of the database": {func(t *testing.T) { u := unseal; u.From, u.IgnoreUnreadable = migrate.Space{}, true; run(t, rdb, u) }, true},
		"a flush": {func(t *testing.T) {
			require.NoError(t, rdb.FlushAll(t.Context()).Err())
			fill(t, rdb, "ns", n)
		}, true},
		"nothing":      {func(*testing.T) {}, false},
		"the same job": {func(t *testing.T) { run(t, rdb, seal) }, false},
		"a dry run":    {func(t *testing.T) { u := unseal; u.DryRun = true; run(t, rdb, u) }, false},
		"other names": {func(t *testing.T) {
			fill(t, rdb, "other", 10)
			u := unseal
			u.From.Namespace = "other"
			run(t, rdb, u)
		}, false},
	} {
		t.Run(name, func(t *testing.T) { // one after the other: they use the same names
			require.NoError(t, rdb.FlushAll(t.Context()).Err())
			fill(t, rdb, "ns", n)
			seal.Checkpoint = filepath.Join(t.TempDir(), "checkpoint")
			interrupted(t, rdb, seal, n)
			checkpoint := seal.Checkpoint
			seal.Checkpoint = ""
			c.between(t)
			seal.Checkpoint = checkpoint
			r, err := migratetest.Unproven(t.Context(), rdb, seal)
			if c.refused {
				require.ErrorIs(t, err, migrate.ErrCheckpoint)
				require.False(t, r.Complete)
				require.FileExists(t, checkpoint)
				require.NoError(t, os.Remove(checkpoint))
				r, err = migratetest.Unproven(t.Context(), rdb, seal)
			}
			require.NoError(t, err)
			require.True(t, r.Done(), "%+v", r)
			for i := range n {
				require.True(t, isSealed(stored(t, rdb, nameInNS(i))))
			}
		})
	}
}

func nameInNS(i int) string { return name("ns", i) }

// A run that Redis does not let record itself says so, and refuses to keep a checkpoint.
func TestRunsThatCannotBeRecorded(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{User: "mover", Password: "secret", Rules: "~ns:* +@all"})
	rdb := server.Client(t)
	require.NoError(t, rdb.Set(t.Context(), "ns:a", "v", 0).Err())
	config := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns", Prefix: "a"}, Keys: sealtest.Keyring(t), Checkpoint: filepath.Join(t.TempDir(), "c")}
	_, err := migratetest.Unproven(t.Context(), rdb, config)
	require.ErrorContains(t, err, rediswalk.RunsName)
	config.Checkpoint = ""
	r, _ := migratetest.Unproven(t.Context(), rdb, config)
	require.NotEmpty(t, r.Warnings)
	require.Contains(t, r.Warnings[0], rediswalk.RunsName)
}
