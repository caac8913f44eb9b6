package matrix

import (
	"math"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/coocood/freecache"
	"github.com/eko/gocache/lib/v4/store"
	freecachestore "github.com/eko/gocache/store/freecache/v4"
	gocachestore "github.com/eko/gocache/store/go_cache/v4"
	memcachestore "github.com/eko/gocache/store/memcache/v4"
	redisstore "github.com/eko/gocache/store/redis/v4"
	rueidisstore "github.com/eko/gocache/store/rueidis/v4"
	gocache "github.com/patrickmn/go-cache"
	"github.com/redis/rueidis"

	"github.com/sealcache/sealcache/internal/redistest"
)

// A store may hold the end of an entry in 32 bits. A later end must not wrap to a time in the past, at which nothing is stored.
func TestLongLives(t *testing.T) {
	t.Parallel()
	client := memcache.New(startMemcached(t))
	client.Timeout = time.Minute
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	const year = 365 * 24 * time.Hour
	server := redistest.Start(t)
	rueidisClient, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rueidisClient.Close)
	for name, backing := range map[string]store.StoreInterface{
		"redis":     redisstore.NewRedis(server.Client(t)),
		"rueidis":   rueidisstore.NewRueidis(rueidisClient),
		"go_cache":  gocachestore.NewGoCache(gocache.New(gocache.NoExpiration, 0)),
		"memcache":  memcachestore.NewMemcache(client),
		"freecache": freecachestore.NewFreecache(freecache.NewCache(1 << 20)),
	} {
		s := seal(t, backing, envelope(t), "web")
		for _, life := range []time.Duration{year, 20 * year, 70 * year, 100 * year, 130 * year, 200 * year, 250 * year, math.MaxInt64 - 1, math.MaxInt64} {
			key := life.String()
			if err := s.Set(t.Context(), key, "value", store.WithExpiration(life)); err != nil {
				t.Errorf("%s: set for %v: %v", name, life, err)
				continue
			}
			if got, err := s.Get(t.Context(), key); got != "value" {
				t.Errorf("%s: get after a set for %v: %v, %v", name, life, got, err)
			}
		}
	}
}
