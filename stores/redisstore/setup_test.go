package redisstore_test

import (
	"context"
	"log"
	"os"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// shared holds servers that every test may use. Each test uses a database or a prefix of its own.
var shared struct {
	single  *redistest.Server
	cluster *redistest.Cluster
}

func TestMain(m *testing.M) {
	redis.SetLogger(silent{}) // go-redis logs the faults that these tests cause
	code := func() int {
		ctx := context.Background()
		var err error
		if shared.single, err = redistest.Run(ctx, redistest.Options{Args: []string{"--databases", "200"}}); err != nil {
			log.Print(err)
			return 1
		}
		defer func() { _ = shared.single.Close() }()
		if shared.cluster, err = redistest.RunCluster(ctx, redistest.Options{}); err != nil {
			log.Print(err)
			return 1
		}
		defer func() { _ = shared.cluster.Close() }()
		return m.Run()
	}()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			log.Print(err)
			code = 1
		}
	}
	os.Exit(code)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// on runs a test over a single node and a Cluster, each with a prefix of its own.
func on(t *testing.T, test func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string)) {
	t.Helper()
	t.Parallel()
	for name, client := range map[string]func(t *testing.T) redis.UniversalClient{
		"single":  func(t *testing.T) redis.UniversalClient { t.Helper(); return shared.single.Client(t) },
		"cluster": func(t *testing.T) redis.UniversalClient { t.Helper(); return shared.cluster.Client(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := client(t)
			test(t, newStore(t, rdb), rdb, t.Name()+":")
		})
	}
}

func newStore(t *testing.T, rdb redis.UniversalClient, opts ...store.Option) *redisstore.Store {
	t.Helper()
	s, err := redisstore.New(rdb, opts...)
	require.NoError(t, err)
	return s
}

func open(t *testing.T, url string) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}
