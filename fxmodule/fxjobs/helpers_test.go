package fxjobs_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/prf"
	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/fxmodule/fxjobs"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

// canary is a plaintext value, and secret a password. Neither may appear in Redis, logs or errors.
const (
	canary = "canary-7f3a-patient-record"
	secret = "hunter2-canary-password"
)

var errBroken = errors.New("broken on purpose")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// jobsConfig returns a Config of sealed jobs on the Redis of a URL.
func jobsConfig(t testing.TB, url string) fxmodule.Config {
	t.Helper()
	kek := sealtest.KEKFile(t)
	return fxmodule.Config{
		Caches: map[string]fxmodule.Cache{"default": {Store: "memory://", KEK: kek, Namespace: "shop"}},
		Jobs:   fxmodule.Jobs{Namespace: "shop", Redis: url, HiddenTypes: true, Concurrency: 4, PRFKeyset: sealtest.KeysetFile(t, kek, prf.HMACSHA256PRFKeyTemplate())},
	}
}

// modules returns the modules of every application here. A worker also lists fxjobs.Worker.
func modules() fx.Option { return fx.Options(fxmodule.Module, fxjobs.Module) }

func newApp(config fxmodule.Config, options ...fx.Option) *fx.App {
	return fx.New(fx.NopLogger, fx.Supply(config), quiet(), modules(), fx.Options(options...))
}

func quiet() fx.Option { return fx.Supply(sealtest.Quiet()) }

// run starts the application and stops it when the test ends.
func run(t *testing.T, config fxmodule.Config, options ...fx.Option) {
	t.Helper()
	start(t, newApp(config, options...))
}

func start(t *testing.T, app *fx.App) {
	t.Helper()
	require.NoError(t, app.Err())
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.NoError(t, app.Start(ctx))
	t.Cleanup(func() { stop(t, app) })
}

func stop(t *testing.T, app *fx.App) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.NoError(t, app.Stop(ctx))
}

type mailArgs struct{ To string }

func mail() *asynqjobs.Job[mailArgs] {
	return asynqjobs.Define[mailArgs]("mail:canary-type", asynq.Retention(time.Hour))
}

// inbox collects what handlers receive.
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

// quick returns an asynq.Config that looks at the queues often.
func quick() fx.Option {
	return fx.Supply(asynq.Config{
		TaskCheckInterval: 20 * time.Millisecond, DelayedTaskCheckInterval: 50 * time.Millisecond,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return 0 },
	})
}

// muxOf returns a mux with one handler.
func muxOf(handle func(ctx context.Context, args mailArgs) error) fx.Option {
	return fx.Provide(func() *asynq.ServeMux {
		mux := asynq.NewServeMux()
		mail().Handle(mux, handle)
		return mux
	})
}

// worker returns a handler, and the Worker that runs it.
func worker(handle func(ctx context.Context, args mailArgs) error) fx.Option {
	return fx.Options(quick(), muxOf(handle), fxjobs.Worker)
}

// conn counts the clients that are made of an application's own connection.
type conn struct {
	options *redis.Options
	made    []*redis.Client
}

func (c *conn) MakeRedisClient() any {
	c.made = append(c.made, redis.NewClient(c.options))
	return c.made[len(c.made)-1]
}

func provideConn(c asynq.RedisConnOpt) fx.Option {
	return fx.Provide(func() asynq.RedisConnOpt { return c })
}

// operators grants every request the names of types.
func operators(*http.Request) monitor.Viewer {
	return monitor.Viewer{Name: "operator", Access: monitor.AccessTypes}
}
