package migrate_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// loginReply is the reply of a server that does not accept the password at this moment.
type loginReply struct{}

func (loginReply) Error() string {
	return "WRONGPASS invalid username-password pair or user is disabled."
}
func (loginReply) RedisError() {}

// refusingConnection returns a client whose n-th connection and the next are refused. It needs a new connection for each command and pipeline.
// connections returns the number of connections.
func refusingConnection(t *testing.T, srv *redistest.Server, n int64) (rdb *redis.Client, connections func() int64) {
	t.Helper()
	var opened atomic.Int64
	o := srv.ClientOptions()
	o.ConnMaxIdleTime, o.MaxRetries = time.Nanosecond, -1
	o.OnConnect = func(context.Context, *redis.Conn) error {
		if i := opened.Add(1); i == n || i == n+1 { // go-redis tries two connections
			return loginReply{}
		}
		return nil
	}
	rdb = redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb, opened.Load
}

// A server that refuses one connection of a run loses no entry. It leaves no entry out of a run that succeeds.
func TestRefusedConnectionOfAMigration(t *testing.T) {
	t.Parallel()
	const entries = 3
	for name, config := range map[string]migrate.Config{
		"in place": {Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}},
		"moved":    {Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, To: &migrate.Space{Namespace: "to"}, DeleteOld: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := redistest.Start(t)
			admin, ctx := srv.Client(t), t.Context()
			config.Keys = sealtest.Keyring(t)
			target := config.From.Namespace
			if config.To != nil {
				target = config.To.Namespace
			}
			sealed := migratetest.SealedStore(t, admin, config.Keys, target)
			n := int64(1)
			for ; ; n++ {
				require.NoError(t, admin.FlushAll(ctx).Err())
				fill(t, admin, "ns", entries)
				rdb, connections := refusingConnection(t, srv, n)
				report, err := migratetest.Unproven(ctx, rdb, config)
				for i := range entries {
					v, opens := sealed.Get(ctx, fmt.Sprint("k", i))
					plain := admin.Get(ctx, migratetest.Name("ns", i)).Val()
					if err == nil && report.Done() || plain != fmt.Sprint("value ", i) {
						require.NoError(t, opens, "connection %d, run: %v", n, err)
						require.Equal(t, fmt.Append(nil, "value ", i), v)
					}
				}
				if connections() < n {
					require.NoError(t, err)
					require.True(t, report.Done())
					break
				}
			}
			require.Greater(t, n, int64(10))
		})
	}
}

// An audit over a server that refuses one connection counts every value as it is, or fails.
func TestRefusedConnectionOfAnAudit(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	admin, ctx, keys := srv.Client(t), t.Context(), sealtest.Keyring(t)
	fill(t, admin, "ns", 2)
	require.NoError(t, migratetest.SealedStore(t, admin, keys, "ns").Set(ctx, "sealed", "value"))
	want := audited(t, admin, audit.Config{Namespace: "ns"}).Total
	require.EqualValues(t, 2, want.Plaintext.Values)
	require.EqualValues(t, 1, want.Sealed.Values)
	n := int64(1)
	for ; ; n++ {
		rdb, connections := refusingConnection(t, srv, n)
		report, err := audit.Run(ctx, rdb, audit.Config{Namespace: "ns"})
		if err == nil && report.Complete {
			require.Equal(t, want, report.Total, "connection %d", n)
		}
		if connections() < n {
			require.NoError(t, err)
			require.True(t, report.Complete)
			break
		}
	}
	require.Greater(t, n, int64(5))
}
