package migrate_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// A change of the PRF key deletes old names. Without this right, a run writes no copies. The application would change the old
// entries, and a later run would keep the copies.
func TestRenamingWithoutRights(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{User: "admin", Password: "secret", Rules: "~* +@all"})
	ctx, admin := t.Context(), server.Client(t)
	a, keys := sealtest.Envelope(t), newPRFKeys(t, 2)
	old := migratetest.SealedStore(t, admin, a, "ns", middleware.WithHiddenKeys(keys.set(t, 0)))
	const n = 3
	for i := range n {
		require.NoError(t, old.Set(ctx, fmt.Sprint("k", i), "v", store.WithExpiration(time.Hour)))
	}
	config := migrate.Config{
		Operation: migrate.Reseal, From: migrate.Space{Namespace: "ns"}, Keys: a, HiddenKeys: keys.set(t, 1), AllowUnproven: true,
	}
	without := func(command string) redis.UniversalClient {
		require.NoError(t, admin.Do(ctx, "acl", "setuser", command, "reset", "on", ">secret", "~*", "+@all", "-"+command).Err())
		o := *server.ClientOptions()
		o.Username, o.Password = command, "secret"
		c := redis.NewClient(&o)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	before := scanned(t, admin, "ns:*")
	for _, dry := range []bool{false, true} {
		c := config
		c.DryRun = dry
		_, err := migrate.Run(ctx, without("del"), c)
		require.ErrorContains(t, err, "DEL")
		require.Equal(t, before, scanned(t, admin, "ns:*"))
	}

	// Without tags, nothing else needs the right to PEXPIREAT.
	r, err := migrate.Run(ctx, without("pexpireat"), config)
	require.NoError(t, err)
	require.True(t, r.Done())
	after := scanned(t, admin, "ns:*")
	require.Len(t, after, n)
	for name := range after {
		require.NotContains(t, before, name)
		require.Positive(t, admin.PTTL(ctx, name).Val())
	}

	// A run that changes no names needs no right to delete.
	config.HiddenKeys = keys.only(t, 1)
	_, err = migrate.Run(ctx, without("del"), config)
	require.NoError(t, err)

	// Hidden names of another namespace are other names.
	config.To = &migrate.Space{Namespace: "other"}
	for _, dry := range []bool{true, false} {
		config.DryRun = dry
		_, err = migrate.Run(ctx, without("del"), config)
		require.ErrorContains(t, err, "Redis refuses DEL")
		require.Equal(t, after, scanned(t, admin, "ns:*"))
	}
}
