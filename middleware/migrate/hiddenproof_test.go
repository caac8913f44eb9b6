package migrate_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// PRF keys that are not the application's would hide names where the application does not find them, and one-way names could
// not be restored. Nothing is written before an entry proves them.
func TestPRFKeysAreProven(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx, a, keys, other := t.Context(), sealtest.Envelope(t), newPRFKeys(t, 2), newPRFKeys(t, 1)
		for name, oneWay := range map[string]bool{"hidden": false, "oneway": true} {
			ns := ns + "-" + name
			options := func(keys *prfKeys, i int) middleware.Option {
				if oneWay {
					return middleware.WithOneWayKeys(keys.set(t, i))
				}
				return middleware.WithHiddenKeys(keys.set(t, i))
			}
			app := migratetest.SealedStore(t, rdb, a, ns, options(keys, 0))
			require.NoError(t, app.Check(ctx))
			require.NoError(t, rdb.Set(ctx, ns+":plain", "p", 0).Err())
			config := func(keys *prfKeys, i int) migrate.Config {
				c := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: a, As: migrate.AsString}
				if oneWay {
					c.OneWayKeys = keys.set(t, i)
				} else {
					c.HiddenKeys = keys.set(t, i)
				}
				return c
			}
			refused := func(want error, c migrate.Config) {
				t.Helper()
				_, err := migrate.Run(ctx, rdb, c)
				require.ErrorIs(t, err, want)
				require.Equal(t, "p", rdb.Get(ctx, ns+":plain").Val())
			}
			refused(migrate.ErrUnproven, config(keys, 0)) // the key check proves Keys only
			refused(migrate.ErrUnproven, config(other, 0))

			require.NoError(t, app.Set(ctx, "proof", "v"))
			refused(migrate.ErrWrongKeys, config(other, 0))
			wrong := config(other, 0)
			wrong.AllowUnproven = true
			refused(migrate.ErrWrongKeys, wrong)
			wrong = config(other, 0)
			wrong.Proof = "proof"
			refused(migrate.ErrConfig, wrong)
			wrong = config(other, 0)
			wrong.IgnoreUnreadable = true
			refused(migrate.ErrUnproven, wrong)
			dry := config(other, 0)
			dry.DryRun = true
			r, err := migrate.Run(ctx, rdb, dry)
			require.NoError(t, err)
			require.Contains(t, r.Warnings, "the real run would refuse to start: no hidden name in Redis was made with the given PRF keys")

			proven := config(keys, 1) // the entry of Proof lies under the other key of the set
			proven.Proof = "proof"
			_, err = migrate.Run(ctx, rdb, proven)
			require.NoError(t, err)
			require.Zero(t, rdb.Exists(ctx, ns+":plain").Val())
			require.NoError(t, rdb.Set(ctx, ns+":later", "p2", 0).Err())
			sameIDs := config(keys, 0)
			if set := withSameIDs(t, keys.set(t, 0)); oneWay {
				sameIDs.OneWayKeys = set
			} else {
				sameIDs.HiddenKeys = set
			}
			_, err = migrate.Run(ctx, rdb, sameIDs)
			require.ErrorIs(t, err, map[bool]error{false: migrate.ErrWrongKeys, true: migrate.ErrUnproven}[oneWay])
			require.Equal(t, "p2", rdb.Get(ctx, ns+":later").Val())
			_, err = migrate.Run(ctx, rdb, config(keys, 0))
			if oneWay { // only the key of an entry proves it
				require.ErrorIs(t, err, migrate.ErrUnproven)
				continue
			}
			require.NoError(t, err)
			require.Zero(t, rdb.Exists(ctx, ns+":later").Val())
		}
	})
}

// withSameIDs returns other PRF keys under the ids of a set.
func withSameIDs(t *testing.T, set *prf.Set) *prf.Set {
	t.Helper()
	other := &prf.Set{PrimaryID: set.PrimaryID, PRFs: map[uint32]prf.PRF{}}
	for id := range set.PRFs {
		k := newPRFKeys(t, 1)
		other.PRFs[id] = k.set(t, 0).PRFs[k.ids[0]]
	}
	return other
}
