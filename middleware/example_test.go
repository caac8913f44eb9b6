package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/store"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// exampleParts returns a backing store and new keys. In a service the key-encryption key comes from aead.OpenKEK.
func exampleParts(ctx context.Context) (*memorystore.Store, *aead.Envelope) {
	backing, err := memorystore.New()
	if err != nil {
		log.Fatal(err)
	}
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		log.Fatal(err)
	}
	kek, err := aead.NewKeyring(h)
	if err != nil {
		log.Fatal(err)
	}
	keys, err := aead.NewEnvelope(ctx, kek)
	if err != nil {
		log.Fatal(err)
	}
	return backing, keys
}

// New seals a gocache cache with one line between the store and the cache.
func Example() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()

	sealed, err := middleware.New(backing, keys)
	if err != nil {
		log.Fatal(err)
	}
	names := cache.New[string](sealed)
	if err := names.Set(ctx, "user:1", "Ada", store.WithExpiration(time.Hour)); err != nil {
		log.Fatal(err)
	}
	name, err := names.Get(ctx, "user:1")
	fmt.Println(name, err)

	stored, _ := backing.GetBytes(ctx, "user:1")
	info, err := middleware.Inspect(stored)
	fmt.Println(info.Kind, info.Type, info.Key.Envelope, err)
	// Output:
	// Ada <nil>
	// cache value string true <nil>
}

// A value that was moved, altered or planted is an error.
func Example_tampering() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()
	sealed, err := middleware.New(backing, keys)
	if err != nil {
		log.Fatal(err)
	}
	if err := sealed.Set(ctx, "balance:alice", int64(1_000_000)); err != nil {
		log.Fatal(err)
	}
	stored, _ := backing.GetBytes(ctx, "balance:alice")
	_ = backing.SetBytes(ctx, "balance:mallory", stored)
	_ = backing.Set(ctx, "balance:bob", "1000000")

	_, err = sealed.Get(ctx, "balance:mallory")
	fmt.Println("moved:", errors.Is(err, middleware.ErrUnauthentic))
	_, err = sealed.Get(ctx, "balance:bob")
	fmt.Println("planted:", errors.Is(err, middleware.ErrNotSealed))
	_, err = sealed.Get(ctx, "balance:carol")
	fmt.Println("absent:", errors.Is(err, store.NotFound{}))
	// Output:
	// moved: true
	// planted: true
	// absent: true
}

// Structs and pointers need a codec.
func ExampleWithCodec() {
	type Patient struct{ Name string }
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()
	sealed, err := middleware.New(backing, keys, middleware.WithCodec(middleware.JSON[Patient]()))
	if err != nil {
		log.Fatal(err)
	}
	patients := cache.New[Patient](sealed)
	_ = patients.Set(ctx, "p1", Patient{Name: "Ada"})
	p, err := patients.Get(ctx, "p1")
	fmt.Println(p.Name, err)
	// Output: Ada <nil>
}

// Two namespaces over one store cannot see, open or clear each other's values.
func ExampleWithNamespace() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()
	sessions, err := middleware.New(backing, keys, middleware.WithNamespace("sessions"))
	if err != nil {
		log.Fatal(err)
	}
	profiles, err := middleware.New(backing, keys, middleware.WithNamespace("profiles"))
	if err != nil {
		log.Fatal(err)
	}
	_ = sessions.Set(ctx, "1", "a session")
	_ = profiles.Set(ctx, "1", "a profile")
	_ = sessions.Clear(ctx)
	_, err = sessions.Get(ctx, "1")
	fmt.Println(errors.Is(err, store.NotFound{}))
	fmt.Println(profiles.Get(ctx, "1"))
	// Output:
	// true
	// a profile <nil>
}

// During a migration plaintext values are read until a date, and sealed when they are read.
func ExampleWithPlaintext() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()
	_ = backing.Set(ctx, "old", "written before")
	sealed, err := middleware.New(backing, keys,
		middleware.WithPlaintext(middleware.SealOnRead),
		middleware.WithPlaintextUntil(time.Now().Add(30*24*time.Hour)))
	if err != nil {
		log.Fatal(err)
	}
	v, err := cache.New[string](sealed).Get(ctx, "old")
	fmt.Println(v, err)
	stored, _ := backing.GetBytes(ctx, "old")
	_, err = middleware.Inspect(stored)
	fmt.Println("sealed now:", err == nil)
	// Output:
	// written before <nil>
	// sealed now: true
}

// In the state prepare of a rollout, old and new instances read what each other writes.
func ExampleWithPlaintextUntil() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()
	end := time.Now().Add(30 * 24 * time.Hour)
	deploy := func() error {
		sealed, err := middleware.New(backing, keys, middleware.WithNamespace("shop"),
			middleware.WithPlaintext(middleware.WritePlaintext), // the state prepare
			middleware.WithPlaintextUntil(end))                  // when you will be done
		if err != nil {
			return err
		}
		if err := sealed.Check(ctx); err != nil { // makes the key check, which "sealcache migrate" needs
			return err
		}
		if err := sealed.Set(ctx, "user:42", "new value"); err != nil {
			return err
		}
		stored, err := backing.GetBytes(ctx, "shop:user:42")
		fmt.Printf("the store holds %q\n", stored)
		return err
	}
	if err := deploy(); err != nil {
		log.Fatal(err)
	}
	// Output: the store holds "new value"
}

// Inspect describes a stored value without any key.
func ExampleInspect() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()
	sealed, err := middleware.New(backing, keys)
	if err != nil {
		log.Fatal(err)
	}
	_ = sealed.Set(ctx, "visits", int64(42))
	stored, _ := backing.GetBytes(ctx, "visits")
	info, err := middleware.Inspect(stored)
	fmt.Println(info.Version, info.Kind, info.Type, info.StoredBytes, info.Key.HasID, err)
	_, err = middleware.Inspect([]byte("42"))
	fmt.Println(errors.Is(err, middleware.ErrNotSealed))
	// Output:
	// 1 cache value int64 113 true <nil>
	// true
}

// SetIfNotExists writes only for the first caller.
func ExampleStore_SetIfNotExists() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()
	sealed, err := middleware.New(backing, keys)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sealed.SetIfNotExists(ctx, "lock", "worker 1", store.WithExpiration(time.Minute)))
	fmt.Println(sealed.SetIfNotExists(ctx, "lock", "worker 2", store.WithExpiration(time.Minute)))
	// Output:
	// true <nil>
	// false <nil>
}

// GetBytes and SetBytes need no type assertion and no options. They are the fastest way for values of type []byte.
func ExampleStore_GetBytes() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()
	sealed, err := middleware.New(backing, keys)
	if err != nil {
		log.Fatal(err)
	}
	if err := sealed.SetBytes(ctx, "page:7", []byte("<html>"), time.Hour, "pages"); err != nil {
		log.Fatal(err)
	}
	page, err := sealed.GetBytes(ctx, "page:7")
	fmt.Println(string(page), err)
	// Output: <html> <nil>
}

// Keys streams the names of a namespace.
func ExampleStore_Keys() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()
	sealed, err := middleware.New(backing, keys, middleware.WithNamespace("shop"))
	if err != nil {
		log.Fatal(err)
	}
	_ = sealed.Set(ctx, "user:1", "Ada")
	_ = backing.Set(ctx, "other", "of someone else")
	for name, err := range sealed.Keys(ctx) {
		fmt.Println(name, err)
	}
	// Output: user:1 <nil>
}

// Check is for a readiness endpoint. It reports whether keys seal and open, and whether the store answers.
func ExampleStore_Check() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer keys.Close()
	sealed, err := middleware.New(backing, keys)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sealed.Check(ctx))
	_ = sealed.Close()
	fmt.Println(sealed.Check(ctx) != nil)
	// Output:
	// <nil>
	// true
}

// An unreadable value counts as a miss, so that the application loads it again.
func ExampleWithMissOnOpenFailure() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()
	quiet := slog.New(slog.DiscardHandler)
	sealed, err := middleware.New(backing, keys, middleware.WithMissOnOpenFailure(), middleware.WithLogger(quiet))
	if err != nil {
		log.Fatal(err)
	}
	_ = backing.Set(ctx, "k", "planted")
	_, err = sealed.Get(ctx, "k")
	fmt.Println(errors.Is(err, store.NotFound{}), errors.Is(err, middleware.ErrNotSealed))
	// Output: true true
}

// A Sealer seals values for a store that gocache does not know, here a map.
func ExampleSealer() {
	ctx := context.Background()
	backing, keys := exampleParts(ctx)
	defer backing.Close()
	defer keys.Close()

	sealer, err := middleware.NewSealer(keys, middleware.WithNamespace("shop"))
	if err != nil {
		log.Fatal(err)
	}
	column := map[string][]byte{}
	if column["user:1"], err = sealer.Seal(ctx, "user:1", "Ada"); err != nil {
		log.Fatal(err)
	}
	name, err := sealer.Open(ctx, "user:1", column["user:1"])
	fmt.Println(name, err)
	_, err = sealer.Open(ctx, "user:2", column["user:1"])
	fmt.Println(errors.Is(err, middleware.ErrUnauthentic))
	// Output:
	// Ada <nil>
	// true
}
