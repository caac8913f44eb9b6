package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/stores/redisstore"
)

// New makes a store of a client that the application has already. The application closes the client.
func ExampleNew() {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: shared.Single.Addr()})
	defer func() { _ = client.Close() }()

	s, err := redisstore.New(client, store.WithExpiration(time.Hour))
	if err != nil {
		panic(err)
	}
	if err := s.Set(ctx, "example:new", 42); err != nil {
		panic(err)
	}
	value, ttl, err := s.GetWithTTL(ctx, "example:new")
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s, for another %s\n", value, ttl.Round(time.Minute))
	// Output: 42, for another 1h0m0s
}

// Open returns a store that owns its client.
func ExampleOpen() {
	ctx := context.Background()
	s, err := redisstore.Open(ctx, "redis://"+shared.Single.Addr()+"/0?pool_size=20&read_timeout=1s&expiration=10m")
	if err != nil {
		panic(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Ping(ctx); err != nil {
		panic(err)
	}
	_, err = s.Get(ctx, "example:missing")
	fmt.Println(errors.Is(err, &store.NotFound{}))
	// Output: true
}

// A migration works on the Redis of a store without the store. It uses the client of the same URL.
func ExampleOpenClient() {
	ctx := context.Background()
	client, err := redisstore.OpenClient(ctx, "redis://"+shared.Single.Addr()+"/0?read_timeout=1s")
	if err != nil {
		panic(err)
	}
	defer func() { _ = client.Close() }()
	s, err := redisstore.New(client)
	if err != nil {
		panic(err)
	}
	if err := s.Set(ctx, "example:client", "...", store.WithExpiration(time.Hour)); err != nil {
		panic(err)
	}
	fmt.Println(client.TTL(ctx, "example:client").Val().Round(time.Minute))
	// Output: 1h0m0s
}

// Entries with one tag are removed together.
func ExampleStore_Invalidate() {
	ctx := context.Background()
	s, err := redisstore.Open(ctx, "redis://"+shared.Single.Addr())
	if err != nil {
		panic(err)
	}
	defer func() { _ = s.Close() }()
	for _, key := range []string{"example:name", "example:mail"} {
		if err := s.Set(ctx, key, "...", store.WithTags([]string{"example:user:7"})); err != nil {
			panic(err)
		}
	}
	if err := s.Invalidate(ctx, store.WithInvalidateTags([]string{"example:user:7"})); err != nil {
		panic(err)
	}
	_, err = s.Get(ctx, "example:mail")
	fmt.Println(err)
	// Output: value not found in store
}

// CompareAndSwap replaces a value only if it is still the one that was read. The entry keeps its TTL.
func ExampleStore_CompareAndSwap() {
	ctx := context.Background()
	s, err := redisstore.Open(ctx, "redis://"+shared.Single.Addr())
	if err != nil {
		panic(err)
	}
	defer func() { _ = s.Close() }()
	if err := s.Set(ctx, "example:counter", "41", store.WithExpiration(time.Hour)); err != nil {
		panic(err)
	}
	for {
		old, err := s.GetBytes(ctx, "example:counter")
		if err != nil {
			panic(err)
		}
		n, err := strconv.Atoi(string(old))
		if err != nil {
			panic(err)
		}
		swapped, err := s.CompareAndSwap(ctx, "example:counter", old, 0, strconv.AppendInt(nil, int64(n+1), 10), -1)
		if err != nil {
			panic(err)
		}
		if swapped {
			break
		}
	}
	value, err := s.GetBytes(ctx, "example:counter")
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s\n", value)
	// Output: 42
}

// ClearPrefix removes the entries under a prefix and no others.
func ExampleStore_ClearPrefix() {
	ctx := context.Background()
	s, err := redisstore.Open(ctx, "redis://"+shared.Single.Addr())
	if err != nil {
		panic(err)
	}
	defer func() { _ = s.Close() }()
	for _, key := range []string{"example*:1", "example*:2", "example-kept"} {
		if err := s.Set(ctx, key, "v"); err != nil {
			panic(err)
		}
	}
	if err := s.ClearPrefix(ctx, "example*:"); err != nil { // the star has no special meaning
		panic(err)
	}
	for key, err := range s.Keys(ctx, "example-") {
		fmt.Println(key, err)
	}
	// Output: example-kept <nil>
}

// InvalidatePrefix removes only entries under the application's own prefix. An attacker who can write to Redis can
// write other names into a tag.
func ExampleStore_InvalidatePrefix() {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: shared.Single.Addr()})
	defer func() { _ = client.Close() }()
	s, err := redisstore.New(client)
	if err != nil {
		panic(err)
	}
	if err := s.Set(ctx, "example-shop:cart", "...", store.WithTags([]string{"example-shop:user:7"})); err != nil {
		panic(err)
	}
	client.Set(ctx, "example-billing:invoice", "...", time.Minute)
	client.SAdd(ctx, "gocache_tag_example-shop:user:7", "example-billing:invoice") // planted by an attacker
	if err := s.InvalidatePrefix(ctx, "example-shop:", store.WithInvalidateTags([]string{"example-shop:user:7"})); err != nil {
		panic(err)
	}
	fmt.Println(client.Exists(ctx, "example-shop:cart").Val(), client.Exists(ctx, "example-billing:invoice").Val())
	// Output: 0 1
}

// PruneTags removes the names of deleted entries from the set of a tag.
func ExampleStore_PruneTags() {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: shared.Single.Addr()})
	defer func() { _ = client.Close() }()
	s, err := redisstore.New(client)
	if err != nil {
		panic(err)
	}
	if err := s.Set(ctx, "example-order:1", "...", store.WithTags([]string{"example-order:tag"})); err != nil {
		panic(err)
	}
	if err := s.Delete(ctx, "example-order:1"); err != nil {
		panic(err)
	}
	before := client.Exists(ctx, "gocache_tag_example-order:tag").Val()
	if err := s.PruneTags(ctx, "example-order:"); err != nil {
		panic(err)
	}
	fmt.Println(before, client.Exists(ctx, "gocache_tag_example-order:tag").Val())
	// Output: 1 0
}

// Hot reads are served from memory of the process, which holds the bytes that Redis holds.
func ExampleNewNearCache() {
	near, err := redisstore.NewNearCache(64<<20, time.Minute)
	if err != nil {
		panic(err)
	}
	client := redis.NewClient(&redis.Options{Addr: shared.Single.Addr(), ContextTimeoutEnabled: true, ClientSideCache: near})
	defer func() { _ = client.Close() }()
	s, err := redisstore.New(client)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := s.Set(ctx, "example:near", "hello"); err != nil {
		panic(err)
	}
	for range 3 {
		b, err := s.GetBytes(ctx, "example:near")
		fmt.Printf("%s %v\n", b, err)
	}
	fmt.Println("served from memory:", s.Stats().NearHits > 0)
	// Output:
	// hello <nil>
	// hello <nil>
	// hello <nil>
	// served from memory: true
}
