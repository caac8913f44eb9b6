package migrate_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/migrate"
)

// What the application sealed itself tells whether a run has its keys and its namespace, before anything is written.
func TestNothingIsWrittenUnderWrongKeys(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a := envelope(t)
		require.NoError(t, sealedStore(t, rdb, a, ns).Set(t.Context(), "sealed", "v"))
		require.NoError(t, sealedStore(t, rdb, a, ns+"-to").Set(t.Context(), "sealed", "v"))
		fill(t, rdb, ns, 100)
		space, to := migrate.Space{Namespace: ns}, migrate.Space{Namespace: ns + "-to"}
		for what, c := range map[string]migrate.Config{
			"a namespace taken for a prefix": {Operation: migrate.Seal, From: migrate.Space{Prefix: ns + ":"}, Keys: a},
			"another keyset":                 {Operation: migrate.Seal, From: space, Keys: keyring(t)},
			"another envelope":               {Operation: migrate.Seal, From: space, Keys: envelope(t)},
			"bound to another place":         {Operation: migrate.Seal, From: migrate.Space{Prefix: ns + ":"}, To: &migrate.Space{Namespace: ns}, Keys: keyring(t)},
			"reseal":                         {Operation: migrate.Reseal, From: space, Keys: keyring(t), OldKeys: envelope(t)},
			"unseal":                         {Operation: migrate.Unseal, From: space, Keys: keyring(t)},
			"where names move to":            {Operation: migrate.Seal, From: migrate.Space{Namespace: ns, Prefix: "k"}, To: &to, Keys: keyring(t)},
		} {
			for _, c.DryRun = range []bool{true, false} {
				r, err := migrate.Run(t.Context(), rdb, c)
				require.ErrorIs(t, err, migrate.ErrNothingOpens, what)
				require.NotContains(t, err.Error(), ns)
				require.False(t, r.Complete)
				require.Zero(t, r.Written)
			}
		}
		for i := range 100 {
			require.False(t, isSealed(stored(t, rdb, name(ns, i))))
		}
		right := migrate.Config{Operation: migrate.Seal, From: space, Keys: a}
		r := run(t, rdb, right)
		require.True(t, r.Done())
		require.EqualValues(t, 1, r.Opened)

		// Who knows that what is there is of no use any more can say so.
		require.NoError(t, rdb.Set(t.Context(), ns+":clear", "v", 0).Err())
		wrong := migrate.Config{Operation: migrate.Seal, From: space, Keys: envelope(t), AllowUnopened: true}
		r = run(t, rdb, wrong)
		require.EqualValues(t, 1, r.Written)
		require.EqualValues(t, 101, r.UnknownKey)
	})
}

// One that opens is enough: others may be damaged.
func TestOneThatOpensIsEnough(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, stranger := keyring(t), keyring(t)
		for _, k := range []string{"1", "2", "3"} {
			require.NoError(t, sealedStore(t, rdb, stranger, ns).Set(t.Context(), k, "v"))
		}
		require.NoError(t, sealedStore(t, rdb, a, ns).Set(t.Context(), "good", "v"))
		require.NoError(t, rdb.Set(t.Context(), ns+":clear", "v", 0).Err())
		r := run(t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a})
		require.EqualValues(t, 1, r.Written)
		require.EqualValues(t, 3, r.UnknownKey)
	})
}
