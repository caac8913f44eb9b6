package fxmodule_test

import (
	"context"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// What the handlers use is opened and closed by the hooks of invoked functions, and one of these adds the handler: with
// Module listed last jobs begin after, and end before. In Redis is a job before the application starts, so that a server
// that starts too early would be seen, and one runs while it stops.
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
				select { // a server that ran already would take the job now
				case early := <-begun:
					begun <- early
				case <-time.After(300 * time.Millisecond):
				}
				events.take(name + " opened")
			}, func() { events.take(name + " closed") }))
		}
	}
	app := fx.New(fx.NopLogger, fx.Supply(config), quiet(), quick(), fx.Populate(&own),
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
		fxmodule.Module)
	require.NoError(t, app.Start(t.Context()))
	<-begun
	_, err = mail().Delay(t.Context(), own, mailArgs{"last"})
	require.NoError(t, err)
	<-begun
	stopped := make(chan error, 1)
	go func() { stopped <- app.Stop(context.Background()) }()
	inspector := asynq.NewInspectorFromRedisClient(server.Client(t))
	eventually(t, func() bool { // the server has been told to stop
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
