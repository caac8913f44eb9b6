package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/marshaler"
	"github.com/eko/gocache/lib/v4/store"
	gocacheredis "github.com/eko/gocache/store/redis/v4"
	gocacherueidis "github.com/eko/gocache/store/rueidis/v4"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// storeKeys is the number of entries that the callers share.
const storeKeys = 256

// access sets and gets a value in a store.
type access struct {
	name string
	set  func(ctx context.Context, key string, value []byte) error
	get  func(ctx context.Context, key string) (bytes int, err error)
}

// compareStores sets and gets over one redis-server: the sealed redisstore against plaintext stores of gocache.
func compareStores(ctx context.Context, c *comparison) {
	server := c.server(ctx)
	all := newStores(c, server)
	inspect := c.client(server.ClientOptions())
	for _, size := range sizes() {
		value := random(size)
		for _, callers := range []int{8, 64} {
			for _, op := range []string{"set", "get"} {
				var ways []way
				for _, s := range all {
					stored := c.fill(ctx, s, inspect, value)
					key := func(worker, i int) string { return s.name + ":" + strconv.Itoa((i*callers+worker)%storeKeys) }
					do := func(ctx context.Context, worker, i int) error { return s.set(ctx, key(worker, i), value) }
					if op == "get" {
						do = func(ctx context.Context, worker, i int) error {
							n, err := s.get(ctx, key(worker, i))
							if err == nil && n != size {
								err = errAnotherValue
							}
							return err
						}
					}
					ways = append(ways, way{name: s.name, do: do, stored: stored})
				}
				c.compare(ctx, fmt.Sprintf("%s %d B, %d callers", op, size, callers), callers, ways)
			}
		}
	}
}

// server starts a redis-server.
func (c *comparison) server(ctx context.Context) *redistest.Server {
	server, err := redistest.Run(ctx, redistest.Options{})
	c.Check(err)
	c.Cleanup(func() { _ = server.Close() })
	return server
}

func (c *comparison) client(o *redis.Options) *redis.Client {
	client := redis.NewClient(o)
	c.Cleanup(func() { _ = client.Close() })
	return client
}

// fill sets all keys, and returns the stored bytes of one.
func (c *comparison) fill(ctx context.Context, s access, inspect *redis.Client, value []byte) int {
	for i := range storeKeys {
		if err := s.set(ctx, s.name+":"+strconv.Itoa(i), value); err != nil {
			c.Check(fmt.Errorf("set the values of %s: %w", s.name, err))
		}
	}
	n, err := inspect.StrLen(ctx, s.name+":0").Result()
	c.Check(err)
	return int(n)
}

// newStores returns the stores, sealcache first. Names are equally long, because they become keys.
func newStores(c *comparison, server *redistest.Server) []access {
	_, keyring := c.keyring()
	backing, err := redisstore.New(c.client(server.ClientOptions()))
	c.Check(err)
	sealed, err := middleware.New(backing, keyring)
	c.Check(err)
	driver, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}})
	c.Check(err)
	c.Cleanup(driver.Close)
	plain := gocacheredis.NewRedis(c.client(&redis.Options{Addr: server.Addr()}))
	rue := gocacherueidis.NewRueidis(driver, store.WithExpiration(expiry))
	encoded := marshaler.New(cache.New[any](plain))
	return []access{
		overStore("sealcache, sealed      ", sealed, false),
		overStore("gocache redis          ", plain, false),
		{
			"gocache redis marshaler",
			func(ctx context.Context, key string, value []byte) error { return encoded.Set(ctx, key, value) },
			func(ctx context.Context, key string) (int, error) {
				var got []byte
				_, err := encoded.Get(ctx, key, &got)
				return len(got), err
			},
		},
		overStore("gocache rueidis, cached", rue, true),
	}
}

// overStore accesses a store, which takes strings if text is set.
func overStore(name string, s store.StoreInterface, text bool) access {
	return access{
		name,
		func(ctx context.Context, key string, value []byte) error {
			if text {
				return s.Set(ctx, key, string(value))
			}
			return s.Set(ctx, key, value)
		},
		func(ctx context.Context, key string) (int, error) {
			got, err := s.Get(ctx, key)
			switch got := got.(type) {
			case []byte:
				return len(got), err
			case string:
				return len(got), err
			default:
				return -1, err
			}
		},
	}
}
