package fxjobs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule/fxjobs"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// A running task ends before its dependencies are closed. No task starts after that.
func TestStopWaitsForTasks(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var client *asynqjobs.Client
	var events inbox
	begun, release := make(chan struct{}, 10), make(chan struct{})
	type mailer struct{ events *inbox }
	config := jobsConfig(t, server.URL())
	config.Jobs.Concurrency = 1
	var l sealtest.Logs
	app := fx.New(fx.NopLogger, modules(), fx.Supply(config, l.Logger()), quick(), fxjobs.Worker, fx.Populate(&client),
		fx.Provide(asynq.NewServeMux),
		// a part of the application, with its dependency
		fx.Module("mail",
			fx.Provide(func(lc fx.Lifecycle) *mailer {
				lc.Append(fx.StartStopHook(func() { events.take("mailer opened") }, func() { events.take("mailer closed") }))
				return &mailer{&events}
			}),
			fx.Provide(fx.Annotate(func(m *mailer) fxjobs.Handlers {
				return func(mux *asynq.ServeMux) {
					mail().Handle(mux, func(ctx context.Context, args mailArgs) error {
						begun <- struct{}{}
						<-release
						m.events.take("sent " + args.To)
						return asynqjobs.WriteResult(ctx, []byte("done"))
					})
				}
			}, fx.ResultTags(`group:"jobs"`))),
		))
	require.NoError(t, app.Start(t.Context()))
	for i := range 2 {
		_, err := mail().Delay(t.Context(), client, mailArgs{fmt.Sprint(i)}, asynq.TaskID(fmt.Sprint(i)))
		require.NoError(t, err)
	}
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- app.Stop(context.Background()) }()
	sealtest.Eventually(t, func() bool { return strings.Contains(l.String(), "Processor stopped") }, "asynq takes tasks")
	select {
	case err := <-stopped:
		t.Fatal("stopped, although a task runs:", err)
	case <-time.After(300 * time.Millisecond):
	}
	close(release)
	require.NoError(t, <-stopped)
	require.Equal(t, []string{"mailer opened", "sent 0", "mailer closed"}, events.mail)
	_, err := mail().Delay(t.Context(), client, mailArgs{"late"})
	require.Error(t, err, "the client is closed")

	inspector := asynq.NewInspectorFromRedisClient(server.Client(t))
	first, err := inspector.GetTaskInfo("default", "0")
	require.NoError(t, err)
	require.Equal(t, asynq.TaskStateCompleted, first.State)
	second, err := inspector.GetTaskInfo("default", "1")
	require.NoError(t, err)
	require.Equal(t, asynq.TaskStatePending, second.State)
}

// A task that does not end within ShutdownTimeout returns to its queue.
func TestStopPutsTasksBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var client *asynqjobs.Client
	begun := make(chan struct{})
	config := jobsConfig(t, server.URL())
	config.Jobs.ShutdownTimeout = 100 * time.Millisecond
	app := newApp(config, fx.Populate(&client), worker(func(ctx context.Context, _ mailArgs) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	}))
	require.NoError(t, app.Start(t.Context()))
	_, err := mail().Delay(t.Context(), client, mailArgs{canary}, asynq.TaskID("1"))
	require.NoError(t, err)
	<-begun
	stop(t, app)
	info, err := asynq.NewInspectorFromRedisClient(server.Client(t)).GetTaskInfo("default", "1")
	require.NoError(t, err)
	require.Equal(t, asynq.TaskStatePending, info.State)
	require.Zero(t, info.Retried)
}

// If the application's time to stop ends before the task, the log and the error say what to change. The application's other
// hooks run, and the server keeps its connection.
func TestStopInTooLittleTime(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	own := &conn{options: server.ClientOptions()}
	var client *asynqjobs.Client
	begun, release := make(chan struct{}), make(chan struct{})
	var events inbox
	var l sealtest.Logs
	app := fx.New(fx.NopLogger, modules(), fx.Supply(jobsConfig(t, ""), l.Logger()), fx.Populate(&client),
		fx.Provide(func() asynq.RedisConnOpt { return own }),
		fx.Invoke(func(lc fx.Lifecycle) { lc.Append(fx.StopHook(func() { events.take("database closed") })) }),
		worker(func(ctx context.Context, _ mailArgs) error {
			close(begun)
			<-release
			return nil
		}))
	require.NoError(t, app.Start(t.Context()))
	_, err := mail().Delay(t.Context(), client, mailArgs{canary}, asynq.TaskID("1"))
	require.NoError(t, err)
	<-begun
	ctx := sealtest.EarlyDeadline(t, 4*time.Second) // a second of it is left at the end
	err = app.Stop(ctx)
	require.ErrorContains(t, err, "fxjobs: stop the job server (tasks may still run): the OnStop hook did not end before fx.StopTimeout")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, ctx.Err(), "before the time is over")
	require.Contains(t, l.String(), "did not stop before fx.StopTimeout")
	require.Equal(t, []string{"database closed"}, events.mail)
	require.NoError(t, own.made[0].Ping(t.Context()).Err(), "the server's client is open while it runs")

	close(release)
	inspector := asynq.NewInspectorFromRedisClient(server.Client(t))
	sealtest.Eventually(t, func() bool {
		info, err := inspector.GetTaskInfo("default", "1")
		return err == nil && info.State == asynq.TaskStateCompleted
	})
	sealtest.Eventually(t, func() bool { return errors.Is(own.made[0].Ping(context.Background()).Err(), redis.ErrClosed) })
}

// A Redis that hangs at stop leaves time for the application's other hooks.
func TestStopWhileRedisHangs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var events inbox
	app := fx.New(fx.NopLogger, modules(), fx.Supply(jobsConfig(t, server.URL())), quiet(),
		fx.Invoke(func(lc fx.Lifecycle) { lc.Append(fx.StopHook(func() { events.take("database closed") })) }),
		fx.Invoke(func(*asynqjobs.Scheduler) {}),
		worker(func(context.Context, mailArgs) error { return nil }))
	require.NoError(t, app.Start(t.Context()))
	require.NoError(t, server.Pause())
	require.ErrorContains(t, app.Stop(sealtest.EarlyDeadline(t, 4*time.Second)), "fxjobs: stop the job server (tasks may still run)")
	require.Equal(t, []string{"database closed"}, events.mail)
	require.NoError(t, server.Resume())
}

// A ShutdownTimeout that is not shorter than fx's default time to stop is logged at start.
func TestLongShutdownTimeout(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for timeout, warned := range map[time.Duration]bool{0: false, 10 * time.Second: false, 15 * time.Second: true, time.Minute: true} {
		config := jobsConfig(t, server.URL())
		config.Jobs.ShutdownTimeout = timeout
		var l sealtest.Logs
		start(t, fx.New(fx.NopLogger, modules(), fx.Supply(config, l.Logger()), worker(func(context.Context, mailArgs) error { return nil })))
		require.Equal(t, warned, strings.Contains(l.String(), "raise fx.StopTimeout"), timeout)
	}
}

// Hooks of invoked functions open and close the dependencies of handlers, and one of these functions adds the handler.
// With Worker listed last, jobs start after these hooks and end before them. One job is in Redis before the application
// starts, so that a server that starts too early fails the test. Another job runs while the application stops.
func TestInvokedHooksAroundJobs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	config := jobsConfig(t, server.URL())
	config.Jobs.Concurrency = 1
	var producer, own *asynqjobs.Client
	run(t, config, fx.Populate(&producer))
	_, err := mail().Delay(t.Context(), producer, mailArgs{"pending"})
	require.NoError(t, err)

	var events inbox
	begun, release := make(chan struct{}, 2), make(chan struct{})
	note := func(name string) func(fx.Lifecycle) {
		return func(lc fx.Lifecycle) {
			lc.Append(fx.StartStopHook(func() {
				select { // a server that runs too early would take the job now
				case early := <-begun:
					begun <- early
				case <-time.After(300 * time.Millisecond):
				}
				events.take(name + " opened")
			}, func() { events.take(name + " closed") }))
		}
	}
	app := fx.New(fx.NopLogger, modules(), fx.Supply(config), quiet(), quick(), fx.Populate(&own),
		fx.Provide(asynq.NewServeMux),
		fx.Invoke(note("database")),
		fx.Module("mail", fx.Invoke(note("mailer"))),
		fx.Invoke(func(mux *asynq.ServeMux) {
			mail().Handle(mux, func(_ context.Context, args mailArgs) error {
				events.take(args.To + " begins")
				begun <- struct{}{}
				if args.To == "last" {
					<-release
				}
				events.take(args.To + " ends")
				return nil
			})
		}),
		fxjobs.Worker)
	require.NoError(t, app.Start(t.Context()))
	<-begun
	_, err = mail().Delay(t.Context(), own, mailArgs{"last"})
	require.NoError(t, err)
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- app.Stop(context.Background()) }()
	inspector := asynq.NewInspectorFromRedisClient(server.Client(t))
	sealtest.Eventually(t, func() bool { // the server has begun to stop
		servers, err := inspector.Servers()
		return err == nil && len(servers) == 1 && servers[0].Status != "active"
	})
	close(release)
	require.NoError(t, <-stopped)
	require.Equal(t, []string{
		"mailer opened", "database opened",
		"pending begins", "pending ends", "last begins", "last ends",
		"database closed", "mailer closed",
	}, events.mail)
}
