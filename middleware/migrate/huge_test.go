package migrate_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// An attacker plants huge entries under the names of the project's entries. A run does not read them.
func TestHugeEntriesAreNotRead(t *testing.T) {
	t.Parallel()
	ctx, server := t.Context(), redistest.Start(t)
	rdb, a := server.Client(t), sealtest.Keyring(t)
	require.NoError(t, rdb.Set(ctx, "ns:k", "v", 0).Err())
	huge := strings.Repeat("\xC1", 16<<20)
	c := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: a, AllowUnproven: true}
	refuses := func(c migrate.Config, text string) {
		t.Helper()
		sent := server.Sent(t)
		_, err := migrate.Run(ctx, rdb, c)
		require.ErrorContains(t, err, text)
		require.Less(t, server.Sent(t)-sent, int64(1<<20))
	}

	require.NoError(t, rdb.Set(ctx, keycheck.StoredName("ns"), huge, 0).Err())
	refuses(c, "sealcache.key-check has more than 65536 bytes (delete it)")
	require.NoError(t, rdb.Del(ctx, keycheck.StoredName("ns")).Err())

	require.NoError(t, rdb.Set(ctx, "ns:huge", huge, 0).Err())
	proved := c
	proved.Proof, proved.AllowUnproven, proved.MaxValueBytes = "huge", false, 1<<16
	refuses(proved, "larger than Config.MaxValueBytes (name a smaller entry)")

	require.NoError(t, rdb.HSet(ctx, rediswalk.RunsName, strings.Repeat("1", 16), huge).Err())
	sent := server.Sent(t)
	r := migratetest.Migrated(ctx, t, rdb, c)
	require.EqualValues(t, 1, r.Written)
	require.Less(t, server.Sent(t)-sent, int64(1<<20))
}

// An attacker plants huge entries under the new names of a move. They are conflicts, and are not read.
func TestHugeEntriesUnderNewNamesAreNotRead(t *testing.T) {
	t.Parallel()
	ctx, server := t.Context(), redistest.Start(t)
	rdb := server.Client(t)
	require.NoError(t, rdb.MSet(ctx, "old:a", "v", "old:b", "v", "new:a", strings.Repeat("x", 16<<20)).Err())
	c := migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "old"}, To: &migrate.Space{Namespace: "new"},
		Keys: sealtest.Keyring(t), AllowUnproven: true, DeleteOld: true,
	}
	for _, c.DryRun = range []bool{true, false} {
		sent := server.Sent(t)
		r, err := migrate.Run(ctx, rdb, c)
		require.NoError(t, err)
		require.EqualValues(t, 1, r.Conflicts)
		require.EqualValues(t, 1, r.Written)
		require.Less(t, server.Sent(t)-sent, int64(1<<20))
	}
	require.Equal(t, "v", rdb.Get(ctx, "old:a").Val())
}

// The same holds for hidden names, which an attacker may see in Redis.
func TestHugeEntriesUnderHiddenNamesAreNotRead(t *testing.T) {
	t.Parallel()
	ctx, server := t.Context(), redistest.Start(t)
	rdb, set := server.Client(t), newPRFKeys(t, 1).set(t, 0)
	hidden, err := audit.Pseudonyms("ns", "a", set)
	require.NoError(t, err)
	require.NoError(t, rdb.MSet(ctx, "ns:a", "v", "ns:b", "v", "ns:"+hidden[0], strings.Repeat("x", 16<<20)).Err())
	sent := server.Sent(t)
	r, err := migrate.Run(ctx, rdb, migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t), HiddenKeys: set, AllowUnproven: true,
	})
	require.NoError(t, err)
	require.EqualValues(t, 1, r.Conflicts)
	require.EqualValues(t, 1, r.Written)
	require.Less(t, server.Sent(t)-sent, int64(1<<20))
	require.Equal(t, "v", rdb.Get(ctx, "ns:a").Val())
}
