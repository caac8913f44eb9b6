package fxmodule_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/eko/gocache/lib/v4/store"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// mountedKEK makes a secret file as the platform would mount it. It returns its URI and a function that removes it.
func mountedKEK() (uri string, remove func()) {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()); err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(dir, "kek.json")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		log.Fatal(err)
	}
	return "file://" + path, func() { _ = os.RemoveAll(dir) }
}

// runApp starts and stops an application. A program calls Run.
func runApp(options ...fx.Option) {
	app := fx.New(append(options, fx.NopLogger)...)
	ctx := context.Background()
	if err := app.Start(ctx); err != nil {
		log.Fatal(err)
	}
	if err := app.Stop(ctx); err != nil {
		log.Fatal(err)
	}
}

func atStart(f func(context.Context) error) func(fx.Lifecycle) {
	return func(lc fx.Lifecycle) { lc.Append(fx.StartHook(f)) }
}

// An application without a store gets a sealed one by URL.
func Example() {
	kek, remove := mountedKEK()
	defer remove()
	runApp(
		fxmodule.Module,
		fx.Supply(fxmodule.Config{Caches: map[string]fxmodule.Cache{
			fxmodule.Default: {Store: "memory://", KEK: kek},
		}}),
		fx.Invoke(func(lc fx.Lifecycle, s store.StoreInterface) {
			atStart(func(ctx context.Context) error {
				if err := s.Set(ctx, "user:42", "alice@example.com"); err != nil {
					return err
				}
				user, err := s.Get(ctx, "user:42")
				fmt.Println(user)
				return err
			})(lc)
		}),
	)
	// Output: alice@example.com
}

// Decorator seals the store that an application provides, for every function that takes it.
func ExampleDecorator() {
	kek, remove := mountedKEK()
	defer remove()
	memory, err := memorystore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = memory.Close() }()
	runApp(
		fx.Provide(func() store.StoreInterface { return memory }), // as before
		fxmodule.Decorator,
		fx.Supply(fxmodule.Config{Caches: map[string]fxmodule.Cache{fxmodule.Default: {KEK: kek}}}),
		fx.Invoke(func(lc fx.Lifecycle, s store.StoreInterface) { // as before
			atStart(func(ctx context.Context) error { return s.Set(ctx, "user:42", "alice@example.com") })(lc)
		}),
	)
	stored, err := memory.GetBytes(context.Background(), "user:42")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("plaintext stored:", bytes.Contains(stored, []byte("alice")))
	// Output: plaintext stored: false
}

// A sealed and an unsealed cache side by side.
func ExampleNamed() {
	kek, remove := mountedKEK()
	defer remove()
	type caches struct {
		fx.In
		Sessions store.StoreInterface `name:"sessions"`
		Assets   store.StoreInterface `name:"assets"`
	}
	runApp(
		fxmodule.Module,
		fxmodule.Named("sessions", "assets"),
		fx.Supply(fxmodule.Config{Caches: map[string]fxmodule.Cache{
			"sessions": {Store: "memory://", KEK: kek, Namespace: "sessions"},
			"assets":   {Store: "memory://", Unsealed: true, Namespace: "assets"},
		}}),
		fx.Invoke(func(c caches) { fmt.Printf("%T %T\n", c.Sessions, c.Assets) }),
	)
	// Output: *middleware.Store *fxmodule.unsealedStore
}

func ExampleConfigFromYAML() {
	config, err := fxmodule.ConfigFromYAML(strings.NewReader(`
caches:
  default:
    store: redis://app:hunter2@localhost:6379/0
    namespace: shop
    kek: file:///run/secrets/kek.json
    ttl: 10m
  insecure:
    store: memory://
    namespace: insecure
    unsealed: true
`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(config)
	_, err = fxmodule.ConfigFromYAML(strings.NewReader("caches: {default: {store: redis://localhost:6379}}"))
	fmt.Println(err)
	// Output:
	// fxmodule.Config{"default": {store: redis:..., namespace: "shop", ttl: 10m0s, kek: file:...}, "insecure": {store: memory:..., namespace: "insecure", unsealed: true}, jobs: {}}
	// fxmodule: config: cache "default": the cache has no encryption keys (set "kek", or set "unsealed" to true to store plaintext)
}

func ExampleConfigFromEnv() {
	for name, value := range map[string]string{
		"SEALCACHE_STORE":                     "redis://localhost:6379/0",
		"SEALCACHE_NAMESPACE":                 "shop",
		"SEALCACHE_KEK":                       "passphrase:env:CACHE_PASSPHRASE",
		"SEALCACHE_CACHES_INSECURE_UNSEALED":  "true",
		"SEALCACHE_CACHES_INSECURE_NAMESPACE": "insecure",
		"SEALCACHE_CACHES_INSECURE_STORE":     "memory://",
	} {
		if err := os.Setenv(name, value); err != nil {
			log.Fatal(err)
		}
		defer func() { _ = os.Unsetenv(name) }()
	}
	config, err := fxmodule.ConfigFromEnv()
	fmt.Println(config, err)
	// Output: fxmodule.Config{"default": {store: redis:..., namespace: "shop", kek: passphrase:...}, "insecure": {store: memory:..., namespace: "insecure", unsealed: true}, jobs: {}} <nil>
}

// Health is an http.Handler for a readiness endpoint, and a function to call.
func ExampleHealth() {
	kek, remove := mountedKEK()
	defer remove()
	runApp(
		fxmodule.Module,
		fx.Supply(fxmodule.Config{Caches: map[string]fxmodule.Cache{fxmodule.Default: {Store: "memory://", KEK: kek}}}),
		fx.Invoke(func(lc fx.Lifecycle, health *fxmodule.Health) {
			atStart(func(ctx context.Context) error {
				fmt.Println(health.Check(ctx)) // mux.Handle("GET /readyz", health)
				return nil
			})(lc)
		}),
	)
	// Output: <nil>
}

// Keys shows which keys are in use.
func ExampleKeys() {
	kek, remove := mountedKEK()
	defer remove()
	runApp(
		fxmodule.Module,
		fx.Supply(fxmodule.Config{Caches: map[string]fxmodule.Cache{fxmodule.Default: {Store: "memory://", KEK: kek}}}),
		fx.Invoke(func(keys *fxmodule.Keys) error {
			ring, err := keys.Keyring(fxmodule.Default)
			if err != nil {
				return err
			}
			for _, k := range ring.Keys() {
				fmt.Println(k.Type, k.Status, k.Primary)
			}
			return nil
		}),
	)
	// Output: AesGcmKey Enabled true
}

// The job encryptor uses the default cache's keys unless Jobs.KeysOf names another cache.
func ExampleJobs() {
	kek, remove := mountedKEK()
	defer remove()
	runApp(
		fxmodule.Module,
		fx.Supply(fxmodule.Config{
			Caches: map[string]fxmodule.Cache{fxmodule.Default: {Store: "memory://", KEK: kek, Namespace: "billing"}},
			Jobs:   fxmodule.Jobs{Namespace: "billing"},
		}),
		fx.Invoke(func(e *jobs.Encryptor) error {
			ctx, m := context.Background(), jobs.Meta{Type: "invoice:send", Queue: "default", ID: "7"}
			sealed, err := e.Seal(ctx, m, []byte(`{"user":42}`))
			if err != nil {
				return err
			}
			payload, err := e.Open(ctx, m, sealed)
			fmt.Printf("%s\n", payload)
			return err
		}),
	)
	// Output: {"user":42}
}
