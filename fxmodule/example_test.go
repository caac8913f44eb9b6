package fxmodule_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/hibiken/asynq"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// mountedKEK stands for a secret that the platform mounts: it returns its URI and a function that removes it.
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

// runApp starts and stops an application, where a program would call Run.
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

// A store by URL, sealed.
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

// An application that provides a store already: whoever takes it gets it sealed.
func ExampleModule() {
	kek, remove := mountedKEK()
	defer remove()
	memory, err := memorystore.New()
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = memory.Close() }()
	runApp(
		fx.Provide(func() store.StoreInterface { return memory }), // as before
		fxmodule.Module,
		fx.Supply(fxmodule.Config{Caches: map[string]fxmodule.Cache{fxmodule.Default: {KEK: kek}}}),
		fx.Invoke(func(lc fx.Lifecycle, s store.StoreInterface) { // as before
			atStart(func(ctx context.Context) error { return s.Set(ctx, "user:42", "alice@example.com") })(lc)
		}),
	)
	stored, err := memory.GetBytes(context.Background(), "user:42")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("in clear:", bytes.Contains(stored, []byte("alice")))
	// Output: in clear: false
}

// A sealed cache and one in clear, side by side.
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
			"sessions": {Store: "memory://", KEK: kek},
			"assets":   {Store: "memory://", Clear: true},
		}}),
		fx.Invoke(func(c caches) { fmt.Printf("%T %T\n", c.Sessions, c.Assets) }),
	)
	// Output: *middleware.Store *memorystore.Store
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
    clear: true
`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(config)
	_, err = fxmodule.ConfigFromYAML(strings.NewReader("caches: {default: {store: redis://localhost:6379}}"))
	fmt.Println(err)
	// Output:
	// fxmodule.Config{"default": {store: redis:..., namespace: "shop", ttl: 10m0s, kek: file:...}, "insecure": {store: memory:..., clear: true}, jobs: {}}
	// fxmodule: config: cache "default": it has no keys: give it a kek (such as file:///run/secrets/kek.json), or say clear if its values may be stored in clear
}

func ExampleConfigFromEnv() {
	for name, value := range map[string]string{
		"SEALCACHE_STORE":                 "redis://localhost:6379/0",
		"SEALCACHE_KEK":                   "passphrase:env:CACHE_PASSPHRASE",
		"SEALCACHE_CACHES_INSECURE_CLEAR": "true",
		"SEALCACHE_CACHES_INSECURE_STORE": "memory://",
	} {
		if err := os.Setenv(name, value); err != nil {
			log.Fatal(err)
		}
		defer func() { _ = os.Unsetenv(name) }()
	}
	config, err := fxmodule.ConfigFromEnv()
	fmt.Println(config, err)
	// Output: fxmodule.Config{"default": {store: redis:..., kek: passphrase:...}, "insecure": {store: memory:..., clear: true}, jobs: {}} <nil>
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

// The job encryptor uses the default cache's keys unless Config.Jobs names another's.
func ExampleJobs() {
	kek, remove := mountedKEK()
	defer remove()
	runApp(
		fxmodule.Module,
		fx.Supply(fxmodule.Config{
			Caches: map[string]fxmodule.Cache{fxmodule.Default: {Store: "memory://", KEK: kek}},
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

// A part of an application with jobs of its own: what it depends on, how they are run, who enqueues them.
func ExampleHandlers() {
	server, err := redistest.Run(context.Background(), redistest.Options{}) // the Redis of this example
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	kek, remove := mountedKEK()
	defer remove()

	type args struct{ User int }
	welcome := asynqjobs.Define[args]("mail:welcome", asynq.MaxRetry(5)) // shared by who enqueues and who runs
	sent := make(chan int, 1)
	type mailer struct{ sent chan<- int }
	mail := fx.Module("mail",
		fx.Provide(func() *mailer { return &mailer{sent} }),
		fx.Provide(fx.Annotate(func(m *mailer) fxmodule.Handlers {
			return func(mux *asynq.ServeMux) {
				welcome.Handle(mux, func(_ context.Context, a args) error {
					m.sent <- a.User
					return nil
				})
			}
		}, fx.ResultTags(`group:"jobs"`))),
	)

	var client *asynqjobs.Client
	app := fx.New(
		fx.Supply(fxmodule.Config{
			Caches: map[string]fxmodule.Cache{fxmodule.Default: {Store: "memory://", KEK: kek}},
			Jobs:   fxmodule.Jobs{Redis: server.URL(), Namespace: "shop"},
		}, slog.New(slog.DiscardHandler)),
		fx.Provide(asynq.NewServeMux), // makes the process a worker
		mail,
		fx.Populate(&client),
		fx.NopLogger,
		fxmodule.Module, // last in a worker
	)
	ctx := context.Background()
	if err := app.Start(ctx); err != nil {
		log.Fatal(err)
	}
	if _, err := welcome.Delay(ctx, client, args{User: 42}); err != nil {
		log.Fatal(err)
	}
	fmt.Println("welcomed", <-sent)
	if err := app.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: welcomed 42
}

// The admin page of the jobs, for those whom the application's own login admits.
func ExampleMonitor() {
	kek, remove := mountedKEK()
	defer remove()
	redis, err := redistest.Run(context.Background(), redistest.Options{}) // the Redis of this example
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = redis.Close() }()
	runApp(
		fxmodule.Module,
		fxmodule.Monitor(monitor.WithRootPath("/admin/jobs")),
		fx.Provide(func() monitor.Authorizer {
			return func(r *http.Request) monitor.Viewer {
				if r.Context().Value("user") == "auditor" { // from the application's own login
					return monitor.Viewer{Name: "auditor", Access: monitor.AccessPayloads}
				}
				return monitor.Viewer{} // 403
			}
		}),
		fx.Supply(fxmodule.Config{
			Caches: map[string]fxmodule.Cache{fxmodule.Default: {Store: "memory://", KEK: kek}},
			Jobs:   fxmodule.Jobs{Redis: redis.URL()},
		}, slog.New(slog.DiscardHandler)),
		fx.Provide(http.NewServeMux),
		fx.Invoke(func(mux *http.ServeMux, page *monitor.Handler) {
			mux.Handle(page.RootPath()+"/", page)
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/admin/jobs/", nil))
			fmt.Println(w.Code)
		}),
	)
	// Output: 403
}
