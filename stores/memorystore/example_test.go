package memorystore_test

import (
	"context"
	"fmt"
	"time"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/store"
	"github.com/sealcache/sealcache/stores/memorystore"
)

func ExampleNew() {
	ctx := context.Background()
	s, err := memorystore.New(memorystore.WithMaxBytes(16 << 20))
	if err != nil {
		panic(err)
	}
	defer s.Close()

	users := cache.New[string](s)
	if err := users.Set(ctx, "user:1", "Ada", store.WithExpiration(time.Hour)); err != nil {
		panic(err)
	}
	fmt.Println(users.Get(ctx, "user:1"))
	fmt.Println(users.Get(ctx, "user:2"))
	// Output:
	// Ada <nil>
	//  value not found in store
}

func ExampleOpen() {
	s, err := memorystore.Open("memory://?max_bytes=64MiB&expiration=10m")
	if err != nil {
		panic(err)
	}
	defer s.Close()
	fmt.Println(s)

	_, err = memorystore.Open("memory://?maxbytes=64MiB")
	fmt.Println(err)
	// Output:
	// memorystore.Store(67108864 bytes)
	// memorystore: open: unknown option "maxbytes" in the URL (allowed: "expiration", "max_bytes")
}

func ExampleStore_Invalidate() {
	ctx := context.Background()
	s, err := memorystore.New()
	if err != nil {
		panic(err)
	}
	defer s.Close()

	_ = s.Set(ctx, "page:1", "...", store.WithTags([]string{"author:7"}))
	_ = s.Set(ctx, "page:2", "...", store.WithTags([]string{"author:8"}))
	_ = s.Invalidate(ctx, store.WithInvalidateTags([]string{"author:7"}))
	for key := range s.Keys(ctx, "page:") {
		fmt.Println(key)
	}
	// Output: page:2
}

func ExampleStore_CompareAndSwap() {
	ctx := context.Background()
	s, err := memorystore.New()
	if err != nil {
		panic(err)
	}
	defer s.Close()

	_ = s.SetBytes(ctx, "k", []byte("one"))
	fmt.Println(s.CompareAndSwap(ctx, "k", []byte("one"), 0, []byte("two"), -1))
	fmt.Println(s.CompareAndSwap(ctx, "k", []byte("one"), 0, []byte("three"), -1))
	// Output:
	// true <nil>
	// false <nil>
}
