package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"slices"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/middleware"
)

// Increment counts, here the requests of a client within a minute.
func ExampleStore_Increment() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()
	sealed, err := middleware.New(backing, keys)
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		// The first request starts the minute. The others keep its end.
		n, err := sealed.Increment(ctx, "requests:client-7", 1, store.WithExpiration(time.Minute))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(n, n <= 2)
	}
	// Output:
	// 1 true
	// 2 true
	// 3 false
}

// Update changes a value without losing the change of another process.
func ExampleStore_Update() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()
	type basket struct{ Items []string }
	sealed, err := middleware.New(backing, keys, middleware.WithCodec(middleware.JSON[basket]()))
	if err != nil {
		log.Fatal(err)
	}
	add := func(item string) error {
		return sealed.Update(ctx, "basket:1", func(old any, found bool) (any, error) {
			b, ok := old.(basket)
			if found && !ok {
				return nil, fmt.Errorf("a %T, want a basket", old)
			}
			return basket{append(slices.Clone(b.Items), item)}, nil
		}, store.WithExpiration(time.Hour))
	}
	if err := errors.Join(add("tea"), add("cups")); err != nil {
		log.Fatal(err)
	}
	fmt.Println(sealed.Get(ctx, "basket:1"))
	// Output: {[tea cups]} <nil>
}

// GetAndDelete accepts a one-time token once.
func ExampleStore_GetAndDelete() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()
	sealed, err := middleware.New(backing, keys)
	if err != nil {
		log.Fatal(err)
	}
	if err := sealed.Set(ctx, "login:token", "user:1", store.WithExpiration(10*time.Minute)); err != nil {
		log.Fatal(err)
	}
	user, err := sealed.GetAndDelete(ctx, "login:token")
	fmt.Println(user, err)
	_, err = sealed.GetAndDelete(ctx, "login:token")
	fmt.Println(errors.Is(err, store.NotFound{}))
	// Output:
	// user:1 <nil>
	// true
}

// SetMany and GetMany load in bulk: what the cache lacks is read from the database and stored.
// A request that takes long must not bring back what another one has deleted.
func ExampleStore_SetIfExists() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()
	sealed, err := middleware.New(backing, keys)
	if err != nil {
		log.Fatal(err)
	}
	if err := sealed.Set(ctx, "draft:1", "a letter"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(sealed.SetIfExists(ctx, "draft:1", "a longer letter"))
	if err := sealed.Delete(ctx, "draft:1"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(sealed.SetIfExists(ctx, "draft:1", "the longest letter"))
	// Output:
	// true <nil>
	// false <nil>
}

func ExampleStore_SetMany() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()
	sealed, err := middleware.New(backing, keys)
	if err != nil {
		log.Fatal(err)
	}
	loadUsers := func(_ context.Context, ids []string) (map[string]any, error) { // one query
		rows := map[string]any{}
		for _, id := range ids {
			rows[id] = "row of " + id
		}
		return rows, nil
	}
	users := func(ids []string) (map[string]any, error) {
		found, err := sealed.GetMany(ctx, ids)
		if err != nil {
			return nil, err // or use what was found, and load the rest
		}
		var missing []string
		for _, id := range ids {
			if _, ok := found[id]; !ok {
				missing = append(missing, id)
			}
		}
		loaded, err := loadUsers(ctx, missing)
		if err != nil {
			return nil, err
		}
		for id, row := range loaded {
			found[id] = row
		}
		return found, sealed.SetMany(ctx, loaded, store.WithExpiration(time.Hour))
	}
	for range 2 {
		fmt.Println(users([]string{"user:1", "user:2"}))
	}
	// Output:
	// map[user:1:row of user:1 user:2:row of user:2] <nil>
	// map[user:1:row of user:1 user:2:row of user:2] <nil>
}
