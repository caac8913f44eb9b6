package fxmodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// Handlers adds handlers to the application's mux: what the parts of an application provide in the fx group "jobs", each
// for its own jobs; nil adds none. The server is started after, and stopped before, everything that such a part depends on.
type Handlers func(mux *asynq.ServeMux)

// muxInputs are the application's mux and what its parts add. dig leaves an optional value out not only if nobody
// provides it, but also if something that its constructor needs is missing; where handlers are concerned, nobody would
// notice for a while.
type muxInputs struct {
	fx.In

	Graph *graph
	Mux   *asynq.ServeMux `optional:"true"`
	Parts []Handlers      `group:"jobs"`
}

// mux is the application's, complete.
type mux struct{ *asynq.ServeMux }

var (
	errLostMux = errors.New("the application provides an *asynq.ServeMux that fx cannot make, because something that its constructor needs is missing, or that only one fx.Module sees (fx.Private)")
	errNoGroup = errors.New("the application provides fxmodule.Handlers elsewhere than in the fx group \"jobs\", where nobody adds them to the mux")
	errPlain   = errors.New("the fx group \"jobs\" has values of type func(*asynq.ServeMux), which nobody adds to the mux: give them the type fxmodule.Handlers")
	errNamed   = errors.New("the application provides an *asynq.ServeMux under a name or in a group only, so that nobody runs it: provide it without, or set jobs.no_server if a server of the application's own does")
	errNoMux   = errors.New("the fx group \"jobs\" has handlers, and there is no *asynq.ServeMux that they could be added to: fx.Provide(asynq.NewServeMux)")
)

// newMux completes the application's mux. Without one, what it returns is of no use to anybody.
func newMux(in muxInputs) (*mux, error) {
	j := in.Graph.system.in.Config.Jobs
	switch drawing := in.Graph.system.in.Graph; {
	case in.Mux == nil && provided(drawing, "*asynq.ServeMux"):
		return nil, in.Graph.jobsFailed(errLostMux)
	case in.Mux == nil && len(in.Parts) > 0:
		return nil, in.Graph.jobsFailed(errNoMux)
	case strayHandlers(drawing):
		return nil, in.Graph.jobsFailed(errNoGroup)
	case untakenHandlers(drawing):
		return nil, in.Graph.jobsFailed(errPlain)
	case in.Mux == nil && providedApart(drawing, "*asynq.ServeMux") && !j.NoServer && !reflect.ValueOf(j).IsZero():
		return nil, in.Graph.jobsFailed(errNamed)
	}
	for _, add := range in.Parts {
		if add != nil {
			add(in.Mux)
		}
	}
	return &mux{in.Mux}, nil
}

// groupClient enqueues members of groups that did not open. The server's configuration and the handler share it; without a
// server it is left out, and nothing asks for their Redis.
type groupClient struct{ *asynq.Client }

func newGroupClient(_ serving, q *queue) groupClient {
	return groupClient{asynq.NewClientFromRedisClient(q.client)}
}

type handlerInputs struct {
	fx.In

	Graph     *graph
	Mux       *mux
	Own       *asynq.ServeMux // so that fx says what is missing to whoever takes an asynq.Handler
	Encryptor *jobs.Encryptor
	Group     groupClient `optional:"true"`
}

func handlerOf(in handlerInputs) (asynq.Handler, error) {
	opts := in.Graph.system.asynqOptions()
	if in.Group.Client != nil {
		opts = append(opts, asynqjobs.WithGroupClient(in.Group.Client))
	}
	h, err := asynqjobs.Handler(in.Encryptor, in.Mux.ServeMux, opts...)
	return h, in.Graph.jobsFailed(err)
}

type serverInputs struct {
	fx.In

	Graph     *graph
	Mux       *asynq.ServeMux // the server is left out if there is none
	Queue     *queue
	Encryptor *jobs.Encryptor
	Base      asynq.Config `optional:"true"`
}

// serverOf makes the server, which serve starts.
func serverOf(in serverInputs) (*asynq.Server, error) {
	s, j, base := in.Graph.system, in.Graph.system.in.Config.Jobs, in.Base
	if reflect.ValueOf(base).IsZero() && provided(s.in.Graph, "asynq.Config") {
		s.log.Warn("sealcache: the application provides an asynq.Config that says nothing, or that fx cannot make, because something that its constructor needs is missing")
	}
	if provided(s.in.Graph, "*asynq.Config") {
		s.log.Warn("sealcache: the application provides a *asynq.Config, which is not looked for: provide an asynq.Config")
	}
	if len(j.Queues) > 0 {
		base.Queues = maps.Clone(j.Queues)
	}
	if j.StrictPriority {
		base.StrictPriority = true
	}
	if j.Concurrency != 0 {
		base.Concurrency = j.Concurrency
	}
	if j.ShutdownTimeout != 0 {
		base.ShutdownTimeout = j.ShutdownTimeout
	}
	if base.Logger == nil {
		base.Logger = asynqLogger{s.log}
	}
	if base.GroupGracePeriod != 0 && base.GroupGracePeriod < time.Second { // asynq panics
		return nil, in.Graph.jobsFailed(errors.New("GroupGracePeriod of the application's asynq.Config is less than a second"))
	}
	opts := append(s.asynqOptions(), asynqjobs.WithGroupClient(asynq.NewClientFromRedisClient(in.Queue.client)))
	cfg, err := asynqjobs.Config(in.Encryptor, base, opts...)
	if err != nil {
		return nil, in.Graph.jobsFailed(err)
	}
	return asynq.NewServerFromRedisClient(in.Queue.client, cfg), nil
}

// server is a server with what it runs. It is left out, by dig, where the application has no mux.
type server struct {
	*asynq.Server
	handler  asynq.Handler
	queue    *queue
	patience time.Duration // how long Shutdown waits for tasks
}

// serving is there if the Config has the process run jobs; see need.go. Without it nothing asks for their Redis.
type serving struct{}

func needServer(c Config) (serving, error) {
	if c.Jobs.NoServer {
		return serving{}, lacking()
	}
	return serving{}, nil
}

type newServerInputs struct {
	fx.In

	Serving serving // first: the server is left out if there is to be none
	Graph   *graph
	Mux     *asynq.ServeMux // as it is if there is no mux
	Server  *asynq.Server
	Handler asynq.Handler
	Queue   *queue
	Base    asynq.Config `optional:"true"`
}

func newServer(in newServerInputs) *server {
	patience := in.Base.ShutdownTimeout
	if own := in.Graph.system.in.Config.Jobs.ShutdownTimeout; own != 0 {
		patience = own
	}
	return &server{in.Server, in.Handler, in.Queue, patience}
}

type serveInputs struct {
	fx.In

	Graph  *graph
	Mux    *mux    // says if the application's cannot be had
	Server *server `optional:"true"`
}

// serve has the server run for as long as the application does.
func serve(in serveInputs) error {
	switch {
	case in.Mux.ServeMux == nil || in.Graph.system.in.Config.Jobs.NoServer:
		return nil
	case in.Server == nil:
		return in.Graph.jobsFailed(errors.New("the server cannot be made, because something that it needs is missing"))
	}
	s := in.Graph.system
	if in.Server.patience >= fx.DefaultTimeout {
		s.log.Warn("sealcache: at stop, jobs may take as long as fx gives all of the application unless fx.StopTimeout says otherwise, and those that run longer than that are not put back: make fx.StopTimeout longer than jobs.shutdown_timeout (or the asynq.Config's ShutdownTimeout), or that shorter",
			"shutdown_timeout", in.Server.patience.String(), "default_stop_timeout", fx.DefaultTimeout.String())
	}
	s.in.Lifecycle.Append(fx.Hook{
		OnStart: func(context.Context) error {
			if err := in.Server.Start(in.Server.handler); err != nil {
				return fmt.Errorf("fxmodule: jobs: the server could not be started: Module starts it where the application provides an *asynq.ServeMux; whoever starts one himself sets jobs.no_server: %w", err)
			}
			return nil
		},
		OnStop: func(ctx context.Context) error {
			err := in.Server.stop(ctx)
			if err != nil {
				s.log.ErrorContext(ctx, "sealcache: jobs were not stopped", "error", err)
			}
			return err
		},
	})
	return nil
}

var errStillRunning = errors.New("fxmodule: jobs: at stop, tasks still run, or Redis does not answer; those that have not ended when the process does are not put back: asynq finds them about a minute later, counts a try, and archives those that have none left; make fx.StopTimeout longer than jobs.shutdown_timeout")

// stop takes no new tasks, and waits for those that run: until asynq, after ShutdownTimeout, puts them back, or the
// application's time to stop is almost over. Then the tasks run on, and their Redis client stays open for them, until the
// process ends: asynq panics where the client is closed below it.
func (s *server) stop(ctx context.Context) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.Stop()
		s.Shutdown()
	}()
	early, cancel := inTime(ctx)
	defer cancel()
	select {
	case <-stopped:
		return nil
	case <-early.Done():
		s.queue.closeAfter(stopped)
		return fmt.Errorf("%w: %w", errStillRunning, early.Err())
	}
}

// inTime ends a second before ctx, or a quarter of what is left if that is less: fx runs no further hook of anybody once
// ctx is over, and then forgets what the hooks have said.
func inTime(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(time.Second, time.Until(deadline)/4)))
}

// jobsFailed is failed for what concerns jobs.
func (g *graph) jobsFailed(err error) error {
	if err == nil {
		return nil
	}
	return g.failed(fmt.Errorf("fxmodule: jobs: %w", err))
}

// asynqLogger hands what asynq logs to the application's logger. It is text about queues and ids, and errors of Redis.
type asynqLogger struct{ log *slog.Logger }

func (l asynqLogger) say(level slog.Level, args []any) {
	l.log.Log(context.Background(), level, "sealcache: asynq", "said", fmt.Sprint(args...))
}

func (l asynqLogger) Debug(args ...any) { l.say(slog.LevelDebug, args) }
func (l asynqLogger) Info(args ...any)  { l.say(slog.LevelInfo, args) }
func (l asynqLogger) Warn(args ...any)  { l.say(slog.LevelWarn, args) }
func (l asynqLogger) Error(args ...any) { l.say(slog.LevelError, args) }

// Fatal logs. asynq then ends the process.
func (l asynqLogger) Fatal(args ...any) { l.say(slog.LevelError, args) }
