package redisstore_test

import (
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

// shared holds servers that every test may use. Each test uses a separate database or prefix.
var shared redistest.Shared

func TestMain(m *testing.M) {
	redistest.SilenceClients() // go-redis logs the faults that these tests cause
	code := shared.Run(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			log.Print(err)
			code = 1
		}
	}
	os.Exit(code)
}

// on runs a test over a single node and a Cluster, each with its own prefix.
func on(t *testing.T, test func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string)) {
	t.Helper()
	shared.On(t, func(t *testing.T, rdb redis.UniversalClient) {
		t.Helper()
		test(t, newStore(t, rdb), rdb, t.Name()+":")
	})
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
