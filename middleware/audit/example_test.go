package audit_test

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// exampleClient returns a client of a separate database, and the keys of the application.
func exampleClient(ctx context.Context, db int) (*redis.Client, *aead.Keyring) {
	opts := shared.Single.ClientOptions()
	opts.DB = db
	client := redis.NewClient(opts)
	must(client.FlushDB(ctx).Err())
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	must(err)
	keys, err := aead.NewKeyring(h)
	must(err)
	return client, keys
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Is anything in plaintext?
func ExampleRun() {
	ctx := context.Background()
	client, keys := exampleClient(ctx, 153)
	defer client.Close()
	must(client.Set(ctx, "shop:user:1", "alice@example.com", 0).Err())
	ask := func() {
		report, err := audit.Run(ctx, client, audit.Config{Prefix: "shop:"})
		must(err)
		answer, reasons := report.AnythingPlaintext()
		fmt.Println(answer, reasons)
	}
	ask()
	_, err := migrate.Run(ctx, client, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "shop"}, Keys: keys, AllowUnproven: true})
	must(err)
	ask()
	// Output:
	// yes [1 plaintext values]
	// no []
}

// Inspect describes one entry without any key.
func ExampleInspect() {
	ctx := context.Background()
	client, keys := exampleClient(ctx, 155)
	defer client.Close()
	must(client.Set(ctx, "shop:user:1", "alice", 0).Err())
	_, err := migrate.Run(ctx, client, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "shop"}, Keys: keys, AllowUnproven: true})
	must(err)
	entry, err := audit.Inspect(ctx, client, "shop:user:1")
	must(err)
	fmt.Println(entry.Form, entry.Info.Type, entry.Bytes)
	// Output: sealed []byte 44
}
