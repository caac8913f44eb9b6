package audit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
)

// Plaintext behind a planted header does not count as sealed, although nothing is opened.
func TestPlaintextBehindAHeader(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	ctx := t.Context()
	require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.Keyring(t), "shop").Set(ctx, "a", "v"))
	require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.Envelope(t), "shop").Set(ctx, "b", "v"))
	answer, why := audited(t, rdb, audit.Config{}).AnythingPlaintext()
	require.Equal(t, audit.No, answer, why)
	for _, text := range []string{"alice@example.com and some more of her data", `{"user":"alice","card":"4111"}`, "short", ""} {
		require.NoError(t, rdb.Set(ctx, "shop:planted", "\xC1\x5C\x01\x01\x01\x00"+text, 0).Err())
		r := audited(t, rdb, audit.Config{})
		require.EqualValues(t, 1, r.Total.UnknownFormat.Values, text)
		answer, _ = r.AnythingPlaintext()
		require.Equal(t, audit.Unknown, answer, text)
	}
}

// A header that names a key and does not open does not count as a value under that key. The reason names a remedy.
func TestPlantedKeyName(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	ctx := t.Context()
	both, old, _ := sealtest.Rotated(t, sealtest.Handle(t))
	ring := sealtest.KeyringOf(t, both)
	require.NoError(t, migratetest.SealedStore(t, rdb, ring, "shop").Set(ctx, "a", "v"))
	c := audit.Conditions{Keyset: ring.Keys(), NotPrimarySince: time.Now().Add(-100 * time.Hour)}
	planted := append([]byte("\xC1\x5C\x01\x01\x01\x00\x01"), byte(old>>24), byte(old>>16), byte(old>>8), byte(old))
	planted = append(planted, strings.Repeat("\xfe", 40)...)
	require.NoError(t, rdb.Set(ctx, "shop:planted", planted, 0).Err())
	answer, why := audited(t, rdb, audit.Config{}).MayDestroy(old, c)
	require.Equal(t, audit.No, answer)
	require.Contains(t, why[0], "delete any that do not open")
	opened := audit.Config{Keys: []tink.AEADWithContext{ring}, Namespaces: []string{"shop"}}
	r := audited(t, rdb, opened)
	answer, why = r.MayDestroy(old, c)
	require.Equal(t, audit.Unknown, answer)
	require.Contains(t, strings.Join(why, "\n"), "or the values are planted (delete these")
	require.NoError(t, rdb.Del(ctx, "shop:planted").Err())
	answer, why = audited(t, rdb, opened).MayDestroy(old, c)
	require.Equal(t, audit.Yes, answer, why)
}

// Values under a disabled key do not open. This does not make them planted: the key may not be destroyed.
func TestValuesUnderADisabledKey(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	h := sealtest.Handle(t)
	require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.KeyringOf(t, h), "shop").Set(t.Context(), "a", "v"))
	both, old, _ := sealtest.Rotated(t, h)
	m := keyset.NewManagerFromHandle(both)
	require.NoError(t, m.Disable(old))
	both, err := m.Handle()
	require.NoError(t, err)
	ring := sealtest.KeyringOf(t, both)
	r := audited(t, rdb, audit.Config{Keys: []tink.AEADWithContext{ring}, Namespaces: []string{"shop"}})
	require.EqualValues(t, 1, r.Total.Unreadable.Values)
	answer, why := r.MayDestroy(old, audit.Conditions{Keyset: ring.Keys(), NotPrimarySince: time.Now().Add(-100 * time.Hour)})
	require.Equal(t, audit.No, answer, why)
	require.Contains(t, why[0], "which is disabled")
	require.NotContains(t, strings.Join(why, "\n"), "delete")
}
