package audit_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
)

// An audit of a server that refuses INFO answers, and says that it was not watched.
func TestRefusedInfo(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	require.NoError(t, srv.Client(t).Set(t.Context(), "shop:1", "v", 0).Err())
	for _, refusals := range []map[string]string{
		{"info": "ERR command 'INFO' is blocked"},
		{"info": "ERR 42", "client": "ERR 43"},
		{"info all": "section (all) is not supported"},
	} {
		rdb := redis.NewClient(&redis.Options{Addr: redistest.Refusing(t, srv.Addr(), refusals)})
		t.Cleanup(func() { _ = rdb.Close() })
		r, err := audit.Run(t.Context(), rdb, audit.Config{Namespace: "shop"})
		require.NoError(t, err, refusals)
		require.True(t, r.Unwatched, refusals)
		require.EqualValues(t, 1, r.Total.Plaintext.Values)
		answer, _ := r.AnythingSealed()
		require.Equal(t, audit.Unknown, answer)
	}
}

// An audit at which one INFO is refused, as by a limit of the rate of calls, never says that all is well.
func TestRefusedInfoOnce(t *testing.T) {
	t.Parallel()
	srv, ctx := redistest.Start(t), t.Context()
	first := sealtest.Handle(t)
	both, old, _ := sealtest.Rotated(t, first)
	ring := sealtest.KeyringOf(t, both)
	require.NoError(t, migratetest.SealedStore(t, srv.Client(t), ring, "shop").Set(ctx, "a", "v"))
	o := *srv.ClientOptions()
	o.DB = 1
	other := redis.NewClient(&o)
	t.Cleanup(func() { _ = other.Close() })
	require.NoError(t, other.Set(ctx, "b", "plaintext", 0).Err())
	require.NoError(t, migratetest.SealedStore(t, other, sealtest.KeyringOf(t, first), "shop").Set(ctx, "a", "v"))
	conditions := audit.Conditions{Keyset: ring.Keys(), NotPrimarySince: time.Now().Add(-100 * time.Hour)}
	n := int64(1)
	for ; ; n++ {
		addr, calls := redistest.RefusingOnce(t, srv.Addr(), "info", n, "ERR max requests limit exceeded")
		rdb := redis.NewClient(&redis.Options{Addr: addr})
		t.Cleanup(func() { _ = rdb.Close() })
		r, err := audit.Run(ctx, rdb, audit.Config{})
		require.NoError(t, err, "a disturbance is repeated")
		answer, _ := r.AnythingPlaintext()
		require.NotEqual(t, audit.No, answer, "INFO %d", n)
		may, _ := r.MayDestroy(old, conditions)
		require.NotEqual(t, audit.Yes, may, "INFO %d", n)
		if calls() < n { // an undisturbed run
			require.Equal(t, []int{0, 1}, r.Databases)
			require.Equal(t, audit.Yes, answer)
			break
		}
	}
	require.Greater(t, n, int64(5))
}
