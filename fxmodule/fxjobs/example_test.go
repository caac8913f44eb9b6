package fxjobs_test

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

	"github.com/hibiken/asynq"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/fxmodule/fxjobs"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

// exampleConfig returns a Config over a Redis of the example's own, and a function that removes both.
func exampleConfig() (config fxmodule.Config, remove func()) {
	server, err := redistest.Run(context.Background(), redistest.Options{})
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	var kek bytes.Buffer
	if err := insecurecleartextkeyset.CreateKeyset(&kek, tinkaead.AES256GCMKeyTemplate()); err != nil {
		log.Fatal(err)
	}
	path := filepath.Join(dir, "kek.json")
	if err := os.WriteFile(path, kek.Bytes(), 0o600); err != nil {
		log.Fatal(err)
	}
	return fxmodule.Config{
			Caches: map[string]fxmodule.Cache{fxmodule.Default: {Store: "memory://", KEK: "file://" + path, Namespace: "shop"}},
			Jobs:   fxmodule.Jobs{Redis: server.URL(), Namespace: "shop"},
		}, func() {
			_ = server.Close()
			_ = os.RemoveAll(dir)
		}
}

// A part of an application defines its jobs: their dependencies, their handlers, and the calls that enqueue them.
func ExampleHandlers() {
	config, remove := exampleConfig()
	defer remove()

	type args struct{ User int }
	welcome := asynqjobs.Define[args]("mail:welcome", asynq.MaxRetry(5)) // shared by producers and workers
	sent := make(chan int, 1)
	type mailer struct{ sent chan<- int }
	mail := fx.Module("mail",
		fx.Provide(func() *mailer { return &mailer{sent} }),
		fx.Provide(fx.Annotate(func(m *mailer) fxjobs.Handlers {
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
		fx.Supply(config, slog.New(slog.DiscardHandler)),
		fxmodule.Module,
		fxjobs.Module,
		fx.Provide(asynq.NewServeMux),
		mail,
		fx.Populate(&client),
		fx.NopLogger,
		fxjobs.Worker, // last
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

// Monitor serves the admin page of the jobs to users whom the application's login admits.
func ExampleMonitor() {
	config, remove := exampleConfig()
	defer remove()
	authorize := func(r *http.Request) monitor.Viewer {
		if r.Context().Value("user") == "auditor" { // from the application's own login
			return monitor.Viewer{Name: "auditor", Access: monitor.AccessPayloads}
		}
		return monitor.Viewer{} // 403
	}
	app := fx.New(
		fx.Supply(config, slog.New(slog.DiscardHandler)),
		fxmodule.Module,
		fxjobs.Module,
		fxjobs.Monitor(authorize, monitor.WithRootPath("/admin/jobs")),
		fx.Provide(http.NewServeMux),
		fx.Invoke(func(mux *http.ServeMux, page *monitor.Handler) {
			mux.Handle(page.RootPath()+"/", page)
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/admin/jobs/", nil))
			fmt.Println(w.Code)
		}),
		fx.NopLogger,
	)
	ctx := context.Background()
	if err := app.Start(ctx); err != nil {
		log.Fatal(err)
	}
	if err := app.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: 403
}
