// Command goredis seals (encrypts) the values that a program stores with the client go-redis, without gocache:
//
//	go run ./examples/goredis
//
// By default, it starts a small Redis server inside its own process. To use another Redis server, set the environment
// variable REDIS_URL to its URL, such as redis://localhost:6379.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/alicebob/miniredis/v2" //nolint:depguard // the Redis in this process
	"github.com/redis/go-redis/v9"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
)

func main() {
	if err := run(context.Background(), os.Getenv("REDIS_URL"), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "goredis:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, url string, out io.Writer) error {
	if url == "" {
		server, err := miniredis.Run()
		if err != nil {
			return err
		}
		defer server.Close()
		url = "redis://" + server.Addr()
	}
	options, err := redis.ParseURL(url)
	if err != nil {
		return errors.New("the environment variable REDIS_URL must be a URL such as redis://localhost:6379")
	}
	client := redis.NewClient(options)
	defer client.Close()

	// A real service opens its key-encryption key with aead.OpenKEK. This program makes a key that ends with it.
	handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		return err
	}
	kek, err := aead.NewKeyring(handle)
	if err != nil {
		return err
	}
	defer kek.Close()
	keys, err := aead.NewEnvelope(ctx, kek)
	if err != nil {
		return err
	}
	defer keys.Close()
	sealer, err := middleware.NewSealer(keys, middleware.WithNamespace("shop"))
	if err != nil {
		return err
	}
	return story(ctx, client, sealer, out)
}

// save seals an address and stores it under the name that it was sealed for.
func save(ctx context.Context, client *redis.Client, sealer *middleware.Sealer, name, address string) error {
	sealed, err := sealer.Seal(ctx, name, address)
	if err != nil {
		return err
	}
	return client.Set(ctx, "shop:"+name, sealed, time.Hour).Err()
}

// load returns the address that was saved under a name.
func load(ctx context.Context, client *redis.Client, sealer *middleware.Sealer, name string) (string, error) {
	sealed, err := client.Get(ctx, "shop:"+name).Bytes()
	if err != nil {
		return "", err
	}
	value, err := sealer.Open(ctx, name, sealed)
	if err != nil {
		return "", err
	}
	address, ok := value.(string)
	if !ok {
		return "", fmt.Errorf("the opened value has the type %T instead of string", value)
	}
	return address, nil
}

func story(ctx context.Context, client *redis.Client, sealer *middleware.Sealer, out io.Writer) error {
	if err := save(ctx, client, sealer, "user:42", "alice@example.com"); err != nil {
		return err
	}
	address, err := load(ctx, client, sealer, "user:42")
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the application reads %q\n", address)
	stored, err := client.Get(ctx, "shop:user:42").Bytes()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Redis holds %d bytes, which start with %x\n", len(stored), stored[:6])

	// An attacker who can write to Redis copies the value to the name of another user.
	if err := client.Set(ctx, "shop:user:43", stored, time.Hour).Err(); err != nil {
		return err
	}
	if _, err = load(ctx, client, sealer, "user:43"); !errors.Is(err, middleware.ErrUnauthentic) {
		return fmt.Errorf("opened a value that was copied to another key: want ErrUnauthentic, got: %w", err)
	}
	fmt.Fprintln(out, "a value that was moved to another name is refused")
	return nil
}
