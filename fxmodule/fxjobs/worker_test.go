package fxjobs_test

import (
	"context"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule/fxjobs"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// A process with handlers and without Worker runs no server.
func TestHandlersWithoutWorker(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var client *asynqjobs.Client
	var handler asynq.Handler
	run(t, jobsConfig(t, server.URL()), fx.Populate(&client, &handler), muxOf(func(context.Context, mailArgs) error { return nil }))
	require.NotNil(t, handler)
	_, err := mail().Delay(t.Context(), client, mailArgs{canary})
	require.NoError(t, err)
	servers, err := asynq.NewInspectorFromRedisClient(server.Client(t)).Servers()
	require.NoError(t, err)
	require.Empty(t, servers)
}

// Such a process opens no connection for a server that it does not run.
func TestHandlersWithoutWorkerNeedNoRedis(t *testing.T) {
	t.Parallel()
	run(t, jobsConfig(t, "redis://127.0.0.1:1?max_retries=0&dial_timeout=1s"), muxOf(func(context.Context, mailArgs) error { return nil }))
}

// An application that also starts Worker's server gets an error.
func TestServerStartedTwice(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	app := newApp(jobsConfig(t, server.URL()),
		fx.Invoke(func(lc fx.Lifecycle, s *asynq.Server, h asynq.Handler) {
			lc.Append(fx.StartStopHook(func() error { return s.Start(h) }, s.Shutdown))
		}),
		worker(func(context.Context, mailArgs) error { return nil }))
	require.ErrorContains(t, app.Start(t.Context()), "only fxjobs.Worker may start it")
	stop(t, app)
}

// The parts of an application add their handlers in the group "jobs", as Handlers or as the plain function type.
func TestHandlersInTheGroup(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var box inbox
	var client *asynqjobs.Client
	group := fx.ResultTags(`group:"jobs"`)
	other := asynqjobs.Define[mailArgs]("mail:other")
	handle := func(_ context.Context, args mailArgs) error {
		box.take(args.To)
		return nil
	}
	run(t, jobsConfig(t, server.URL()), quick(), fx.Populate(&client), fx.Provide(asynq.NewServeMux),
		fx.Provide(
			fx.Annotate(func() fxjobs.Handlers { return func(mux *asynq.ServeMux) { mail().Handle(mux, handle) } }, group),
			fx.Annotate(func() func(*asynq.ServeMux) { return func(mux *asynq.ServeMux) { other.Handle(mux, handle) } }, group),
			fx.Annotate(func() fxjobs.Handlers { return nil }, group),
		), fxjobs.Worker)
	_, err := mail().Delay(t.Context(), client, mailArgs{"one"})
	require.NoError(t, err)
	_, err = other.Delay(t.Context(), client, mailArgs{"two"})
	require.NoError(t, err)
	sealtest.Eventually(t, func() bool { return box.len() == 2 })
}

// Providers that an application leaves nil are none.
func TestNilProviders(t *testing.T) {
	t.Parallel()
	var client *asynqjobs.Client
	run(t, jobsConfig(t, "redis://"+redistest.Start(t).Addr()+"/0"), fx.Populate(&client),
		fx.Provide(func() metric.MeterProvider { return (*sdkmetric.MeterProvider)(nil) }, func() trace.TracerProvider { return (*sdktrace.TracerProvider)(nil) }))
}
