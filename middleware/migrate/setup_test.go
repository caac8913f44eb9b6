package migrate_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// shared are servers that every test may use; each takes a separate prefix.
var shared redistest.Shared

func TestMain(m *testing.M) {
	redistest.SilenceClients() // faults are what some tests make
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if os.Getenv(childVariable) != "" {
		os.Exit(child())
	}
	code := shared.Run(m)
	if code == 0 {
		// A pool whose server died looks once a second whether it was closed.
		if err := goleak.Find(goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")); err != nil {
			fmt.Fprintln(os.Stderr, err) // slog.SetDefault has silenced package log
			code = 1
		}
	}
	os.Exit(code)
}

// on runs a test over a single node and over a Cluster, with its own namespace.
func on(t *testing.T, test func(t *testing.T, rdb redis.UniversalClient, ns string)) {
	t.Helper()
	ns := strings.NewReplacer("/", "-").Replace(t.Name())
	shared.On(t, func(t *testing.T, rdb redis.UniversalClient) { t.Helper(); test(t, rdb, ns) })
}

func run(t testing.TB, rdb redis.UniversalClient, c migrate.Config) *migrate.Report {
	t.Helper()
	return migratetest.Migrated(t.Context(), t, rdb, c)
}

func runBy(ctx context.Context, t testing.TB, rdb redis.UniversalClient, c migrate.Config) *migrate.Report {
	t.Helper()
	return migratetest.Migrated(ctx, t, rdb, c)
}

// expiry is when an entry expires, as Redis has it.
func expiry(t testing.TB, rdb redis.UniversalClient, name string) int64 {
	t.Helper()
	n, err := rdb.Do(t.Context(), "pexpiretime", name).Int64()
	require.NoError(t, err)
	return n
}

func stored(t testing.TB, rdb redis.UniversalClient, name string) []byte {
	t.Helper()
	return migratetest.Stored(t, rdb, name)
}

func isSealed(b []byte) bool { return len(b) > 2 && b[0] == 0xC1 && b[1] == 0x5C }

func value(t testing.TB, s store.StoreInterface, key string) any {
	t.Helper()
	v, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	return v
}

func name(ns string, i int) string { return migratetest.Name(ns, i) }

type nameless = migratetest.Nameless

func fill(t testing.TB, rdb redis.UniversalClient, ns string, n int) {
	t.Helper()
	migratetest.Fill(t, rdb, ns, n)
}

// tuned returns a context with numbers for tests.
func tuned(ctx context.Context, n rediswalk.Tuning) context.Context {
	return rediswalk.WithTuning(ctx, n)
}

// small has batches of this many names.
func small(ctx context.Context, batch int) context.Context {
	return tuned(ctx, rediswalk.Tuning{BatchSize: batch})
}

func audited(t testing.TB, rdb redis.UniversalClient, c audit.Config) *audit.Report {
	t.Helper()
	return migratetest.Audited(t.Context(), t, rdb, c)
}

func auditedBy(ctx context.Context, t testing.TB, rdb redis.UniversalClient, c audit.Config) *audit.Report {
	t.Helper()
	return migratetest.Audited(ctx, t, rdb, c)
}

func use(r *audit.Report, key string) int64 { return migratetest.Use(r, key) }

// allTypes are the types of Redis that can be ignored.
var allTypes = []string{"hash", "list", "set", "zset", "stream"}
