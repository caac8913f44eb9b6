package audit_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
)

// Types are ignored by name, and plaintext that begins like a HyperLogLog is plaintext.
func TestIgnoredTypes(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	ctx := t.Context()
	require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.Keyring(t), "shop").Set(ctx, "a", "v"))
	require.NoError(t, rdb.HSet(ctx, "hash", "f", "v").Err())
	require.NoError(t, rdb.RPush(ctx, "list", "v").Err())
	answer, why := audited(t, rdb, audit.Config{IgnoreTypes: []string{"hash"}}).AnythingPlaintext()
	require.Equal(t, audit.Unknown, answer)
	require.Contains(t, strings.Join(why, "\n"), "add list to Config.IgnoreTypes")
	require.NotContains(t, strings.Join(why, "\n"), "hash")
	ignoring := audited(t, rdb, audit.Config{IgnoreTypes: []string{"hash", "list", "set"}})
	answer, why = ignoring.AnythingPlaintext()
	require.Equal(t, audit.No, answer, why)
	require.Contains(t, ignoring.Scope(), "; NOT entries of type hash, which were ignored (1); NOT entries of type list, which were ignored (1);")
	require.NotContains(t, ignoring.Scope(), "type set")
	for _, bad := range []string{"", "string", "HyperLogLog", "hsah", "Hash", "json"} {
		_, err := audit.Run(ctx, rdb, audit.Config{IgnoreTypes: []string{bad}})
		require.ErrorIs(t, err, audit.ErrConfig)
	}
	require.NoError(t, rdb.Set(ctx, "hidden", "HYLL\x01\x00\x00\x00 alice@example.com and more", 0).Err())
	answer, _ = audited(t, rdb, audit.Config{IgnoreTypes: []string{"hash", "list"}}).AnythingPlaintext()
	require.Equal(t, audit.Yes, answer)
}
