package migrate_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// Entries are under thousands of data keys, in any order, and the key service is slow. A run asks it for many data keys at a
// time. It asks for none more often than necessary, even if there are more data keys than are held.
func TestManyDataKeys(t *testing.T) {
	t.Parallel()
	const delay = 2 * time.Millisecond
	for i, c := range []struct {
		name     string
		dataKeys int
		entries  int
		held     int
		batch    int
		others   int // entries of something else in the database
		calls    int // at most, to open each entry once
	}{
		{"held", 5000, 20_000, 16384, 500, 0, 5000},
		// One for each data key of each of the eight parts of a batch, and some that are dropped too early. Half of the
		// entries have a data key that is not held, but it is not one for each of them.
		{"more than are held, near each other", 500, 20_000, 250, 5000, 0, 8*500 + 1000},
		// A call of SCAN names a few hundred of them.
		{"among many others", 500, 20_000, 250, 5000, 200_000, 3500},
		// Hardly any batch has two of the same data key.
		{"more than are held", 5000, 10_000, 1024, 500, 0, 10_000},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			// How many a call of SCAN names depends on what else is there.
			opts, ctx := shared.Single.ClientOptions(), t.Context()
			opts.DB = 160 + i
			rdb := redis.NewClient(opts)
			t.Cleanup(func() { _ = rdb.Close() })
			require.NoError(t, rdb.FlushDB(ctx).Err())
			const some = 10_000
			for n := 0; n < c.others; n += some {
				require.NoError(t, rdb.Eval(ctx, "for i = 1, ARGV[2] do redis.call('SET', 'other:' .. ARGV[1] + i, 'x') end return 1", nil, n, some).Err())
			}
			const ns = "datakeys"
			kms := aeadtest.NewKeyService(t)
			random := rand.New(rand.NewPCG(5, 6))
			order := random.Perm(c.entries)
			per := c.entries / c.dataKeys
			for i := range c.dataKeys {
				e, err := aead.NewEnvelope(ctx, kms)
				require.NoError(t, err)
				app := migratetest.SealedStore(t, rdb, e, ns)
				for _, k := range order[i*per : (i+1)*per] {
					require.NoError(t, app.Set(ctx, fmt.Sprint("k", k), fmt.Sprint("value ", k)))
				}
				require.NoError(t, e.Close())
			}
			require.Equal(t, c.dataKeys, kms.Encrypts())
			kms.Rotate(t)
			kms.Delay(delay)
			fresh := func() *aead.Envelope {
				e, err := aead.NewEnvelope(ctx, kms, aead.WithDataKeyCache(c.held))
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, e.Close()) })
				return e
			}
			asked := func(what string, do func()) {
				t.Helper()
				before, began := kms.Decrypts(), time.Now()
				do()
				calls, took := kms.Decrypts()-before, time.Since(began)
				t.Logf("%s: %d calls for %d entries under %d data keys, %d at once, in %v", what, calls, c.entries, c.dataKeys, kms.MostAtOnce(), took)
				require.LessOrEqual(t, calls, c.calls+c.calls/50+2, what)
				require.GreaterOrEqual(t, calls, c.dataKeys)
			}

			asked("audit", func() {
				r := auditedBy(small(ctx, c.batch), t, rdb, audit.Config{Prefix: ns + ":", Keys: []tink.AEADWithContext{fresh()}, Namespaces: []string{ns}})
				require.EqualValues(t, c.entries, r.Total.Sealed.Values)
				require.Zero(t, r.Total.Unreadable.Values)
			})
			e := fresh()
			asked("reseal", func() {
				r := runBy(small(ctx, c.batch), t, rdb, migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: e})
				require.True(t, r.Done(), "%+v", r)
				require.EqualValues(t, c.entries, r.Written)
			})
			require.LessOrEqual(t, kms.MostAtOnce(), 16, "no storm")
			require.Greater(t, kms.MostAtOnce(), 4, "not one after the other")
			// A second run opens no value that is sealed under the present key.
			before := kms.Decrypts()
			r := run(t, rdb, migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: e})
			require.EqualValues(t, c.entries, r.AlreadyDone)
			require.LessOrEqual(t, kms.Decrypts()-before, 1)
			kms.DestroyOldKeys(t)
			app := migratetest.SealedStore(t, rdb, fresh(), ns)
			for i := range c.entries {
				require.Equal(t, fmt.Sprint("value ", i), value(t, app, fmt.Sprint("k", i)))
			}
		})
	}
}
