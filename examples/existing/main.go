// Command existing is an example: a program that uses gocache (github.com/eko/gocache), with encryption keys and one line
// added. The program has a Chain: a cache in memory in front of a cache in Redis. gocache's marshaler encodes the values.
// The added line seals (encrypts) the values that go to Redis. The command needs a Redis server:
//
//	go run ./examples/existing -redis localhost:6379
//
// The command prints the value that the application reads, and the bytes that Redis holds.
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/marshaler"
	"github.com/eko/gocache/lib/v4/store"
	redisstore "github.com/eko/gocache/store/redis/v4"
	"github.com/redis/go-redis/v9"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// Profile is a cached value.
type Profile struct {
	Name  string
	Email string
}

func main() {
	addr := flag.String("redis", "localhost:6379", "address of a Redis server")
	kek := flag.String("kek", "", "URI of the key-encryption key (default: a new one in memory, lost at the end)")
	flag.Parse()
	if err := run(context.Background(), os.Stdout, *addr, *kek); err != nil {
		fmt.Fprintln(os.Stderr, "existing:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, addr, kekURI string) error {
	client := redis.NewClient(&redis.Options{Addr: addr})
	defer client.Close()
	if err := client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("no Redis answers at %s (give its address with -redis): %w", addr, err)
	}

	// New: the keys. One envelope serves all stores of a process.
	kek, err := openKEK(ctx, kekURI)
	if err != nil {
		return err
	}
	defer kek.Close() // after the envelope
	keys, err := aead.NewEnvelope(ctx, kek)
	if err != nil {
		return err
	}
	defer keys.Close()

	// As before: the Redis store.
	var remote store.StoreInterface = redisstore.NewRedis(client, store.WithExpiration(time.Hour))
	// New: one line seals it.
	if remote, err = middleware.New(remote, keys); err != nil {
		return err
	}
	// As before: memory before Redis, structs by a marshaler, values loaded on a miss. Memory holds plaintext, inside
	// the process.
	local, err := memorystore.New(memorystore.WithDefaults(store.WithExpiration(time.Minute)))
	if err != nil {
		return err
	}
	defer local.Close()
	chain := cache.NewChain(cache.New[[]byte](local), cache.New[[]byte](remote))
	defer chain.Close()
	profiles := cache.NewLoadable(loadFromDatabase, marshaler.NewCache[Profile](chain))

	key := "existing-example:" + rand.Text()
	p, err := profiles.Get(ctx, key)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "The application reads  %+v\n", p)
	if err := profiles.Close(); err != nil { // waits until the loaded values are stored
		return err
	}

	stored, err := client.Get(ctx, key).Bytes()
	if err != nil {
		return err
	}
	info, err := middleware.Inspect(stored)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Redis holds            %d bytes, a sealed %s: %x...\n", len(stored), info.Type, stored[:32])
	return client.Del(ctx, key).Err()
}

func loadFromDatabase(context.Context, any) (Profile, []store.Option, error) {
	return Profile{Name: "Ada Lovelace", Email: "ada@example.org"}, []store.Option{store.WithExpiration(time.Minute)}, nil
}

// openKEK opens the key-encryption key. Without a URI it makes a key that ends with the program. In production the platform
// mounts the key as a secret, or a key service holds it.
func openKEK(ctx context.Context, uri string) (aead.KEK, error) {
	if uri != "" {
		return aead.OpenKEK(ctx, uri)
	}
	handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	return aead.NewKeyring(handle)
}
