package migrate_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// Filters are application keys. One that cannot match is an error, and one that matched nothing is reported.
func TestFilters(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		ctx := t.Context()
		require.NoError(t, rdb.Set(ctx, ns+":rl:1", "1", 0).Err())
		require.NoError(t, rdb.Set(ctx, ns+":user:1", "alice", 0).Err())
		config := migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: ns}, Keys: sealtest.Keyring(t), Exclude: []string{"rl:"}}
		r := run(t, rdb, config)
		require.True(t, r.Done(), "%+v", r)
		require.EqualValues(t, 1, r.Excluded)
		require.EqualValues(t, 2, rdb.Incr(ctx, ns+":rl:1").Val())

		config.Exclude = []string{"rl:", ns + ":rl:"} // the second is a stored name
		r = run(t, rdb, config)
		require.False(t, r.Done())
		require.Equal(t, []string{ns + ":rl:"}, r.UnmatchedExcludes)
		var text strings.Builder
		require.NoError(t, r.WriteText(&text))
		require.Contains(t, text.String(), "NOTHING MATCHED")

		config.Exclude, config.Stored = []string{ns + ":rl:"}, true
		require.True(t, run(t, rdb, config).Done())
		for _, c := range []migrate.Config{
			{Exclude: []string{"rl:"}, Stored: true, From: config.From},
			{Exclude: []string{"user:"}, From: migrate.Space{Namespace: ns, Prefix: "rl:"}},
			{Exclude: []string{"rl"}, From: migrate.Space{Namespace: ns, Prefix: "rl:"}}, // everything
			{Exclude: []string{"x:"}, From: migrate.Space{Prefix: ns + ":"}},
		} {
			c.Operation, c.Keys = migrate.Seal, config.Keys
			r, err := migratetest.Unproven(ctx, rdb, c)
			require.ErrorIs(t, err, migrate.ErrConfig)
			require.NotContains(t, err.Error(), "rl")
			require.Nil(t, r)
		}

		// The audit has the same coordinates.
		report := audited(t, rdb, audit.Config{Namespace: ns, Exclude: []string{"rl:"}, GroupBy: []string{"user:"}})
		require.EqualValues(t, 1, report.Excluded)
		require.False(t, report.Unmatched())
		require.EqualValues(t, 1, report.Groups[0].Sealed.Values)
		answer, why := report.AnythingPlaintext()
		require.Equal(t, audit.No, answer, why)
		report = audited(t, rdb, audit.Config{Namespace: ns, Exclude: []string{ns + ":rl:"}, OtherApplications: []string{"zz:"}})
		require.True(t, report.Unmatched())
		require.Len(t, report.UnmatchedExcludes, 1)
		require.Len(t, report.UnmatchedApplications, 1)
		for _, c := range []audit.Config{
			{Namespace: ns, Stored: true, Exclude: []string{"rl:"}},
			{Prefix: ns + ":", Exclude: []string{"rl:"}},
			{Prefix: ns + ":", OtherApplications: []string{"crm:"}},
			{Namespace: ns, Stored: true, Prefix: "rl:"},
		} {
			_, err := audit.Run(ctx, rdb, c)
			require.ErrorIs(t, err, audit.ErrConfig)
		}
	})
}

// A client for a single node is refused at one node of a Cluster, by runs and audits.
func TestOneNodeOfACluster(t *testing.T) {
	t.Parallel()
	rdb := shared.Cluster.Nodes()[0].Client(t)
	for _, o := range []migrate.Operation{migrate.Seal, migrate.Reseal, migrate.Unseal} {
		_, err := migratetest.Unproven(t.Context(), rdb, migrate.Config{Operation: o, Keys: sealtest.Keyring(t), DryRun: true})
		require.ErrorIs(t, err, migrate.ErrClusterNode)
		require.ErrorIs(t, err, migrate.ErrConfig)
		require.ErrorContains(t, err, "redis+cluster://")
	}
	_, err := audit.Run(t.Context(), rdb, audit.Config{})
	require.ErrorIs(t, err, audit.ErrClusterNode)
	require.ErrorIs(t, err, audit.ErrConfig)
}

// A Cluster client is refused at a server without a Cluster, also if it does not ask the server for its slots.
func TestClusterClientWithoutACluster(t *testing.T) {
	t.Parallel()
	addr := redistest.Start(t).Addr()
	for _, o := range []*redis.ClusterOptions{
		{Addrs: []string{addr}},
		{ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) { // as redis.NewFailoverClusterClient
			return []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: []redis.ClusterNode{{Addr: addr}}}}, nil
		}},
	} {
		rdb := redis.NewClusterClient(o)
		t.Cleanup(func() { require.NoError(t, rdb.Close()) })
		_, err := migratetest.Unproven(t.Context(), rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t)})
		require.ErrorIs(t, err, migrate.ErrConfig)
		require.ErrorContains(t, err, "use a client of a single node or Sentinel")
		_, err = audit.Run(t.Context(), rdb, audit.Config{})
		require.ErrorIs(t, err, audit.ErrConfig)
		_, err = migrate.Plan(t.Context(), rdb, migrate.PlanConfig{})
		require.ErrorIs(t, err, migrate.ErrConfig)
	}
}

// Entries of other types that stay behind under the old names are left, and say so.
func TestOtherTypesStayBehind(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	require.NoError(t, rdb.Set(t.Context(), "old:a", "v", 0).Err())
	require.NoError(t, rdb.HSet(t.Context(), "old:hash", "f", "v").Err())
	r := run(t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Prefix: "old:"}, To: &migrate.Space{Namespace: "new"}, Keys: sealtest.Keyring(t)})
	require.EqualValues(t, 1, r.NotChanged())
	require.False(t, r.Done())
}

// A dry run fails where the run without DryRun would.
func TestDryRunProvesTheCommands(t *testing.T) {
	t.Parallel()
	for _, rules := range []string{"~* +@all -set", "~* +@all -evalsha -eval"} {
		server := redistest.StartWith(t, redistest.Options{User: "mover", Password: "secret", Rules: rules})
		_, err := migratetest.Unproven(t.Context(), server.Client(t), migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t), DryRun: true})
		require.ErrorContains(t, err, "a real run would fail, because Redis refuses EVAL, EVALSHA or SET", rules)
		require.Zero(t, server.Client(t).DBSize(t.Context()).Val())
	}

	// A server that cannot answer now has refused nothing.
	server := redistest.Start(t)
	o := server.ClientOptions()
	o.Addr = redistest.Refusing(t, server.Addr(), map[string]string{"evalsha": "LOADING Redis is loading the dataset in memory"})
	busy := redis.NewClient(o)
	t.Cleanup(func() { _ = busy.Close() })
	_, err := migratetest.Unproven(tuned(t.Context(), rediswalk.Tuning{RetryFor: time.Second}), busy, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t), DryRun: true})
	require.ErrorContains(t, err, "cannot test whether Redis allows EVAL, EVALSHA or SET: ")
	require.NotContains(t, err.Error(), "refuses")
}
