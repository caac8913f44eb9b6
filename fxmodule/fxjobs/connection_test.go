package fxjobs_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/fxmodule/fxjobs"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

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
	app := newApp(config, fxjobs.Monitor(operators), fxjobs.Worker,
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
	sealtest.Eventually(t, func() bool { return handled.Load() == 1 })
	require.NoError(t, app.Stop(context.Background()), "closed once")
	require.ErrorIs(t, own.made[0].Ping(t.Context()).Err(), redis.ErrClosed)
}

// With a Redis that accepts connections and does not answer, health and start end in time, even over a client of asynq,
// which ignores deadlines.
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
	err := health.Check(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded) // asynq's client would fail by its own timeout
	require.ErrorContains(t, err, "a PING to the Redis of the jobs failed")
	require.ErrorContains(t, newApp(config, own, needsClient).Start(sealtest.EarlyDeadline(t, 4*time.Second)), "a PING to the Redis of the jobs failed")
}

// blockingClient closes only after release, as a client for Sentinel does while it waits for a Sentinel that hangs.
type blockingClient struct {
	redis.UniversalClient

	release chan struct{}
}

func (c blockingClient) Close() error {
	<-c.release
	return c.UniversalClient.Close()
}

func (c blockingClient) MakeRedisClient() any { return c }

// A connection that does not close uses up neither the time to start nor the time to stop.
func TestConnectionThatDoesNotClose(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var events inbox
	closing := func(client *redis.Client) *fx.App {
		c := blockingClient{client, make(chan struct{})}
		t.Cleanup(func() {
			close(c.release)
			sealtest.Eventually(t, func() bool { return errors.Is(client.Ping(context.Background()).Err(), redis.ErrClosed) })
		})
		return newApp(jobsConfig(t, ""), provideConn(c), fx.Invoke(func(lc fx.Lifecycle) {
			lc.Append(fx.StopHook(func() { events.take("database closed") }))
		}), fx.Invoke(func(*asynqjobs.Client) {}))
	}
	app := closing(redis.NewClient(server.ClientOptions()))
	require.NoError(t, app.Start(t.Context()))
	err := app.Stop(sealtest.EarlyDeadline(t, 4*time.Second))
	require.ErrorContains(t, err, "fxjobs: close the connection: the OnStop hook did not end before fx.StopTimeout")
	require.Equal(t, []string{"database closed"}, events.mail)

	app = closing(redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1}))
	require.ErrorContains(t, app.Start(sealtest.EarlyDeadline(t, 4*time.Second)), "a PING to the Redis of the jobs failed")
}

// A Sentinel answers a ping, but has no queues.
func TestSentinelInPlaceOfRedis(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	app := newApp(jobsConfig(t, "redis://"+sentinel.Addr()), fx.Invoke(func(*asynqjobs.Client) {}))
	require.ErrorContains(t, app.Start(t.Context()), "fxmodule: jobs: store: the server is a Sentinel and stores no jobs")
}

// The jobs check a Config that is decorated for them only.
func TestConfigForTheJobsOnly(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*fxmodule.Jobs){
		"\"jobs.namespace\" is not the namespace of": func(j *fxmodule.Jobs) { j.Namespace = "other" },
		"keys_of: cache \"nowhere\"":                 func(j *fxmodule.Jobs) { j.KeysOf = "nowhere" },
		"\"plaintext\" needs an end time":            func(j *fxmodule.Jobs) { j.Plaintext = jobs.WritePlaintext },
		"queues: the weight of \"a\" is 5000":        func(j *fxmodule.Jobs) { j.Queues = map[string]int{"a": 5000} },
		"":                                           func(j *fxmodule.Jobs) { j.Concurrency = 7 },
	} {
		err := fx.New(fx.NopLogger, fx.Supply(jobsConfig(t, "redis://127.0.0.1:1")), quiet(), fxmodule.Module, fx.Module("jobs", fxjobs.Module,
			fx.Decorate(func(c fxmodule.Config) fxmodule.Config {
				change(&c.Jobs)
				return c
			}),
			fx.Invoke(func(_ *asynqjobs.Client, c *fxmodule.Caches) error { return c.Close() }))).Err()
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, want)
	}
}

// The error of a start and the log lines of a worker do not contain the values that an error of Redis quotes.
func TestRedisErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	refusal := func(command string) string {
		return "-ERR unknown command '" + command + "', with args beginning with: '" + canary + "' "
	}
	config := jobsConfig(t, "redis://"+redistest.Answering(t, refusal)+"?max_retries=0")
	err := newApp(config, fx.Invoke(func(*asynqjobs.Client) {})).Start(t.Context())
	require.ErrorContains(t, err, "a PING to the Redis of the jobs failed: ERR unknown command 'ping'")
	require.NotContains(t, err.Error(), canary)

	config = jobsConfig(t, "redis://"+redistest.Answering(t, func(command string) string {
		if command == "ping" {
			return "+PONG"
		}
		return refusal(command)
	})+"?max_retries=0")
	var logs sealtest.Logs
	app := fx.New(fx.NopLogger, fx.Supply(config, logs.Logger()), modules(), worker(func(context.Context, mailArgs) error { return nil }))
	start(t, app)
	for _, operation := range []string{"Dequeue error: ", "Failed to forward scheduled tasks: ", "Failed to write server state data: "} {
		sealtest.Eventually(t, func() bool { return strings.Contains(logs.String(), operation) }, operation)
	}
	require.Contains(t, logs.String(), "redis eval error: ERR unknown command 'eval")
	require.NotContains(t, logs.String(), canary)
}

// A failed start closes the connection; goleak sees the rest.
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

// A wiring or setting that cannot work is an error when the application is built or started. The error says what to
// change.
func TestWiringErrors(t *testing.T) {
	t.Parallel()
	take := func(f any) fx.Option { return fx.Invoke(f) }
	client := take(func(*asynqjobs.Client) {})
	type nowhere struct{}
	part := func(f any) fx.Option { return fx.Provide(fx.Annotate(f, fx.ResultTags(`group:"jobs"`))) }
	mux := fx.Provide(asynq.NewServeMux)
	for name, c := range map[string]struct {
		change  func(*fxmodule.Config)
		options fx.Option
		want    string
	}{
		"no Redis":           {func(c *fxmodule.Config) { c.Jobs.Redis = "" }, client, `jobs have no Redis (set "jobs.redis", or provide an asynq.RedisConnOpt with fx.As)`},
		"concrete type":      {func(c *fxmodule.Config) { c.Jobs.Redis = "" }, fx.Options(client, fx.Supply(asynq.RedisClientOpt{})), "provide an asynq.RedisConnOpt with fx.As"},
		"two Redis":          {nil, fx.Options(client, provideConn(asynq.RedisClientOpt{})), "\"jobs.redis\" is set, but the application also provides an asynq.RedisConnOpt"},
		"not a client":       {func(c *fxmodule.Config) { c.Jobs.Redis = "" }, fx.Options(client, provideConn(noClient{})), "makes no redis.UniversalClient"},
		"not a Redis":        {func(c *fxmodule.Config) { c.Jobs.Redis = "memory://" + secret }, client, "jobs: store: redisstore: open: unknown URL scheme"},
		"Redis away":         {nil, client, "jobs: store: a PING to the Redis of the jobs failed"},
		"worker, Redis away": {nil, worker(func(context.Context, mailArgs) error { return nil }), "jobs: store: a PING to the Redis of the jobs failed"},
		"schedules, no PRF":  {func(c *fxmodule.Config) { c.Jobs.PRFKeyset, c.Jobs.HiddenTypes = "", false }, take(func(*asynqjobs.Scheduler) {}), "the scheduler needs the setting \"jobs.prf_keyset\""},
		"no mux":             {nil, fxjobs.Worker, "missing type: *asynq.ServeMux"},
		"no mux, handler":    {nil, take(func(asynq.Handler) {}), "missing type: *asynq.ServeMux"},
		"group, no mux":      {nil, fx.Options(part(func() fxjobs.Handlers { return nil }), fxjobs.Worker), "missing type: *asynq.ServeMux"},
		"mux lacks":          {nil, fx.Options(fx.Provide(func(nowhere) *asynq.ServeMux { return nil }), fxjobs.Worker), "fxjobs_test.nowhere"},
		"nil mux":            {nil, fx.Options(fx.Provide(func() *asynq.ServeMux { return nil }, fx.Annotate(func() fxjobs.Handlers { return func(m *asynq.ServeMux) { mail().Handle(m, nil) } }, fx.ResultTags(`group:"jobs"`))), fxjobs.Worker), "fxjobs: the *asynq.ServeMux of the application is nil"},
		"mux is private":     {nil, fx.Options(fx.Module("m", fx.Provide(asynq.NewServeMux, fx.Private)), fxjobs.Worker), "missing type: *asynq.ServeMux"},
		"named mux":          {nil, fx.Options(fx.Provide(fx.Annotate(asynq.NewServeMux, fx.ResultTags(`name:"jobs"`))), fxjobs.Worker), "missing type: *asynq.ServeMux"},
		"mux fails":          {nil, fx.Options(fx.Provide(func() (*asynq.ServeMux, error) { return nil, errBroken }), fxjobs.Worker), errBroken.Error()},
		"part lacks":         {nil, fx.Options(mux, part(func(nowhere) fxjobs.Handlers { return nil }), fxjobs.Worker), "fxjobs_test.nowhere"},
		"no authorizer":      {nil, fxjobs.Monitor(nil), "fxjobs: Monitor: the authorizer must not be nil"},
		"page":               {nil, fx.Options(fxjobs.Monitor(operators, monitor.WithRootPath("x")), take(func(*monitor.Handler) {})), "WithRootPath"},
		"group period":       {nil, fx.Options(mux, fx.Supply(asynq.Config{GroupGracePeriod: 1}), fxjobs.Worker), "GroupGracePeriod must be at least one second"},
		"pointer":            {nil, fx.Options(mux, fx.Supply(&asynq.Config{Concurrency: 1}), fxjobs.Worker), "provides an *asynq.Config (provide an asynq.Config instead)"},
		"jobs only":          {func(c *fxmodule.Config) { d := c.Caches["default"]; d.Store = ""; c.Caches["default"] = d }, client, `cache "default": store: the cache has no store`},
		"no namespace":       {func(c *fxmodule.Config) { d := c.Caches["default"]; d.Namespace = ""; c.Caches["default"] = d }, client, "the namespace is missing"},
		"no namespace, no Jobs": {func(c *fxmodule.Config) {
			d := c.Caches["default"]
			d.Namespace = ""
			*c = fxmodule.Config{Caches: map[string]fxmodule.Cache{"default": d}}
		}, fx.Options(client, provideConn(asynq.RedisClientOpt{})), "the namespace is missing"},
		"no keys": {func(c *fxmodule.Config) {
			*c = fxmodule.Config{Caches: map[string]fxmodule.Cache{"default": {Store: "memory://", Unsealed: true}}}
		}, fx.Options(client, provideConn(asynq.RedisClientOpt{})), "set \"jobs.keys_of\""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := jobsConfig(t, "redis://app:"+secret+"@127.0.0.1:1?max_retries=0&dial_timeout=1s")
			if c.change != nil {
				c.change(&config)
			}
			var caches *fxmodule.Caches
			app := newApp(config, fx.Populate(&caches), c.options)
			err := app.Err()
			if err == nil {
				err = app.Start(t.Context())
			}
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), secret)
			if caches != nil { // fx.New fails without hooks where a type is missing
				require.NoError(t, caches.Close())
			}
		})
	}
}

type noClient struct{}

func (noClient) MakeRedisClient() any { return (*redis.Client)(nil) }
