package audit_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
)

// Key checks count apart, under their keys, and are opened with the values.
func TestKeyChecksCountApart(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	ctx := t.Context()
	ring := sealtest.Keyring(t)
	require.NoError(t, migratetest.SealedStore(t, rdb, ring, "shop").Set(ctx, "a", "v"))
	check, err := keycheck.New(ring, "shop")
	require.NoError(t, err)
	entry, err := check.Seal(ctx)
	require.NoError(t, err)
	require.NoError(t, rdb.Set(ctx, keycheck.StoredName("shop"), entry, 0).Err())
	for _, keys := range [][]tink.AEADWithContext{nil, {ring}} {
		r := audited(t, rdb, audit.Config{Keys: keys, Namespaces: []string{"shop"}})
		require.Equal(t, audit.KeyChecks{Values: 1}, r.KeyChecks)
		require.EqualValues(t, 1, r.Total.Sealed.Values)
		require.EqualValues(t, 2, r.Keys[0].Values)
		answer, why := r.AnythingPlaintext()
		require.Equal(t, audit.No, answer, why)
	}
	r := audited(t, rdb, audit.Config{Keys: []tink.AEADWithContext{sealtest.Keyring(t)}, Namespaces: []string{"shop"}})
	require.Equal(t, audit.KeyChecks{Values: 1, Unreadable: 1}, r.KeyChecks)
	answer, _ := r.AnythingPlaintext()
	require.Equal(t, audit.Unknown, answer)
	// Plaintext under the reserved name is plaintext.
	require.NoError(t, rdb.Set(ctx, keycheck.StoredName("shop"), "alice", 0).Err())
	answer, _ = audited(t, rdb, audit.Config{}).AnythingPlaintext()
	require.Equal(t, audit.Yes, answer)
}
