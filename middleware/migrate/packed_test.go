package migrate_test

import (
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/wire"
	"github.com/sealcache/sealcache/middleware/migrate"
)

func prfSet(t testing.TB) *prf.Set {
	t.Helper()
	h, err := keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate())
	require.NoError(t, err)
	set, err := prf.NewPRFSet(h)
	require.NoError(t, err)
	return set
}

// A new key leaves hidden names, sealed expiries, tags, compression and padding as they are.
func TestResealKeepsHowValuesArePacked(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		before, after, set := sealtest.Envelope(t), sealtest.Envelope(t), prfSet(t)
		text := strings.Repeat("text ", 1000)
		for name, hide := range map[string]middleware.Option{"hidden": middleware.WithHiddenKeys(set), "one-way": middleware.WithOneWayKeys(set)} {
			ns := ns + "-" + name
			opts := []middleware.Option{hide, middleware.WithAuthenticatedExpiry(), middleware.WithPadding(), middleware.WithCompression(0)}
			require.NoError(t, migratetest.SealedStore(t, rdb, before, ns, opts...).Set(t.Context(), "k", text,
				store.WithExpiration(time.Hour), store.WithTags([]string{"t"})))
			config := migrate.Config{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, Keys: after, OldKeys: before}
			r := run(t, rdb, config)
			require.EqualValues(t, 1, r.Written)
			require.True(t, r.Done(), "%+v", r)
			app := migratetest.SealedStore(t, rdb, after, ns, opts...)
			got, ttl, err := app.GetWithTTL(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, text, got)
			require.Greater(t, ttl, 59*time.Minute)
			require.NoError(t, app.Invalidate(t.Context(), store.WithInvalidateTags([]string{"t"})))
			_, err = app.Get(t.Context(), "k")
			require.ErrorIs(t, err, store.NotFound{})
		}
	})
}

// The sealed end of a value is that of its plaintext, too. A TTL that was removed or is too long does not prolong its life. A
// value past its end does not come back.
func TestUnsealKeepsTheSealedEnd(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a := sealtest.Envelope(t)
		seals, err := box.New(a, wire.CacheValue, ns)
		require.NoError(t, err)
		hour := time.Now().Add(time.Hour)
		put := func(key string, end time.Time, ttl time.Duration) []byte {
			h := wire.Header{Kind: wire.CacheValue, Type: wire.String, Flags: wire.Expires, End: end.UnixMilli()}
			sealed, err := seals.Seal(t.Context(), nil, h, []byte("v"), key)
			require.NoError(t, err)
			require.NoError(t, rdb.Set(t.Context(), ns+":"+key, sealed, ttl).Err())
			return sealed
		}
		life := func(name string) time.Duration { return rdb.PTTL(t.Context(), name).Val() }
		from := migrate.Space{Namespace: ns, Prefix: "k:"}
		for _, to := range []*migrate.Space{nil, {Namespace: ns, Prefix: "new:"}} {
			put("k:none", hour, 0)
			put("k:long", hour, 2*time.Hour)
			put("k:short", hour, time.Minute)
			past := put("k:past", time.Now().Add(-time.Minute), 0)
			r := run(t, rdb, migrate.Config{Operation: migrate.Unseal, From: from, To: to, Keys: a})
			require.EqualValues(t, 3, r.Written)
			require.EqualValues(t, 1, r.Expired)
			require.EqualValues(t, 1, r.NotChanged())
			require.Contains(t, text(t, r), "expired (the expiry time is sealed in the value)")
			prefix := ns + ":k:"
			if to != nil {
				prefix = ns + ":new:"
				require.Zero(t, rdb.Exists(t.Context(), prefix+"past").Val())
			}
			require.Equal(t, string(past), rdb.Get(t.Context(), ns+":k:past").Val())
			for name, most := range map[string]time.Duration{"none": time.Hour, "long": time.Hour, "short": time.Minute} {
				require.Equal(t, "v", rdb.Get(t.Context(), prefix+name).Val())
				require.LessOrEqual(t, life(prefix+name), most, name)
				require.Greater(t, life(prefix+name), most-time.Minute, name)
			}
			require.NoError(t, rdb.Del(t.Context(), ns+":k:past").Err())
		}
	})
}

// Unseal unpacks values. A hidden name stays with its value, since the new name would need the PRF key.
func TestUnsealUnpacks(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a := sealtest.Envelope(t)
		text := strings.Repeat("text ", 1000)
		s := migratetest.SealedStore(t, rdb, a, ns, middleware.WithAuthenticatedExpiry(), middleware.WithPadding(), middleware.WithFastCompression(0))
		require.NoError(t, s.Set(t.Context(), "k", text, store.WithExpiration(time.Hour), store.WithTags([]string{"t"})))
		r := run(t, rdb, migrate.Config{Operation: migrate.Unseal, From: migrate.Space{Namespace: ns}, Keys: a})
		require.EqualValues(t, 1, r.Written)
		require.Equal(t, text, rdb.Get(t.Context(), ns+":k").Val())

		hidden := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(prfSet(t)))
		require.NoError(t, hidden.Set(t.Context(), "secret", text))
		for _, c := range []migrate.Config{
			{Operation: migrate.Unseal, From: migrate.Space{Namespace: ns}, Keys: a},
			{Operation: migrate.Reseal, From: migrate.Space{Namespace: ns}, To: &migrate.Space{Namespace: ns + "-new"}, Keys: a},
		} {
			r := run(t, rdb, c)
			require.EqualValues(t, 1, r.UnknownFormat)
			require.False(t, r.Done())
			got, err := hidden.Get(t.Context(), "secret")
			require.NoError(t, err)
			require.Equal(t, text, got)
		}
	})
}
