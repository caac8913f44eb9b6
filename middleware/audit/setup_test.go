package audit_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
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
	code := shared.Run(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
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

func stored(t testing.TB, rdb redis.UniversalClient, name string) []byte {
	t.Helper()
	return migratetest.Stored(t, rdb, name)
}

// deadline returns a context that ends during an audit.
func deadline(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

type nameless = migratetest.Nameless

func fill(t testing.TB, rdb redis.UniversalClient, ns string, n int) {
	t.Helper()
	migratetest.Fill(t, rdb, ns, n)
}

// tuned returns a context with numbers for tests.
func tuned(ctx context.Context, n rediswalk.Tuning) context.Context {
	return rediswalk.WithTuning(ctx, n)
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
