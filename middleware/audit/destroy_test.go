package audit_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// A key may be destroyed only if everything that could speak against it was asked.
func TestMayDestroy(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	ctx := t.Context()
	first := sealtest.Handle(t)
	both, old, now := sealtest.Rotated(t, first)
	newer := sealtest.KeyringOf(t, both)
	app := migratetest.SealedStore(t, rdb, sealtest.EnvelopeOf(t, newer), "shop")
	require.NoError(t, app.Set(ctx, "a", "v"))
	good := audit.Conditions{Keyset: newer.Keys(), NotPrimarySince: time.Now().Add(-2 * time.Hour), Reload: time.Hour}
	may := func(id uint32, c audit.Conditions) audit.Answer {
		a, why := audited(t, rdb, audit.Config{}).MayDestroy(id, c)
		require.Equal(t, a == audit.Yes, len(why) == 0)
		return a
	}
	require.Equal(t, audit.Yes, may(old, good))
	require.Equal(t, audit.No, may(now, good), "in use, and primary")

	c := good
	c.Keyset = nil
	require.Equal(t, audit.Unknown, may(old, c))
	c = good
	c.NotPrimarySince = time.Time{}
	require.Equal(t, audit.Unknown, may(old, c))
	c = good
	c.Reload = 3 * time.Hour
	require.Equal(t, audit.Unknown, may(old, c), "a process may not have noticed")
	c.Reload = 0
	require.Equal(t, audit.Unknown, may(old, c), "a data key may live for a day")

	require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.EnvelopeOf(t, nameless{KEK: sealtest.Keyring(t), Start: "kms:"}), "shop").Set(ctx, "unnamed", "v"))
	require.Equal(t, audit.Unknown, may(old, good), "a value that does not name its key may be under any")
	require.NoError(t, rdb.Del(ctx, "shop:unnamed").Err())
	require.Equal(t, audit.Yes, may(old, good))

	// Excluded values may be sealed under any key.
	doubt := func(c audit.Config, want string) {
		t.Helper()
		a, why := audited(t, rdb, c).MayDestroy(old, good)
		require.Equal(t, audit.Unknown, a)
		require.Contains(t, strings.Join(why, "\n"), want)
	}
	doubt(audit.Config{Prefix: "shop:"}, "without Config.Namespace and Config.Prefix")
	doubt(audit.Config{Prefix: "shpo:"}, "without Config.Namespace and Config.Prefix")
	require.NoError(t, rdb.HSet(ctx, "hash", "f", stored(t, rdb, "shop:a")).Err())
	doubt(audit.Config{}, "of type hash")
	a, _ := audited(t, rdb, audit.Config{IgnoreTypes: allTypes}).MayDestroy(old, good)
	require.Equal(t, audit.Yes, a)
	require.NoError(t, rdb.Del(ctx, "hash").Err())
	require.NoError(t, rdb.PFAdd(ctx, "visitors", "alice").Err())
	doubt(audit.Config{}, "HyperLogLogs, so they were not examined (exclude them with Config.OtherApplications)")
	a, _ = audited(t, rdb, audit.Config{OtherApplications: []string{"visitors"}}).MayDestroy(old, good)
	require.Equal(t, audit.Yes, a, "the remedy works")
	require.NoError(t, rdb.Del(ctx, "visitors").Err())

	// A key of another keyset: that of a key-encryption key whose keyset file wraps the application's, for instance.
	stranger := sealtest.KeyringOf(t, sealtest.Handle(t))
	require.Equal(t, audit.Unknown, may(stranger.Keys()[0].ID, good))
	c = good
	c.Keyset = append(slices.Clone(good.Keyset), aead.KeyInfo{ID: 99, Prefix: "RAW"})
	require.Equal(t, audit.Unknown, may(99, c), "it does not name itself in what it seals")
	require.Equal(t, audit.Yes, may(old, c))
	require.NoError(t, migratetest.SealedStore(t, rdb, stranger, "jobs").Set(ctx, "a", "v"))
	require.Equal(t, audit.Unknown, may(old, good), "a value names a key that is not in the keyset")
	require.NoError(t, rdb.Del(ctx, "jobs:a").Err())

	aws := "\x01\x02\x02\x00" + strings.Repeat("x", 180)
	require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.EnvelopeOf(t, nameless{KEK: sealtest.Keyring(t), Start: aws}), "shop").Set(ctx, "aws", "v"))
	require.Equal(t, audit.Unknown, may(old, good), "AWS KMS names no key of a keyset, though its bytes look so")
	require.NoError(t, rdb.Set(ctx, "named", "\xC1\x5C\x01\x01\x01\x00\x00\x00\x01\x2Cvault:v7:"+strings.Repeat("x", 600), 0).Err())
	r := audited(t, rdb, audit.Config{})
	require.EqualValues(t, 1, use(r, "KEK vault:v7"))

	require.NoError(t, rdb.FlushDB(ctx).Err())
	doubt(audit.Config{}, "check server and database")
	require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.KeyringOf(t, first), "shop").Set(ctx, "one", "v"))
	require.Equal(t, audit.No, may(old, good))
}

// A value that was sealed under a passphrase does not seem to name a key of a keyset, neither in an audit nor in Inspect.
// Reseal does not take it for a value that needs no change.
func TestPassphraseNamesNoKey(t *testing.T) {
	t.Setenv("MIGRATE_TEST_PASSPHRASE", "a long passphrase, for a test")
	rdb := redistest.Start(t).Client(t)
	ctx := t.Context()
	kek, err := aead.OpenKEK(ctx, "passphrase:env:MIGRATE_TEST_PASSPHRASE")
	require.NoError(t, err)
	require.NoError(t, migratetest.SealedStore(t, rdb, sealtest.EnvelopeOf(t, kek), "shop").Set(ctx, "a", "v"))
	r := audited(t, rdb, audit.Config{})
	require.Len(t, r.Keys, 1)
	require.False(t, r.Keys[0].HasID)
	require.Contains(t, r.Keys[0].Key, "KEK passphrase ")
	e, err := audit.Inspect(ctx, rdb, "shop:a")
	require.NoError(t, err)
	require.Equal(t, r.Keys[0].Key, e.Key)
	require.False(t, e.Info.Key.HasID)
	require.NotEmpty(t, e.Info.Key.Passphrase)

	old, now := sealtest.EnvelopeOf(t, kek), sealtest.EnvelopeOf(t, kek)
	require.NoError(t, migratetest.SealedStore(t, rdb, old, "shop").Set(ctx, "b", "v"))
	done := run(t, rdb, migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: "shop"}, Keys: now})
	require.EqualValues(t, 2, done.Written)
}

// A wrapped data key under a key without a prefix begins like Tink's prefix by chance, one time in 256. It does not prove
// that another key is unused.
func TestMayDestroyRawKey(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	ctx := t.Context()
	raw, err := keyset.NewHandle(tinkaead.AES256GCMNoPrefixKeyTemplate())
	require.NoError(t, err)
	ring := sealtest.KeyringOf(t, raw)
	both, _, _ := sealtest.Rotated(t, raw)
	c := audit.Conditions{Keyset: sealtest.KeyringOf(t, both).Keys(), NotPrimarySince: time.Now().Add(-100 * time.Hour)}
	for {
		e, err := aead.NewEnvelope(ctx, ring)
		require.NoError(t, err)
		require.NoError(t, migratetest.SealedStore(t, rdb, e, "").Set(ctx, "x", "v"))
		require.NoError(t, e.Close())
		if b := stored(t, rdb, "x"); b[10] == 1 {
			break
		}
	}
	r := audited(t, rdb, audit.Config{})
	require.True(t, r.Keys[0].HasID, "it looks so")
	a, why := r.MayDestroy(ring.Keys()[0].ID, c)
	require.Equal(t, audit.Unknown, a, why)
	require.Contains(t, strings.Join(why, "\n"), "seem to contain ids of keys that the given keyset lacks")
}
