package matrix

import (
	"context"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/memorystore"
	"github.com/sealcache/sealcache/stores/redisstore"
	"github.com/sealcache/sealcache/stores/storetest"
)

func TestMemorystore(t *testing.T) {
	t.Parallel()
	backend{
		can:        own(storetest.AsString, time.Microsecond),
		namespaced: true,
		open: func(t *testing.T) store.StoreInterface {
			s, err := memorystore.New()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			return s
		},
	}.run(t)
}

func TestRedisstore(t *testing.T) {
	t.Parallel()
	overRedis(redistest.Start(t).Client(t)).run(t)
}

func TestRedisstoreOnCluster(t *testing.T) {
	t.Parallel()
	overRedis(redistest.StartCluster(t).Client(t)).run(t)
}

func TestRedisstoreBehindSentinel(t *testing.T) {
	t.Parallel()
	overRedis(redistest.StartSentinel(t).Client(t)).run(t)
}

func overRedis(client redis.UniversalClient) backend {
	return backend{
		can:        own(storetest.AsBytes, time.Millisecond),
		namespaced: true,
		open: func(t *testing.T) store.StoreInterface {
			flush(t, client)
			s, err := redisstore.New(client)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
	}
}

// flush empties every master behind client.
func flush(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	var err error
	if cluster, ok := client.(*redis.ClusterClient); ok {
		err = cluster.ForEachMaster(t.Context(), func(ctx context.Context, node *redis.Client) error {
			return node.FlushAll(ctx).Err()
		})
	} else {
		err = client.FlushAll(t.Context()).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}
