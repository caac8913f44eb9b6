package fxjobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/hibiken/asynq"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/fxmodule/internal/early"
	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/options"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// Module provides jobs on asynq, sealed. It belongs next to fxmodule.Module or fxmodule.Decorator. It provides
//
//	*asynqjobs.Client         enqueues jobs
//	*asynqjobs.Scheduler      runs periodic jobs while the application runs; requires Jobs.PRFKeyset
//	*asynq.Inspector          inspects the queues
//	asynq.Handler             the application's *asynq.ServeMux for sealed tasks
//	fxmodule.JobsCheck        adds the Redis of the jobs to fxmodule.Health
//
// It requires an asynq.RedisConnOpt of the application if Jobs.Redis is empty. Only Worker runs a server. An
// application with its own server gives it the asynq.Handler, and a configuration from asynqjobs.Config.
var Module fx.Option = fx.Module("sealcache-jobs",
	fx.Provide(newConnection, newClient, newInspector, newScheduler, newHandler, newCheck),
)

// Handlers adds handlers to the application's *asynq.ServeMux. The parts of an application provide it in the fx group
// "jobs". A nil function adds none.
type Handlers = func(mux *asynq.ServeMux)

// settings are the dependencies that all parts have in common.
type settings struct {
	fx.In

	Config    fxmodule.Config
	Encryptor *jobs.Encryptor
	Caches    *fxmodule.Caches
	Logger    *slog.Logger         `optional:"true"`
	Meters    metric.MeterProvider `optional:"true"`
	Tracers   trace.TracerProvider `optional:"true"`
}

func (s settings) logger() *slog.Logger { return cmp.Or(s.Logger, slog.Default()) }

// options are the options that client, handler and server have in common.
func (s settings) options() []asynqjobs.Option {
	opts := []asynqjobs.Option{asynqjobs.WithLogger(s.logger())}
	if s.Config.Jobs.HiddenTypes {
		opts = append(opts, asynqjobs.WithHiddenTypes())
	}
	opts = options.Given(opts, s.Config.Jobs.Plaintext, asynqjobs.WithPlaintext)
	if until := s.Config.Jobs.PlaintextUntil; !until.IsZero() {
		opts = append(opts, asynqjobs.WithPlaintextUntil(until))
	}
	if !nilcheck.IsNil(s.Tracers) {
		opts = append(opts, asynqjobs.WithTracerProvider(s.Tracers))
	}
	if !nilcheck.IsNil(s.Meters) {
		opts = append(opts, asynqjobs.WithMeterProvider(s.Meters))
	}
	return opts
}

func newClient(s settings, c *connection, lc fx.Lifecycle) (*asynqjobs.Client, error) {
	opts := append(s.options(), asynqjobs.WithQueueCheck(newInspector(c)), asynqjobs.WithPipeline(c.client))
	client, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(c.client), s.Encryptor, opts...)
	if err != nil {
		return nil, s.failed(err)
	}
	lc.Append(fx.StopHook(func() { _ = client.Close() })) // asynq refuses to close a shared connection
	return client, nil
}

func newInspector(c *connection) *asynq.Inspector { return asynq.NewInspectorFromRedisClient(c.client) }

// noPRFError is jobs.ErrNoPRF in the words of the Config.
type noPRFError struct{}

func (noPRFError) Error() string { return "the scheduler needs the setting \"jobs.prf_keyset\"" }
func (noPRFError) Unwrap() error { return jobs.ErrNoPRF }

// newScheduler makes a Scheduler that runs while the application does.
func newScheduler(s settings, c *connection, client *asynqjobs.Client, lc fx.Lifecycle) (*asynqjobs.Scheduler, error) {
	opts := options.Given[asynqjobs.SchedulerOption](nil, s.Config.Jobs.Schedules.CatchUp, asynqjobs.WithCatchUp)
	scheduler, err := asynqjobs.NewScheduler(c.client, client, opts...)
	if errors.Is(err, jobs.ErrNoPRF) {
		err = noPRFError{}
	}
	if err != nil {
		return nil, s.failed(err)
	}
	running, end := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			go func() { ended <- scheduler.Run(running) }()
			return nil
		},
		OnStop: func(ctx context.Context) error {
			end()
			return early.Do(ctx, "fxjobs: stop the scheduler", func() error { return <-ended })
		},
	})
	return scheduler, nil
}

type handlerInputs struct {
	fx.In

	Settings   settings
	Mux        *asynq.ServeMux
	Handlers   []Handlers `group:"jobs"`
	Connection *connection
}

// newHandler completes the application's mux and seals it.
func newHandler(in handlerInputs) (asynq.Handler, error) {
	if in.Mux == nil {
		return nil, in.Settings.failed(errors.New("the *asynq.ServeMux of the application is nil"))
	}
	for _, add := range in.Handlers {
		if add != nil {
			add(in.Mux)
		}
	}
	handler, err := asynqjobs.Handler(in.Settings.Encryptor, in.Mux, append(in.Settings.options(), in.Connection.groupClient())...)
	return handler, in.Settings.failed(err)
}

func newCheck(c *connection) fxmodule.JobsCheck { return c.check }

// failed closes caches and keys before a constructor returns err, since fx.New then fails and runs no hooks. It returns nil
// for nil.
func (s settings) failed(err error) error {
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("fxjobs: %w", err), s.Caches.Close())
}
