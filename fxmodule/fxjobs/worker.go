package fxjobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule/internal/early"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// Worker runs the handlers of the application's *asynq.ServeMux, and of the Handlers in the group "jobs". It starts and
// stops their server with the application. It requires Module and an *asynq.ServeMux. An asynq.Config of the application
// adds what fxmodule.Jobs does not set. Do not start the *asynq.Server that Worker provides.
//
// List Worker last among the options of fx.New. fx starts the hooks of all fx.Modules first, and then those of functions
// given to fx.Invoke in the order in which they are listed. The server then starts after everything that handlers use, and
// at stop waits for running tasks before any of it is closed. A hook listed after Worker must not be needed by handlers.
//
// At stop the server takes no new tasks, and gives running tasks Jobs.ShutdownTimeout to end before they return to their
// queue. If fx.StopTimeout ends first, the log and the error of Stop say so, the other hooks run, and the tasks continue
// until the process ends.
var Worker fx.Option = fx.Options(
	fx.Provide(newServer),
	fx.Invoke(serve),
)

type serverInputs struct {
	fx.In

	Settings   settings
	Connection *connection
	Base       asynq.Config  `optional:"true"`
	Pointer    *asynq.Config `optional:"true"`
}

func newServer(in serverInputs) (*asynq.Server, error) {
	if in.Pointer != nil { // it would be ignored
		return nil, in.Settings.failed(errors.New("the application provides an *asynq.Config (provide an asynq.Config instead)"))
	}
	j, base := in.Settings.Config.Jobs, in.Base
	if len(j.Queues) > 0 {
		base.Queues = maps.Clone(j.Queues)
	}
	base.StrictPriority = base.StrictPriority || j.StrictPriority
	base.Concurrency = cmp.Or(j.Concurrency, base.Concurrency)
	base.ShutdownTimeout = cmp.Or(j.ShutdownTimeout, base.ShutdownTimeout)
	if base.GroupGracePeriod != 0 && base.GroupGracePeriod < time.Second { // asynq panics
		return nil, in.Settings.failed(errors.New("asynq.Config: GroupGracePeriod must be at least one second"))
	}
	config, err := asynqjobs.Config(in.Settings.Encryptor, base, append(in.Settings.options(), in.Connection.groupClient())...)
	if err != nil {
		return nil, in.Settings.failed(err)
	}
	return asynq.NewServerFromRedisClient(in.Connection.client, config), nil
}

type serveInputs struct {
	fx.In

	Settings   settings
	Handler    asynq.Handler
	Server     *asynq.Server
	Connection *connection
	Base       asynq.Config `optional:"true"`
	Lifecycle  fx.Lifecycle
}

// serve starts and stops the server with the application.
func serve(in serveInputs) {
	timeout := cmp.Or(in.Settings.Config.Jobs.ShutdownTimeout, in.Base.ShutdownTimeout)
	log := in.Settings.logger()
	if timeout >= fx.DefaultTimeout {
		log.Warn("sealcache: jobs.shutdown_timeout is not shorter than fx's default StopTimeout (raise fx.StopTimeout)",
			"shutdown_timeout", timeout.String(), "default_stop_timeout", fx.DefaultTimeout.String())
	}
	in.Lifecycle.Append(fx.Hook{
		OnStart: func(context.Context) error {
			if err := in.Server.Start(in.Handler); err != nil {
				return fmt.Errorf("fxjobs: start the job server: %w (only fxjobs.Worker may start it)", err)
			}
			return nil
		},
		OnStop: func(ctx context.Context) error {
			err := stop(ctx, in.Server, in.Connection)
			if err != nil {
				log.ErrorContext(ctx, "sealcache: the job server did not stop before fx.StopTimeout", "error", err)
			}
			return err
		},
	})
}

// stop stops the server. If the application's time to stop ends first, the tasks continue, and the connection stays open
// for them. asynq panics if its client is closed before. See fxmodule.Jobs.ShutdownTimeout for what becomes of the tasks.
func stop(ctx context.Context, server *asynq.Server, c *connection) error {
	stopped := make(chan struct{})
	err := early.Do(ctx, "fxjobs: stop the job server (tasks may still run)", func() error {
		defer close(stopped)
		server.Stop()
		server.Shutdown()
		return nil
	})
	if err != nil {
		c.closeAfter(stopped)
	}
	return err
}
