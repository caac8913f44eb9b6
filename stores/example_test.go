package stores_test

import (
	"context"
	"fmt"

	"github.com/eko/gocache/lib/v4/cache"

	"github.com/sealcache/sealcache/stores"
)

func ExampleOpen() {
	ctx := context.Background()
	s, err := stores.Open(ctx, "memory://?max_bytes=64MiB&expiration=10m") // or redis://, redis+cluster://, ...
	if err != nil {
		panic(err)
	}
	defer func() { _ = s.Close() }()

	users := cache.New[[]byte](s)
	if err := users.Set(ctx, "user:1", []byte("Ada")); err != nil {
		panic(err)
	}
	name, err := users.Get(ctx, "user:1")
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s\n", name)
	// Output: Ada
}

func ExampleOpen_unknown() {
	_, err := stores.Open(context.Background(), "memcached://localhost")
	fmt.Println(err)
	// Output: stores: open: the URL has the unknown scheme "memcached" (allowed: memory, redis, rediss, redis+unix, unix, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster)
}
