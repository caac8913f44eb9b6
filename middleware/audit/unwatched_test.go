package audit_test

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
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

// A proxy that returns fewer values than were asked for ends an audit with an error.
func TestTooFewFieldsOfATask(t *testing.T) {
	t.Parallel()
	addr := redistest.Answering(t, func(command string) string {
		name := "asynq:{q}:t:00000000-0000-0000-0000-000000000000"
		answers := map[string]string{"ping": "+PONG", "scan": fmt.Sprintf("*2\r\n$1\r\n0\r\n*1\r\n$%d\r\n%s", len(name), name), "type": "+hash", "hstrlen": ":0", "hlen": ":0", "hmget": "*0"}
		return cmp.Or(answers[command], "-ERR 42")
	})
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = rdb.Close() })
	_, err := audit.Run(tuned(t.Context(), rediswalk.Tuning{RetryFor: time.Millisecond}), rdb, audit.Config{})
	require.EqualError(t, err, "audit: HMGET returned 0 values for 8 fields")
}
