package middleware

import (
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	redisstore "github.com/eko/gocache/store/redis/v4"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

type otherClient struct{ *redis.Client }

type embedding struct{ *redisstore.RedisStore }

func TestBuffersAreReusedOverGocache(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}})
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	for _, s := range []store.StoreInterface{redisstore.NewRedis(client), redisstore.NewRedis(cluster)} {
		require.True(t, doneWhenSetReturns(s))
	}
	for _, s := range []store.StoreInterface{
		redisstore.NewRedis(otherClient{client}), redisstore.NewRedis(nil), embedding{redisstore.NewRedis(client)},
		&embedding{redisstore.NewRedis(client)}, (*Store)(nil),
	} {
		require.False(t, doneWhenSetReturns(s), "what is not known may keep the bytes")
	}
}
