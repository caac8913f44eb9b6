package migrate_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/testkeyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// handleOf is a keyset whose key has an id that was chosen.
func handleOf(t testing.TB, id uint32) *keyset.Handle {
	t.Helper()
	ks := testkeyset.KeysetMaterial(sealtest.Handle(t))
	ks.PrimaryKeyId, ks.Key[0].KeyId = id, id
	h, err := testkeyset.NewHandle(ks)
	require.NoError(t, err)
	return h
}

func passphrase(t testing.TB, text string) tink.AEADWithContext {
	t.Helper()
	t.Setenv("PASSPHRASE_"+text, text+" of more than enough letters")
	kek, err := aead.OpenKEK(t.Context(), "passphrase:env:PASSPHRASE_"+text)
	require.NoError(t, err)
	return kek
}

// Two keysets may have keys of the same id, and a passphrase has no id. A value sealed under the old key is not taken for
// sealed under the new one.
func TestResealDoesNotBelieveIDs(t *testing.T) {
	rdb := shared.Single.Client(t)
	for name, keys := range map[string][2]tink.AEADWithContext{
		"keyrings":    {sealtest.KeyringOf(t, handleOf(t, 1)), sealtest.KeyringOf(t, handleOf(t, 1))},
		"envelopes":   {sealtest.EnvelopeOf(t, sealtest.KeyringOf(t, handleOf(t, 1))), sealtest.EnvelopeOf(t, sealtest.KeyringOf(t, handleOf(t, 1)))},
		"passphrases": {sealtest.EnvelopeOf(t, passphrase(t, "one")), sealtest.EnvelopeOf(t, passphrase(t, "two"))},
	} {
		t.Run(name, func(t *testing.T) {
			ns := "belief-" + name
			require.NoError(t, migratetest.SealedStore(t, rdb, keys[0], ns).Set(t.Context(), "k", "v"))
			app := migratetest.SealedStore(t, rdb, keys[1], ns)
			config := migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: keys[1], OldKeys: keys[0]}
			r := run(t, rdb, config)
			require.EqualValues(t, 1, r.Written)
			require.True(t, r.Done(), "%+v", r)
			require.Equal(t, "v", value(t, app, "k"))
			config.OldKeys = nil
			require.True(t, run(t, rdb, config).Done())
			require.Equal(t, "v", value(t, app, "k"))
		})
	}
}

// A value that does not open is not done, also if it names a known key.
func TestAlreadySealedMustOpen(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, same, stranger := sealtest.KeyringOf(t, handleOf(t, 7)), sealtest.KeyringOf(t, handleOf(t, 7)), sealtest.Keyring(t)
		require.NoError(t, migratetest.SealedStore(t, rdb, a, ns).Set(t.Context(), "good", "v"))
		require.NoError(t, migratetest.SealedStore(t, rdb, a, "").Set(t.Context(), ns+":elsewhere", "v"))
		require.NoError(t, migratetest.SealedStore(t, rdb, same, ns).Set(t.Context(), "same", "v"))
		require.NoError(t, migratetest.SealedStore(t, rdb, stranger, ns).Set(t.Context(), "stranger", "v"))
		for _, o := range []migrate.Operation{migrate.Seal, migrate.Reseal} {
			r := run(t, rdb, migrate.Config{Operation: o, From: migrate.Space{Namespace: ns}, Keys: a, IgnoreUnreadable: true})
			require.EqualValues(t, 1, r.AlreadyDone, o)
			require.EqualValues(t, 2, r.Unreadable, o)
			require.EqualValues(t, 1, r.UnknownKey, o)
			require.False(t, r.Done(), o)
		}
	})
}
