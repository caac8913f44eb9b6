package matrix

import (
	"context"
	"testing"
	"time"

	"github.com/allegro/bigcache/v3"
	"github.com/bradfitz/gomemcache/memcache"
	"github.com/coocood/freecache"
	"github.com/dgraph-io/ristretto/v2"
	"github.com/eko/gocache/lib/v4/store"
	bigcachestore "github.com/eko/gocache/store/bigcache/v4"
	freecachestore "github.com/eko/gocache/store/freecache/v4"
	gocachestore "github.com/eko/gocache/store/go_cache/v4"
	memcachestore "github.com/eko/gocache/store/memcache/v4"
	redisstore "github.com/eko/gocache/store/redis/v4"
	clusterstore "github.com/eko/gocache/store/rediscluster/v4"
	ristrettostore "github.com/eko/gocache/store/ristretto/v4"
	rueidisstore "github.com/eko/gocache/store/rueidis/v4"
	gocache "github.com/patrickmn/go-cache"
	"github.com/redis/rueidis"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/storetest"
)

func TestGocacheRedis(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	backend{
		can: storetest.Capabilities{
			Bytes:          storetest.AsString,
			Strings:        storetest.AsString,
			Scalars:        storetest.AsString,
			CopiesBytes:    true,
			AnyKey:         true,
			Clear:          true, // of every database of the server
			MissIsNotFound: true,
			DeleteMissing:  true,
			HeedsContext:   true,
			TTL:            storetest.TTL{PerEntry: true, Resolution: time.Second, Reported: true, None: -1},
			Tags:           true,
			SetIfNotExists: true,
		},
		open: func(t *testing.T) store.StoreInterface {
			flush(t, client)
			return redisstore.NewRedis(client)
		},
	}.run(t)
}

func TestGocacheRediscluster(t *testing.T) {
	t.Parallel()
	client := redistest.StartCluster(t).Client(t)
	backend{
		can: storetest.Capabilities{
			Bytes:          storetest.AsString,
			Strings:        storetest.AsString,
			Scalars:        storetest.AsString,
			CopiesBytes:    true,
			AnyKey:         true,
			Clear:          false, // calls FLUSHALL on one master of three, and returns no error
			MissIsNotFound: true,
			DeleteMissing:  true,
			HeedsContext:   true,
			TTL:            storetest.TTL{PerEntry: true, Resolution: time.Second, Reported: true, None: -1},
			Tags:           true,
		},
		open: func(t *testing.T) store.StoreInterface {
			flush(t, client)
			return clusterstore.NewRedisCluster(client)
		},
	}.run(t)
}

func TestGocacheRueidis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{server.Addr()},
		// Its client-side cache sometimes returns an old value after the client's own write.
		DisableCache: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	backend{
		can: storetest.Capabilities{
			Bytes:          storetest.Panics,
			Strings:        storetest.AsString,
			Scalars:        storetest.Panics,
			CopiesBytes:    true,
			AnyKey:         true,
			Clear:          true,
			MissIsNotFound: true,
			DeleteMissing:  true,
			HeedsContext:   true,
			// It sends EX 0 if there is no expiration, and Redis refuses that. A default avoids it.
			TTL:  storetest.TTL{PerEntry: true, Resolution: time.Second, None: -1, NeverNone: true},
			Tags: true,
		},
		open: func(t *testing.T) store.StoreInterface {
			if err := client.Do(t.Context(), client.B().Flushall().Build()).Error(); err != nil {
				t.Fatal(err)
			}
			return rueidisstore.NewRueidis(client, store.WithExpiration(time.Hour))
		},
	}.run(t)
}

func TestGocacheRistretto(t *testing.T) {
	t.Parallel()
	backend{
		can: storetest.Capabilities{
			Bytes:          storetest.AsGiven,
			Strings:        storetest.Panics,
			Scalars:        storetest.Panics,
			CopiesBytes:    false,
			AnyKey:         true,
			Clear:          true,
			MissIsNotFound: true,
			DeleteMissing:  true,
			TTL:            storetest.TTL{PerEntry: true, Resolution: time.Millisecond, Reported: true},
			Tags:           true,
		},
		open: func(t *testing.T) store.StoreInterface {
			client, err := ristretto.NewCache(&ristretto.Config[string, []byte]{NumCounters: 1e5, MaxCost: 1 << 30, BufferItems: 64})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			return ristrettostore.NewRistretto(client, store.WithSynchronousSet())
		},
	}.run(t)
}

func TestGocacheBigcache(t *testing.T) {
	t.Parallel()
	backend{
		can: storetest.Capabilities{
			Bytes:       storetest.AsBytes,
			Strings:     storetest.AsBytes,
			Scalars:     storetest.Refused,
			CopiesBytes: true,
			AnyKey:      true,
			MaxKeyBytes: 60_000,
			Clear:       true,
			TTL:         storetest.TTL{None: 5 * time.Minute}, // the TTL that is reported for any entry
			Tags:        true,
		},
		open: func(t *testing.T) store.StoreInterface {
			config := bigcache.DefaultConfig(10 * time.Minute)
			config.Shards, config.CleanWindow, config.Verbose = 16, 0, false
			client, err := bigcache.New(context.Background(), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := client.Close(); err != nil {
					t.Error(err)
				}
			})
			return bigcachestore.NewBigcache(client)
		},
	}.run(t)
}

func TestGocacheFreecache(t *testing.T) {
	t.Parallel()
	backend{
		can: storetest.Capabilities{
			Bytes:          storetest.AsGiven,
			Strings:        storetest.Refused,
			Scalars:        storetest.Refused,
			CopiesBytes:    true,
			MaxValueBytes:  30_000, // the limit is a 1024th of the cache
			AnyKey:         true,
			MaxKeyBytes:    30_000,
			KeyErrors:      true,
			Clear:          true,
			MissIsNotFound: true,
			TTL:            storetest.TTL{PerEntry: true, Resolution: time.Second, Reported: true},
			Tags:           false, // Invalidate stops with an error at the first entry that is missing
		},
		open: func(*testing.T) store.StoreInterface {
			return freecachestore.NewFreecache(freecache.NewCache(64 << 20))
		},
	}.run(t)
}

func TestGocacheGoCache(t *testing.T) {
	t.Parallel()
	backend{
		can: storetest.Capabilities{
			Bytes:          storetest.AsGiven,
			Strings:        storetest.AsGiven,
			Scalars:        storetest.AsGiven,
			CopiesBytes:    false,
			AnyKey:         true,
			Clear:          true,
			MissIsNotFound: true,
			DeleteMissing:  true,
			// It reports minus two thousand years for an entry without expiration.
			TTL:  storetest.TTL{PerEntry: true, Resolution: time.Millisecond, Reported: true, None: -1},
			Tags: true,
		},
		open: func(*testing.T) store.StoreInterface {
			return gocachestore.NewGoCache(gocache.New(gocache.NoExpiration, 0))
		},
	}.run(t)
}

func TestGocacheMemcache(t *testing.T) {
	t.Parallel()
	client := memcache.New(startMemcached(t))
	client.Timeout, client.MaxIdleConns = time.Minute, 16
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	backend{
		can: storetest.Capabilities{
			Bytes:          storetest.AsGiven,
			Strings:        storetest.Panics,
			Scalars:        storetest.Panics,
			CopiesBytes:    true,
			MaxValueBytes:  900 << 10,
			MaxKeyBytes:    250,
			Clear:          true,
			MissIsNotFound: true,
			DeleteMissing:  true,
			TTL:            storetest.TTL{PerEntry: true, Resolution: time.Second, Max: 30 * 24 * time.Hour},
			Tags:           true,
		},
		open: func(t *testing.T) store.StoreInterface {
			if err := client.FlushAll(); err != nil {
				t.Fatal(err)
			}
			return memcachestore.NewMemcache(client)
		},
	}.run(t)
}
