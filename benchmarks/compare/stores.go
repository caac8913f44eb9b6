package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/marshaler"
	"github.com/eko/gocache/lib/v4/store"
	gocacheredis "github.com/eko/gocache/store/redis/v4"
	gocacherueidis "github.com/eko/gocache/store/rueidis/v4"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
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
func compareStores(ctx context.Context, e extent, w io.Writer) error {
	server, err := redistest.Run(ctx, redistest.Options{})
	if err != nil {
		return err
	}
	defer server.Close()
	all, stop, err := newStores(server)
	if err != nil {
		return err
	}
	defer stop()
	inspect := redis.NewClient(server.ClientOptions())
	defer inspect.Close()
	for _, size := range sizes() {
		value := random(size)
		for _, callers := range []int{8, 64} {
			for _, op := range []string{"set", "get"} {
				var ways []way
				for _, s := range all {
					stored, err := fill(ctx, s, inspect, value)
					if err != nil {
						return fmt.Errorf("set the values of %s: %w", s.name, err)
					}
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
				if err := compare(ctx, e, w, fmt.Sprintf("%s %d B, %d callers", op, size, callers), callers, ways); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// fill sets all keys, and returns the stored bytes of one.
func fill(ctx context.Context, s access, inspect *redis.Client, value []byte) (int, error) {
	for i := range storeKeys {
		if err := s.set(ctx, s.name+":"+strconv.Itoa(i), value); err != nil {
			return 0, err
		}
	}
	n, err := inspect.StrLen(ctx, s.name+":0").Result()
	return int(n), err
}

// newStores returns the stores, sealcache first. Names are equally long, because they become keys.
func newStores(server *redistest.Server) (all []access, stop func(), err error) {
	handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, nil, err
	}
	keyring, err := aead.NewKeyring(handle)
	if err != nil {
		return nil, nil, err
	}
	client, theirs := redis.NewClient(server.ClientOptions()), redis.NewClient(&redis.Options{Addr: server.Addr()})
	stop = func() {
		_ = client.Close()
		_ = theirs.Close()
		_ = keyring.Close()
	}
	backing, err := redisstore.New(client)
	if err != nil {
		stop()
		return nil, nil, err
	}
	sealed, err := middleware.New(backing, keyring)
	if err != nil {
		stop()
		return nil, nil, err
	}
	driver, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{server.Addr()}})
	if err != nil {
		stop()
		return nil, nil, err
	}
	closeRest := stop
	stop = func() {
		driver.Close()
		closeRest()
	}
	plain := gocacheredis.NewRedis(theirs)
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
	}, stop, nil
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
