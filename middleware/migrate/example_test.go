package migrate_test

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/migrate"
	"github.com/sealcache/sealcache/stores/redisstore"
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

// exampleStore is the application's own store, which seals already. Its values prove the keys.
func exampleStore(client *redis.Client, keys *aead.Keyring) *middleware.Store {
	backing, err := redisstore.New(client)
	must(err)
	s, err := middleware.New(backing, keys, middleware.WithNamespace("shop"))
	must(err)
	return s
}

// An application that reads both forms and writes sealed values goes on while its old values are sealed.
func ExampleRun() {
	ctx := context.Background()
	client, keys := exampleClient(ctx, 152)
	defer client.Close()
	must(client.Set(ctx, "shop:user:1", "alice@example.com", 0).Err())
	must(client.Set(ctx, "shop:user:2", "bob@example.com", 0).Err())
	must(exampleStore(client, keys).Set(ctx, "greeting", "sealed by the application"))

	report, err := migrate.Run(ctx, client, migrate.Config{
		Operation: migrate.Seal,
		From:      migrate.Space{Namespace: "shop"},
		Keys:      keys,
		Proof:     "greeting",
	})
	must(err)
	fmt.Println(report.Written, "sealed,", report.NotChanged(), "not changed, done:", report.Done())

	value, err := audit.Open(ctx, client, "shop", "user:1", keys)
	must(err)
	fmt.Println(string(value.Text))
	// Output:
	// 2 sealed, 0 not changed, done: true
	// alice@example.com
}

// One namespace becomes another, and the old entries go.
func ExampleConfig_to() {
	ctx := context.Background()
	client, keys := exampleClient(ctx, 154)
	defer client.Close()
	must(client.Set(ctx, "user:1", "alice", 0).Err())
	must(client.SAdd(ctx, "gocache_tag_people", "user:1").Err())
	must(exampleStore(client, keys).Set(ctx, "user:2", "bob"))

	report, err := migrate.Run(ctx, client, migrate.Config{
		Operation: migrate.Seal,
		From:      migrate.Space{Prefix: "user:"},
		To:        &migrate.Space{Namespace: "shop", Prefix: "user:"},
		Keys:      keys,
		DeleteOld: true,
		Proof:     "user:2",
	})
	must(err)
	fmt.Println(report.Written, "written,", report.Deleted, "deleted")
	fmt.Println(client.SMembers(ctx, "gocache_tag_shop:people").Val())
	// Output:
	// 1 written, 1 deleted
	// [shop:user:1]
}
