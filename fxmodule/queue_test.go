package fxmodule_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocacheredis "github.com/eko/gocache/store/redis/v4"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/prf"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

// jobsConfig is a Config of sealed jobs on the Redis of a URL.
func jobsConfig(t testing.TB, url string) fxmodule.Config {
	t.Helper()
	kek := kekFile(t)
	config := one(fxmodule.Cache{Store: "memory://", KEK: kek})
	config.Jobs = fxmodule.Jobs{
		Namespace: "shop", Redis: url, HiddenTypes: true, Concurrency: 4,
		PRFKeyset: keysetFile(t, kek, prf.HMACSHA256PRFKeyTemplate()),
	}
	return config
}

type mailArgs struct{ To string }

func mail() *asynqjobs.Job[mailArgs] {
	return asynqjobs.Define[mailArgs]("mail:canary-type", asynq.Retention(time.Hour))
}

// inbox is what a handler has got.
type inbox struct {
	mu   sync.Mutex
	mail []string
}

func (b *inbox) take(s string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mail = append(b.mail, s)
}

func (b *inbox) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.mail)
}

func eventually(t testing.TB, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 20*time.Second, 10*time.Millisecond)
}

// quick looks into the queues often: what an application says in its own asynq.Config.
func quick() fx.Option {
	return fx.Supply(asynq.Config{
		TaskCheckInterval: 20 * time.Millisecond, DelayedTaskCheckInterval: 50 * time.Millisecond,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return 0 },
	})
}

// worker is an application's part with a handler, and what that depends on.
func worker(handle func(ctx context.Context, args mailArgs) error) fx.Option {
	return fx.Options(quick(), fx.Provide(func() *asynq.ServeMux {
		mux := asynq.NewServeMux()
		mail().Handle(mux, handle)
		return mux
	}))
}

// The whole life over each kind of Redis: jobs run and fail and run again, results open, nothing is in clear, what is
// pending when the application stops is done by the next one.
func TestJobsLife(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{Password: secret})
	trace := server.Monitor(t)
	var box inbox
	var client *asynqjobs.Client
	var inspector *asynq.Inspector
	var health *fxmodule.Health
	var tries atomic.Int32
	config := jobsConfig(t, server.URL())
	config.Jobs.Queues = map[string]int{"default": 2, "slow": 1}
	app := newApp(config, worker(func(ctx context.Context, args mailArgs) error {
		if strings.HasPrefix(args.To, "again") && tries.Add(1) == 1 {
			return errors.New("no route to " + args.To)
		}
		box.take(args.To)
		return asynqjobs.WriteResult(ctx, []byte("sent to "+args.To))
	}), fx.Populate(&client, &inspector, &health))
	start(t, app)
	ctx := t.Context()
	require.NoError(t, health.Check(ctx))
	info, err := mail().Delay(ctx, client, mailArgs{canary})
	require.NoError(t, err)
	_, err = mail().Delay(ctx, client, mailArgs{"again " + canary}, asynq.Queue("slow"))
	require.NoError(t, err)
	_, err = mail().Delay(ctx, client, mailArgs{"later " + canary}, asynq.Unique(time.Hour), asynq.ProcessIn(time.Hour))
	require.NoError(t, err)
	_, err = mail().Delay(ctx, client, mailArgs{"later " + canary}, asynq.Unique(time.Hour), asynq.ProcessIn(time.Hour))
	require.ErrorIs(t, err, asynq.ErrDuplicateTask)
	eventually(t, func() bool { return box.len() == 2 })
	eventually(t, func() bool {
		info, err = inspector.GetTaskInfo("default", info.ID)
		return err == nil && info.State == asynq.TaskStateCompleted
	})
	result, err := client.OpenResult(ctx, info)
	require.NoError(t, err)
	require.Equal(t, "sent to "+canary, string(result))

	said := string(trace.Bytes(t))
	require.Contains(t, said, "asynq:{slow}", "the search sees what passed")
	for name, content := range server.DumpFiles(t) {
		said += name + string(content)
	}
	require.NotContains(t, said, canary)
	require.NotContains(t, said, "canary-type")
}

func TestJobsOnSentinelAndCluster(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"Sentinel": func(t *testing.T) string { t.Helper(); return redistest.StartSentinel(t).URL() },
		"Cluster":  func(t *testing.T) string { t.Helper(); return redistest.StartCluster(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var box inbox
			var client *asynqjobs.Client
			var scheduler *asynqjobs.Scheduler
			var page *monitor.Handler
			var health *fxmodule.Health
			run(t, jobsConfig(t, url(t)), fxmodule.Monitor(), worker(func(_ context.Context, args mailArgs) error {
				box.take(args.To)
				return nil
			}), fx.Populate(&client, &scheduler, &page, &health))
			require.NoError(t, health.Check(t.Context()))
			_, err := mail().Delay(t.Context(), client, mailArgs{canary})
			require.NoError(t, err)
			_, err = mail().ScheduleOnce(t.Context(), scheduler, "every second", asynqjobs.Every(time.Second), mailArgs{"tick"})
			require.NoError(t, err)
			eventually(t, func() bool { return box.len() >= 3 })
			w := httptest.NewRecorder()
			page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/queues", nil))
			require.Equal(t, http.StatusOK, w.Code, w.Body)
			require.Contains(t, w.Body.String(), `"default"`)
		})
	}
}

// A task that runs when the application stops ends before anything that it uses is closed; none is begun after.
func TestStopWaitsForTasks(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var client *asynqjobs.Client
	var events inbox
	begun, release := make(chan struct{}, 10), make(chan struct{})
	type mailer struct{ events *inbox }
	config := jobsConfig(t, server.URL())
	config.Jobs.Concurrency = 1
	app := newApp(config, quick(), fx.Populate(&client),
		fx.Provide(asynq.NewServeMux),
		// A part of the application, with what it depends on.
		fx.Module("mail",
			fx.Provide(func(lc fx.Lifecycle) *mailer {
				lc.Append(fx.StartStopHook(func() { events.take("mailer opened") }, func() { events.take("mailer closed") }))
				return &mailer{&events}
			}),
			fx.Provide(fx.Annotate(func(m *mailer) fxmodule.Handlers {
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

// What a task that does not end has of time is ShutdownTimeout; then it is in its queue again.
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

// The application's time to stop ends before the task: log and error say what to change, the application's other hooks
// run all the same, and nothing is pulled away below the task and the server.
func TestStopInTooLittleTime(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	own := &conn{options: server.ClientOptions()}
	var client *asynqjobs.Client
	begun, release := make(chan struct{}), make(chan struct{})
	var events inbox
	var l logs
	app := fx.New(fx.NopLogger, fx.Supply(jobsConfig(t, ""), l.logger()), fx.Populate(&client),
		fx.Provide(func() asynq.RedisConnOpt { return own }),
		fx.Invoke(func(lc fx.Lifecycle) { lc.Append(fx.StopHook(func() { events.take("database closed") })) }),
		worker(func(ctx context.Context, _ mailArgs) error {
			close(begun)
			<-release
			return nil
		}), fxmodule.Module)
	require.NoError(t, app.Start(t.Context()))
	_, err := mail().Delay(t.Context(), client, mailArgs{canary}, asynq.TaskID("1"))
	require.NoError(t, err)
	<-begun
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err = app.Stop(ctx)
	require.ErrorContains(t, err, "make fx.StopTimeout longer than jobs.shutdown_timeout")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, ctx.Err(), "before the time is over")
	require.Contains(t, l.String(), "make fx.StopTimeout longer than jobs.shutdown_timeout")
	require.Equal(t, []string{"database closed"}, events.mail)
	require.NoError(t, own.made[0].Ping(t.Context()).Err(), "the server's client is open while it runs")

	close(release)
	inspector := asynq.NewInspectorFromRedisClient(server.Client(t))
	eventually(t, func() bool {
		info, err := inspector.GetTaskInfo("default", "1")
		return err == nil && info.State == asynq.TaskStateCompleted
	})
	eventually(t, func() bool { return errors.Is(own.made[0].Ping(context.Background()).Err(), redis.ErrClosed) })
}

// A Redis that hangs at stop does not take the time of the application's other hooks either.
func TestStopWhileRedisHangs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var events inbox
	app := fx.New(fx.NopLogger, fx.Supply(jobsConfig(t, server.URL())), quiet(),
		fx.Invoke(func(lc fx.Lifecycle) { lc.Append(fx.StopHook(func() { events.take("database closed") })) }),
		fx.Invoke(func(*asynqjobs.Scheduler) {}),
		worker(func(context.Context, mailArgs) error { return nil }), fxmodule.Module)
	require.NoError(t, app.Start(t.Context()))
	require.NoError(t, server.Pause())
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	require.ErrorContains(t, app.Stop(ctx), "or Redis does not answer")
	require.Equal(t, []string{"database closed"}, events.mail)
	require.NoError(t, server.Resume())
}

// fx's default time to stop is as long as what tasks may take: it is said at start.
func TestLongShutdownTimeout(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for timeout, warned := range map[time.Duration]bool{0: false, 10 * time.Second: false, 15 * time.Second: true, time.Minute: true} {
		config := jobsConfig(t, server.URL())
		config.Jobs.ShutdownTimeout = timeout
		var l logs
		start(t, fx.New(fx.NopLogger, fx.Supply(config, l.logger()), worker(func(context.Context, mailArgs) error { return nil }), fxmodule.Module))
		require.Equal(t, warned, strings.Contains(l.String(), "make fx.StopTimeout longer"), timeout)
	}
}

// Two applications run one schedule, and each tick once.
func TestSchedulerOverTwoApplications(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	config := jobsConfig(t, server.URL())
	config.Jobs.Schedules = fxmodule.Schedules{Poll: 200 * time.Millisecond, CatchUp: time.Second}
	var box inbox
	handle := func(_ context.Context, args mailArgs) error {
		box.take(args.To)
		return nil
	}
	var changes atomic.Int32
	schedule := fx.Invoke(func(lc fx.Lifecycle, s *asynqjobs.Scheduler) {
		lc.Append(fx.StartHook(func(ctx context.Context) error {
			changed, err := mail().ScheduleOnce(ctx, s, "digest", asynqjobs.Every(time.Second), mailArgs{"digest"})
			if changed {
				changes.Add(1)
			}
			return err
		}))
	})
	began := time.Now()
	first, second := newApp(config, worker(handle), schedule), newApp(config, worker(handle), schedule)
	for _, app := range []*fx.App{first, second} {
		require.NoError(t, app.Start(t.Context()))
	}
	eventually(t, func() bool { return box.len() >= 3 })
	stop(t, first) // the other goes on
	eventually(t, func() bool { return box.len() >= 5 })
	stop(t, second)
	require.LessOrEqual(t, box.len(), int(time.Since(began).Seconds()), "once per second")
	require.EqualValues(t, 1, changes.Load())
}

// Nobody takes anything of jobs: no connection is opened, and a Redis that is not there does not matter. Who takes the
// client has one, and no server.
func TestJobsAreLazy(t *testing.T) {
	t.Parallel()
	run(t, jobsConfig(t, "redis://127.0.0.1:1"))

	server := redistest.Start(t)
	rdb := server.Client(t)
	var client *asynqjobs.Client
	var health *fxmodule.Health
	run(t, jobsConfig(t, server.URL()), fx.Populate(&client, &health))
	require.NoError(t, client.Ping())
	_, err := mail().Delay(t.Context(), client, mailArgs{canary})
	require.NoError(t, err)
	servers, err := asynq.NewInspectorFromRedisClient(rdb).Servers()
	require.NoError(t, err)
	require.Empty(t, servers)

	w := httptest.NewRecorder()
	health.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	require.JSONEq(t, `{"status":"ok","caches":{"default":"ok"},"jobs":"ok"}`, w.Body.String())
	require.NoError(t, server.Kill())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var failed *fxmodule.JobsError
	require.ErrorAs(t, health.Check(ctx), &failed)
	require.Equal(t, fxmodule.PartStore, failed.Part)
	w = httptest.NewRecorder()
	health.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.JSONEq(t, `{"status":"failing","caches":{"default":"ok"},"jobs":"store"}`, w.Body.String())
}

// A process of several kinds has handlers, and is told not to run them.
func TestNoServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	config := jobsConfig(t, server.URL())
	config.Jobs.NoServer = true
	var client *asynqjobs.Client
	var handler asynq.Handler
	run(t, config, fx.Populate(&client, &handler), worker(func(context.Context, mailArgs) error { return nil }))
	require.NotNil(t, handler)
	_, err := mail().Delay(t.Context(), client, mailArgs{canary})
	require.NoError(t, err)
	servers, err := asynq.NewInspectorFromRedisClient(server.Client(t)).Servers()
	require.NoError(t, err)
	require.Empty(t, servers)
}

// Such a process needs no Redis for a server that it has not.
func TestNoServerNeedsNoRedis(t *testing.T) {
	t.Parallel()
	config := jobsConfig(t, "redis://127.0.0.1:1?max_retries=0&dial_timeout=1s")
	config.Jobs.NoServer = true
	run(t, config, worker(func(context.Context, mailArgs) error { return nil }))
}

// An application that starts the server itself is told how it may; and may.
func TestOwnServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var box inbox
	var client *asynqjobs.Client
	options := fx.Options(fx.Populate(&client), worker(func(_ context.Context, args mailArgs) error {
		box.take(args.To)
		return nil
	}), fx.Invoke(func(lc fx.Lifecycle, s *asynq.Server, h asynq.Handler) {
		lc.Append(fx.StartStopHook(func() error { return s.Start(h) }, s.Shutdown))
	}))
	config := jobsConfig(t, server.URL())
	app := fx.New(fx.NopLogger, fx.Supply(config), quiet(), options, fxmodule.Module)
	require.ErrorContains(t, app.Start(t.Context()), "sets jobs.no_server")
	stop(t, app)

	config.Jobs.NoServer = true
	run(t, config, options)
	_, err := mail().Delay(t.Context(), client, mailArgs{canary})
	require.NoError(t, err)
	eventually(t, func() bool { return box.len() == 1 })
	servers, err := asynq.NewInspectorFromRedisClient(server.Client(t)).Servers()
	require.NoError(t, err)
	require.Len(t, servers, 1)
}

// An application whose own constructor adds such functions to its mux has them in whatever group it likes; and one that
// has nothing to do with jobs here names its mux as it likes.
func TestApplicationsOwnMux(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	type parts struct {
		fx.In
		Add []func(*asynq.ServeMux) `group:"jobs"`
	}
	var box inbox
	var client *asynqjobs.Client
	run(t, jobsConfig(t, server.URL()), quick(), fx.Populate(&client),
		fx.Supply(fx.Annotate(func(mux *asynq.ServeMux) {
			mail().Handle(mux, func(_ context.Context, args mailArgs) error {
				box.take(args.To)
				return nil
			})
		}, fx.ResultTags(`group:"jobs"`))),
		fx.Provide(func(p parts) *asynq.ServeMux {
			mux := asynq.NewServeMux()
			for _, add := range p.Add {
				add(mux)
			}
			return mux
		}))
	_, err := mail().Delay(t.Context(), client, mailArgs{canary})
	require.NoError(t, err)
	eventually(t, func() bool { return box.len() == 1 })

	run(t, one(fxmodule.Cache{Store: "memory://", KEK: kekFile(t)}), fx.Provide(fx.Annotate(asynq.NewServeMux, fx.ResultTags(`name:"theirs"`))))
}

// conn counts what is made of an application's own connection, and what is closed.
type conn struct {
	options *redis.Options
	made    []*redis.Client
}

func (c *conn) MakeRedisClient() any {
	c.made = append(c.made, redis.NewClient(c.options))
	return c.made[len(c.made)-1]
}

func TestApplicationsOwnRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	own := &conn{options: server.ClientOptions()}
	config := jobsConfig(t, "")
	var box inbox
	var handled atomic.Int32
	base := asynq.Config{
		TaskCheckInterval: 20 * time.Millisecond,
		Queues:            map[string]int{"own": 1},
		ErrorHandler: asynq.ErrorHandlerFunc(func(_ context.Context, task *asynq.Task, err error) {
			if task.Type() == "mail:canary-type" && strings.Contains(string(task.Payload()), canary) && strings.Contains(err.Error(), canary) {
				handled.Add(1)
			}
		}),
	}
	var client *asynqjobs.Client
	app := newApp(config, fxmodule.Monitor(),
		fx.Provide(func() asynq.RedisConnOpt { return own }, func() asynq.Config { return base }),
		fx.Provide(func() *asynq.ServeMux {
			mux := asynq.NewServeMux()
			mail().Handle(mux, func(_ context.Context, args mailArgs) error {
				box.take(args.To)
				return errors.New("failed for " + args.To)
			})
			return mux
		}), fx.Populate(&client), fx.Invoke(func(*monitor.Handler, *asynqjobs.Scheduler, *asynq.Inspector, *asynq.Server) {}))
	require.NoError(t, app.Start(t.Context()))
	require.Len(t, own.made, 1, "one client for everything")
	_, err := mail().Delay(t.Context(), client, mailArgs{canary}, asynq.Queue("own"), asynq.MaxRetry(0))
	require.NoError(t, err)
	eventually(t, func() bool { return handled.Load() == 1 })
	require.NoError(t, app.Stop(context.Background()), "closed once")
	require.ErrorIs(t, own.made[0].Ping(t.Context()).Err(), redis.ErrClosed)
}

// The application's aggregator sees the tasks of a group in clear, as its handler does what it makes of them.
func TestGroups(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	trace := server.Monitor(t)
	var box inbox
	var client *asynqjobs.Client
	run(t, jobsConfig(t, server.URL()), fx.Populate(&client),
		fx.Supply(asynq.Config{
			TaskCheckInterval: 20 * time.Millisecond, GroupGracePeriod: time.Second, GroupMaxSize: 2,
			GroupAggregator: asynq.GroupAggregatorFunc(func(_ string, tasks []*asynq.Task) *asynq.Task {
				var all []byte
				for _, task := range tasks {
					all = append(append(all, task.Payload()...), ' ')
				}
				return asynq.NewTask("mail:all", all)
			}),
		}),
		fx.Provide(func() *asynq.ServeMux {
			mux := asynq.NewServeMux()
			mux.HandleFunc("mail:all", func(_ context.Context, task *asynq.Task) error {
				box.take(string(task.Payload()))
				return nil
			})
			return mux
		}))
	for range 2 {
		_, err := client.EnqueueContext(t.Context(), asynq.NewTask("mail:one", []byte(canary)), asynq.Group("g"))
		require.NoError(t, err)
	}
	eventually(t, func() bool { return box.len() == 1 })
	require.Equal(t, canary+" "+canary+" ", box.mail[0])
	require.NotContains(t, string(trace.Bytes(t)), canary)
}

// A member of a group whose key comes to the worker later is put back into its group then, and runs: the aggregator and
// the handler share what puts it back.
func TestGroupsOfAKeyToCome(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	config := jobsConfig(t, server.URL())
	ahead, path := config, filepath.Join(t.TempDir(), "ahead.json")
	ahead.Caches = one(fxmodule.Cache{Store: "memory://", KEK: "file://" + path + "?reload=off"}).Caches
	own := strings.TrimPrefix(config.Caches["default"].KEK, "file://")
	rotated := withNewPrimary(t, own)
	require.NoError(t, os.WriteFile(path, rotated, 0o600))
	config.Caches["default"] = fxmodule.Cache{Store: "memory://", KEK: "file://" + own + "?reload=off"}

	var box inbox
	var inspector *asynq.Inspector
	run(t, config, fx.Populate(&inspector), fx.Supply(asynq.Config{
		TaskCheckInterval: 20 * time.Millisecond, DelayedTaskCheckInterval: 50 * time.Millisecond, GroupGracePeriod: time.Second,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Second },
		GroupAggregator: asynq.GroupAggregatorFunc(func(_ string, tasks []*asynq.Task) *asynq.Task {
			return asynq.NewTask("mail:all", tasks[0].Payload())
		}),
	}), fx.Provide(func() *asynq.ServeMux {
		mux := asynq.NewServeMux()
		mux.HandleFunc("mail:all", func(_ context.Context, task *asynq.Task) error {
			box.take(string(task.Payload()))
			return nil
		})
		return mux
	}))
	var client *asynqjobs.Client
	run(t, ahead, fx.Populate(&client))
	_, err := client.EnqueueContext(t.Context(), asynq.NewTask("mail:one", []byte(canary)), asynq.Group("g"))
	require.NoError(t, err)
	eventually(t, func() bool {
		waiting, err := inspector.ListRetryTasks("default")
		return err == nil && len(waiting) == 1
	})
	require.Zero(t, box.len())
	require.NoError(t, os.WriteFile(own, rotated, 0o600))
	require.Eventually(t, func() bool { return box.len() == 1 }, time.Minute, 20*time.Millisecond)
	require.Equal(t, canary, box.mail[0])
}

// What is wrong is said when the application is built or started, and says what to do.
func TestJobsThatCannotBe(t *testing.T) {
	t.Parallel()
	needsClient := fx.Invoke(func(*asynqjobs.Client) {})
	needsScheduler := fx.Invoke(func(*asynqjobs.Scheduler) {})
	type nowhere struct{}
	// fx runs no hooks after these failures; what they leave open ends with the process.
	closeKeys := fx.Invoke(func(k *fxmodule.Keys) { closeKeysOf(t, k) })
	newMux := func(k *fxmodule.Keys) *asynq.ServeMux {
		closeKeysOf(t, k)
		return asynq.NewServeMux()
	}
	for name, c := range map[string]struct {
		change  func(*fxmodule.Config)
		options fx.Option
		want    string
	}{
		"no Redis":          {func(c *fxmodule.Config) { c.Jobs.Redis = "" }, needsClient, "set jobs.redis to its URL, or fx.Provide an asynq.RedisConnOpt"},
		"two":               {nil, fx.Options(needsClient, fx.Provide(func() asynq.RedisConnOpt { return asynq.RedisClientOpt{} })), "drop the one or the other"},
		"not a client":      {func(c *fxmodule.Config) { c.Jobs.Redis = "" }, fx.Options(needsClient, fx.Provide(func() asynq.RedisConnOpt { return noClient{} })), "makes no redis.UniversalClient"},
		"not a Redis":       {func(c *fxmodule.Config) { c.Jobs.Redis = "memory://" + secret }, needsClient, "jobs: store: redisstore: open: unknown scheme"},
		"Redis away":        {nil, needsClient, "jobs: store: their Redis does not answer; see that it runs"},
		"worker, away":      {nil, worker(func(context.Context, mailArgs) error { return nil }), "their Redis does not answer"},
		"schedules, no PRF": {func(c *fxmodule.Config) { c.Jobs.PRFKeyset, c.Jobs.HiddenTypes = "", false }, needsScheduler, "takes an *asynqjobs.Scheduler: set jobs.prf_keyset"},
		"no mux":            {nil, fx.Options(closeKeys, fx.Invoke(func(*asynq.Server) {})), "*asynq.ServeMux"},
		"no mux, handler":   {nil, fx.Options(closeKeys, fx.Invoke(func(asynq.Handler) {})), "*asynq.ServeMux"},
		"group, no mux":     {nil, fx.Provide(fx.Annotate(func() fxmodule.Handlers { return func(*asynq.ServeMux) {} }, fx.ResultTags(`group:"jobs"`))), "fx.Provide(asynq.NewServeMux)"},
		"mux lacks":         {nil, fx.Provide(func(nowhere) *asynq.ServeMux { return asynq.NewServeMux() }), "provides an *asynq.ServeMux that fx cannot make"},
		"mux is private":    {nil, fx.Module("m", fx.Provide(asynq.NewServeMux, fx.Private)), "provides an *asynq.ServeMux that fx cannot make"},
		"mux fails":         {nil, fx.Provide(func(k *fxmodule.Keys) (*asynq.ServeMux, error) { closeKeysOf(t, k); return nil, errBroken }), errBroken.Error()},
		"part, no group":    {nil, fx.Provide(newMux, func() fxmodule.Handlers { return nil }), "elsewhere than in the fx group"},
		"part, other group": {nil, fx.Provide(newMux, fx.Annotate(func() fxmodule.Handlers { return nil }, fx.ResultTags(`group:"job"`))), "elsewhere than in the fx group"},
		"plain part":        {nil, fx.Provide(newMux, fx.Annotate(func() func(*asynq.ServeMux) { return nil }, fx.ResultTags(`group:"jobs"`))), "give them the type fxmodule.Handlers"},
		"plain part, alone": {nil, fx.Provide(fx.Annotate(func() func(*asynq.ServeMux) { return nil }, fx.ResultTags(`group:"jobs"`))), "give them the type fxmodule.Handlers"},
		"named mux":         {nil, fx.Provide(fx.Annotate(newMux, fx.ResultTags(`name:"jobs"`))), "set jobs.no_server"},
		"part lacks":        {nil, fx.Options(fx.Provide(newMux), fx.Provide(fx.Annotate(func(nowhere) fxmodule.Handlers { return nil }, fx.ResultTags(`group:"jobs"`)))), "nowhere"},
		"authorizer lacks":  {nil, fx.Options(fxmodule.Monitor(), fx.Provide(func(nowhere) monitor.Authorizer { return nil }), fx.Invoke(func(*monitor.Handler) {})), "provides a monitor.Authorizer that is nil, or that fx cannot make"},
		"audit lacks": {nil, fx.Options(fxmodule.Monitor(), fx.Provide(func(nowhere) func(context.Context, monitor.Record) error { return nil }),
			fx.Invoke(func(*monitor.Handler) {})), "provides an audit function that is nil, or that fx cannot make"},
		"page":         {nil, fx.Options(fxmodule.Monitor(monitor.WithActions()), fx.Invoke(func(*monitor.Handler) {})), "WithActions needs WithAuthorizer"},
		"group period": {nil, fx.Options(fx.Provide(asynq.NewServeMux), fx.Supply(asynq.Config{GroupGracePeriod: 1})), "GroupGracePeriod of the application's asynq.Config"},
		"poll":         {func(c *fxmodule.Config) { c.Jobs.Schedules.Poll = 1 }, needsScheduler, "schedules.poll is less than 100ms"},
		"catch-up":     {func(c *fxmodule.Config) { c.Jobs.Schedules.CatchUp = time.Hour }, needsScheduler, "schedules.catch_up is more than 1m"},
		"socket, away": {func(c *fxmodule.Config) { c.Jobs.Redis = "unix:///run/" + secret + ".sock?max_retries=0" }, needsClient, "their Redis does not answer"},
		"jobs only":    {func(c *fxmodule.Config) { c.Caches["default"] = fxmodule.Cache{KEK: c.Caches["default"].KEK} }, needsClient, "SEALCACHE_STORE=memory://"},
		"jobs alone":   {func(c *fxmodule.Config) { c.Caches = nil }, needsClient, "gives one a kek and the store memory://"},
		"no keys": {func(c *fxmodule.Config) {
			*c = one(fxmodule.Cache{Store: "memory://", Clear: true})
		}, fx.Options(needsClient, fx.Provide(func() asynq.RedisConnOpt { return asynq.RedisClientOpt{} })), "takes a *jobs.Encryptor"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := jobsConfig(t, "redis://app:"+secret+"@127.0.0.1:1?max_retries=0&dial_timeout=1s")
			if c.change != nil {
				c.change(&config)
			}
			app := newApp(config, c.options)
			err := app.Err()
			if err == nil {
				err = app.Start(t.Context())
			}
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), secret)
		})
	}
}

// closeKeysOf closes what an application that cannot be stopped has opened.
func closeKeysOf(t *testing.T, k *fxmodule.Keys) {
	t.Helper()
	envelope, err := k.Envelope("default")
	require.NoError(t, err)
	ring, err := k.Keyring("default")
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, envelope.Close())
		require.NoError(t, ring.Close())
	})
}

type noClient struct{}

func (noClient) MakeRedisClient() any { return (*redis.Client)(nil) }

// The page, mounted: two users, one of whom sees what is in the jobs, and the audit.
func TestMonitorOverHTTP(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var page *monitor.Handler
	var client *asynqjobs.Client
	var seen inbox
	run(t, jobsConfig(t, server.URL()), fxmodule.Monitor(monitor.WithRootPath("/admin/jobs")), fx.Populate(&page, &client),
		fx.Provide(
			func() monitor.Authorizer {
				return func(r *http.Request) monitor.Viewer {
					switch user, _, _ := r.BasicAuth(); user {
					case "auditor":
						return monitor.Viewer{Name: user, Access: monitor.AccessPayloads}
					case "operator":
						return monitor.Viewer{Name: user, Access: monitor.AccessTypes}
					}
					return monitor.Viewer{}
				}
			},
			func() func(context.Context, monitor.Record) error {
				return func(_ context.Context, r monitor.Record) error {
					seen.take(r.Viewer)
					return nil
				}
			},
		))
	_, err := mail().Delay(t.Context(), client, mailArgs{canary}, asynq.TaskID("1"))
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle(page.RootPath()+"/", page)
	web := httptest.NewServer(mux)
	defer web.Close()
	get := func(user string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL+"/admin/jobs/api/queues/default/tasks/1", nil)
		require.NoError(t, err)
		r.SetBasicAuth(user, "")
		answer, err := web.Client().Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		var b bytes.Buffer
		_, err = io.Copy(&b, answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, b.String()
	}
	code, body := get("auditor")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, canary)
	require.Contains(t, body, "mail:canary-type")
	code, body = get("operator")
	require.Equal(t, http.StatusOK, code)
	require.NotContains(t, body, canary)
	require.Contains(t, body, "mail:canary-type")
	code, body = get("nobody")
	require.Equal(t, http.StatusForbidden, code)
	require.NotContains(t, body, canary)
	require.Equal(t, []string{"auditor"}, seen.mail)
}

// However an authorizer is provided, it is heeded, or the application does not start; never is everybody admitted instead.
func TestMonitorAuthorizers(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	deny := func(*http.Request) monitor.Viewer { return monitor.Viewer{} }
	audit := func(context.Context, monitor.Record) error { return nil }
	for name, c := range map[string]struct {
		options fx.Option
		opts    []monitor.Option
		want    string // an error; empty: refused by the authorizer
	}{
		"supplied":         {fx.Supply(deny), nil, ""},
		"plain":            {fx.Provide(func() func(*http.Request) monitor.Viewer { return deny }), nil, ""},
		"its type":         {fx.Provide(func() monitor.Authorizer { return deny }), nil, ""},
		"an option":        {fx.Options(), []monitor.Option{monitor.WithAuthorizer(deny)}, ""},
		"option and named": {fx.Supply(fx.Annotate(deny, fx.ResultTags(`name:"x"`))), []monitor.Option{monitor.WithAuthorizer(deny)}, ""},
		"option and nil":   {fx.Provide(func() monitor.Authorizer { return nil }), []monitor.Option{monitor.WithAuthorizer(deny)}, ""},
		"both":             {fx.Provide(func() monitor.Authorizer { return deny }, func() func(*http.Request) monitor.Viewer { return deny }), nil, "Drop the one or the other"},
		"named":            {fx.Provide(fx.Annotate(func() monitor.Authorizer { return deny }, fx.ResultTags(`name:"x"`))), nil, "under a name or in a group"},
		"plain, in group":  {fx.Supply(fx.Annotate(deny, fx.ResultTags(`group:"x"`))), nil, "under a name or in a group"},
		"nil":              {fx.Provide(func() func(*http.Request) monitor.Viewer { return nil }), nil, "that is nil"},
		"audit, named":     {fx.Supply(deny, fx.Annotate(audit, fx.ResultTags(`name:"x"`))), nil, "an audit function of the admin page under a name"},
		"audit, mute":      {fx.Supply(deny, func(context.Context, monitor.Record) {}), nil, "without the error result"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var page *monitor.Handler
			var l logs
			app := fx.New(fx.NopLogger, fx.Supply(jobsConfig(t, server.URL()), l.logger()), fxmodule.Module, fxmodule.Monitor(c.opts...), c.options, fx.Populate(&page))
			if c.want != "" {
				require.ErrorContains(t, app.Err(), c.want)
				return
			}
			start(t, app)
			w := httptest.NewRecorder()
			page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/queues", nil))
			require.Equal(t, http.StatusForbidden, w.Code)
			require.NotContains(t, l.String(), "has no authorizer")
		})
	}
}

// Who closes the page at stop, as its own package says, takes the connection from nobody: a job that runs ends and is done.
func TestMonitorClosedByItsOwner(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var client *asynqjobs.Client
	begun, closed := make(chan struct{}), make(chan struct{})
	app := newApp(jobsConfig(t, server.URL()), fxmodule.Monitor(), fx.Populate(&client),
		worker(func(context.Context, mailArgs) error {
			close(begun)
			<-closed
			return client.Ping()
		}),
		fx.Invoke(func(lc fx.Lifecycle, page *monitor.Handler) {
			lc.Append(fx.StopHook(func() error {
				defer close(closed)
				return page.Close()
			}))
		}))
	require.NoError(t, app.Start(t.Context()))
	_, err := mail().Delay(t.Context(), client, mailArgs{canary}, asynq.TaskID("1"), asynq.MaxRetry(0))
	require.NoError(t, err)
	<-begun
	stop(t, app)
	info, err := asynq.NewInspectorFromRedisClient(server.Client(t)).GetTaskInfo("default", "1")
	require.NoError(t, err)
	require.Equal(t, asynq.TaskStateCompleted, info.State)
}

// Without an authorizer nothing clear is shown to anybody.
func TestMonitorWithoutAuthorizer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var page *monitor.Handler
	var client *asynqjobs.Client
	var l logs
	start(t, fx.New(fx.NopLogger, fx.Supply(jobsConfig(t, server.URL()), l.logger()), fxmodule.Module, fxmodule.Monitor(), fx.Populate(&page, &client)))
	require.Contains(t, l.String(), "the admin page of jobs has no authorizer")
	_, err := mail().Delay(t.Context(), client, mailArgs{canary}, asynq.TaskID("1"))
	require.NoError(t, err)
	w := httptest.NewRecorder()
	page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/queues/default/tasks/1", nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.NotContains(t, w.Body.String(), canary)
	require.NotContains(t, w.Body.String(), "canary-type")
}

// While an application is moved, what it enqueued in clear runs until the end of the tolerance, and not without one.
func TestClearUntil(t *testing.T) {
	t.Parallel()
	for name, until := range map[string]time.Time{"tolerated": time.Now().Add(time.Hour), "refused": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			config := jobsConfig(t, server.URL())
			config.Jobs.ClearUntil = until
			var box inbox
			var inspector *asynq.Inspector
			run(t, config, fx.Populate(&inspector), worker(func(_ context.Context, args mailArgs) error {
				box.take(args.To)
				return nil
			}))
			info, err := asynq.NewClientFromRedisClient(server.Client(t)).Enqueue(asynq.NewTask("mail:canary-type", []byte(`{"To":"x"}`), asynq.Retention(time.Hour)))
			require.NoError(t, err)
			want := asynq.TaskStateCompleted
			if until.IsZero() {
				want = asynq.TaskStateArchived
			}
			eventually(t, func() bool {
				now, err := inspector.GetTaskInfo("default", info.ID)
				return err == nil && now.State == want
			})
			require.Equal(t, !until.IsZero(), box.len() == 1)
		})
	}
}

// Clear of a cache beside the queues would remove them: it is refused, or warned of where that is all that can be done.
func TestCacheBesideTheQueues(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	base := jobsConfig(t, server.URL())
	kek := base.Caches["default"].KEK
	needsClient := fx.Invoke(func(*asynqjobs.Client) {})
	const warning = "without a namespace"
	t.Run("sealed and clear, by URL", func(t *testing.T) {
		t.Parallel()
		config := base
		config.Caches = map[string]fxmodule.Cache{
			"default":   {Store: server.URL(), KEK: kek},
			"clear":     {Store: server.URL(), Clear: true},
			"kept":      {Store: server.URL(), KEK: kek, Namespace: "kept"},
			"elsewhere": {Store: strings.TrimSuffix(server.URL(), "/0") + "/7", KEK: kek},
		}
		var caches *fxmodule.Caches
		var client *asynqjobs.Client
		var l logs
		app := fx.New(fx.NopLogger, fx.Supply(config, l.logger()), fxmodule.Module, fx.Populate(&caches, &client))
		start(t, app)
		_, err := mail().Delay(t.Context(), client, mailArgs{canary}, asynq.TaskID("beside"))
		require.NoError(t, err)
		for _, name := range []string{"default", "clear"} {
			s, err := caches.Cache(name)
			require.NoError(t, err)
			require.ErrorContains(t, s.Clear(t.Context()), "queues of jobs")
		}
		for _, name := range []string{"kept", "elsewhere"} {
			s, err := caches.Cache(name)
			require.NoError(t, err)
			require.NoError(t, s.Clear(t.Context()))
			require.NotContains(t, l.String(), "cache="+name+" ")
		}
		_, err = asynq.NewInspectorFromRedisClient(server.Client(t)).GetTaskInfo("default", "beside")
		require.NoError(t, err)
		require.Contains(t, l.String(), warning)
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		var l logs
		start(t, fx.New(fx.NopLogger, fx.Supply(base, l.logger()), fxmodule.Module, needsClient))
		require.NotContains(t, l.String(), warning)
		require.NotContains(t, l.String(), "in clear")
	})
	t.Run("the application's store", func(t *testing.T) {
		t.Parallel()
		config := base
		config.Caches = map[string]fxmodule.Cache{"default": {KEK: kek}}
		var l logs
		start(t, fx.New(fx.NopLogger, fx.Supply(config, l.logger()), fxmodule.Module, needsClient, provideStore(gocacheredis.NewRedis(server.Client(t)))))
		require.Contains(t, l.String(), "stands on a Redis store of the application")
	})
	t.Run("a pointer to the application's asynq.Config", func(t *testing.T) {
		t.Parallel()
		var l logs
		start(t, fx.New(fx.NopLogger, fx.Supply(base, l.logger()), fxmodule.Module, fx.Provide(asynq.NewServeMux, func() *asynq.Config { return nil })))
		require.Contains(t, l.String(), "which is not looked for")
		require.Contains(t, l.String(), "said=\"Starting processing\"", "asynq logs to the application's logger")
	})
	t.Run("a producer in clear", func(t *testing.T) {
		t.Parallel()
		var l logs
		start(t, fx.New(fx.NopLogger, fx.Supply(base, l.logger()), fxmodule.Module, needsClient,
			fx.Provide(func() *asynq.Client { return nil })))
		require.Contains(t, l.String(), "enqueues tasks in clear")
	})
}

// madeBy is a connection whose type tells nothing.
type madeBy func() redis.UniversalClient

func (f madeBy) MakeRedisClient() any { return f() }

// The application's own connection leads to the Redis of a cache, or may: the cache keeps its Clear until something takes
// what needs that connection.
func TestCacheBesideTheApplicationsQueues(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	sentinel := redistest.StartSentinel(t)
	failover := sentinel.ClientOptions()
	kek := kekFile(t)
	for name, c := range map[string]struct {
		conn    asynq.RedisConnOpt
		url     string
		refused bool
	}{
		"an address":       {asynq.RedisClientOpt{Addr: server.Addr()}, server.URL(), true},
		"another database": {asynq.RedisClientOpt{Addr: server.Addr(), DB: 9}, server.URL(), false},
		"sentinels":        {asynq.RedisFailoverClientOpt{MasterName: failover.MasterName, SentinelAddrs: failover.SentinelAddrs}, sentinel.URL(), true},
		"sentinels, a pointer": {&asynq.RedisFailoverClientOpt{MasterName: failover.MasterName, SentinelAddrs: failover.SentinelAddrs, DB: 9},
			sentinel.URL(), false},
		"who knows": {madeBy(func() redis.UniversalClient { return redis.NewFailoverClient(failover) }), sentinel.URL(), true},
	} {
		for kind, beside := range map[string]fxmodule.Cache{
			"sealed":   {Store: c.url, KEK: kek},
			"clear":    {Store: c.url, Clear: true},
			"expiring": {Store: c.url, Clear: true, TTL: time.Hour},
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				config := jobsConfig(t, "")
				config.Caches["beside"] = beside // alone in its store, as far as caches go
				var caches *fxmodule.Caches
				var l logs
				var client *asynqjobs.Client
				start(t, fx.New(fx.NopLogger, fx.Supply(config, l.logger()), fxmodule.Module, fx.Populate(&caches, &client),
					fx.Provide(func() asynq.RedisConnOpt { return c.conn })))
				info, err := mail().Delay(t.Context(), client, mailArgs{canary}, asynq.Queue(name+kind))
				require.NoError(t, err)
				s, err := caches.Cache("beside")
				require.NoError(t, err)
				if c.refused { // otherwise see TestCacheAwayFromTheQueues; here it would take from the others
					require.ErrorContains(t, s.Clear(t.Context()), "queues of jobs")
				}
				require.Equal(t, c.refused, strings.Contains(l.String(), "so that it is refused"), l.String())
				s, err = caches.Cache("default")
				require.NoError(t, err)
				require.NoError(t, s.Clear(t.Context()), "it is in memory")
				rdb, ok := c.conn.MakeRedisClient().(redis.UniversalClient)
				require.True(t, ok)
				defer rdb.Close()
				_, err = asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo(info.Queue, info.ID)
				require.NoError(t, err)
			})
		}
	}
}

// Who has a cache alone in its Redis clears it, with or without jobs elsewhere.
func TestCacheAwayFromTheQueues(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, used := range []fx.Option{fx.Options(), fx.Invoke(func(*asynqjobs.Client) {})} {
		config := jobsConfig(t, "")
		config.Caches = map[string]fxmodule.Cache{"default": {Store: server.URL(), KEK: config.Caches["default"].KEK}}
		var caches *fxmodule.Caches
		run(t, config, used, fx.Populate(&caches),
			fx.Provide(func() asynq.RedisConnOpt { return asynq.RedisClientOpt{Addr: server.Addr(), DB: 9} }))
		s, err := caches.Cache("default")
		require.NoError(t, err)
		require.NoError(t, s.Set(t.Context(), "k", "v"))
		require.NoError(t, s.Clear(t.Context()))
		_, err = s.Get(t.Context(), "k")
		require.Error(t, err)
	}
}

// A Redis that takes connections and does not answer: health and start end in time, also over a client of asynq's, which
// goes by no deadline.
func TestRedisThatHangs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	config := jobsConfig(t, "")
	own := fx.Provide(func() asynq.RedisConnOpt { return asynq.RedisClientOpt{Addr: server.Addr()} })
	needsClient := fx.Invoke(func(*asynqjobs.Client) {})
	var health *fxmodule.Health
	app := newApp(config, own, needsClient, fx.Populate(&health))
	start(t, app)
	require.NoError(t, health.Check(t.Context()))
	require.NoError(t, server.Pause())
	t.Cleanup(func() { require.NoError(t, server.Resume()) })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	err := health.Check(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "their Redis does not answer")
	require.Less(t, time.Since(began), 2*time.Second)
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	require.ErrorContains(t, newApp(config, own, needsClient).Start(ctx), "their Redis does not answer; see that it runs")
}

// A failing start closes what was opened: goleak sees the rest.
func TestFailedStartClosesTheQueue(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	own := &conn{options: server.ClientOptions()}
	app := newApp(jobsConfig(t, ""), worker(func(context.Context, mailArgs) error { return nil }),
		fx.Provide(func() asynq.RedisConnOpt { return own }),
		fx.Invoke(func(lc fx.Lifecycle, _ *asynqjobs.Scheduler, _ *jobs.Encryptor) {
			lc.Append(fx.StartHook(func() error { return errBroken }))
		}))
	require.ErrorIs(t, app.Start(t.Context()), errBroken)
	require.ErrorIs(t, own.made[0].Ping(t.Context()).Err(), redis.ErrClosed)
}
