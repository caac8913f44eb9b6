// Command jobs is an application with sealed (encrypted) background jobs on asynq, a job queue in Redis. It needs only Go,
// because it starts a Redis inside its own process:
//
//	go run ./examples/jobs
//
// It enqueues jobs that succeed, fail, panic or are retried, and a job that runs every second. It prints the tasks that
// its handlers get, and the bytes that Redis holds. It serves the admin page of the jobs on two local ports, one for an
// auditor and one for an operator, and prints both addresses. It runs until you interrupt it. With -once, it ends by
// itself.
//
// To use a Redis server, set JOBS_REDIS to its URL, and JOBS_KEYS to a directory for the keys:
//
//	JOBS_REDIS=redis://localhost:6379 JOBS_KEYS=$HOME/jobs-keys go run ./examples/jobs
//
// The first run writes the keys to this directory. Later runs need them to open the jobs that are still in Redis.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alicebob/miniredis/v2" //nolint:depguard // the Redis in this process
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/fxmodule/fxjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

func main() {
	s := settings{redis: os.Getenv("JOBS_REDIS"), keys: os.Getenv("JOBS_KEYS")}
	flag.BoolVar(&s.once, "once", false, "end after the demonstration")
	flag.StringVar(&s.auditor, "auditor", "localhost:0", "`address` of the admin page as the auditor sees it, on this machine; port 0 is any")
	flag.StringVar(&s.operator, "operator", "localhost:0", "`address` of the admin page as the operator sees it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type settings struct {
	redis             string // a URL; empty: one in this process
	keys              string // a directory; empty: keys for this run, over a Redis for this run
	once              bool
	auditor, operator string // addresses
}

// run is the program. It prints to out.
func run(ctx context.Context, out io.Writer, s settings) (err error) {
	if s.redis != "" && s.keys == "" {
		return errors.New("JOBS_REDIS is set, but JOBS_KEYS is not (set it to a directory for the keys)")
	}
	keys, remove, err := keysIn(ctx, s.keys)
	if err != nil {
		return err
	}
	defer remove()
	if s.redis == "" {
		server, err := miniredis.Run()
		if err != nil {
			return err
		}
		defer server.Close()
		s.redis = "redis://" + server.Addr()
	}
	p := &printer{w: out}
	var st *story
	app := fx.New(
		fxmodule.Module, // keys and the encryptor
		fxjobs.Module,   // client, scheduler, inspector
		fxjobs.Monitor(authorize, monitor.WithRootPath("/admin/jobs"), monitor.WithAudit(p.audit)), // the admin page
		fx.Supply(s, p, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
			fxmodule.Config{
				Caches: map[string]fxmodule.Cache{fxmodule.Default: {Store: "memory://", KEK: keys.kek, Namespace: "shop"}},
				Jobs: fxmodule.Jobs{
					Redis: s.redis, Namespace: "shop", PRFKeyset: keys.prf, HiddenTypes: true, Concurrency: 4,
				},
			}),
		fx.Provide(newMux, newAsynqConfig, newAddresses, newStory),
		fx.Invoke(registerDigest, servePage),
		fx.Populate(&st),
		fx.NopLogger,
		fxjobs.Worker, // last, so that it starts after everything above and stops before it
	)
	if err := app.Start(ctx); err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), app.StopTimeout())
		defer cancel()
		if e := app.Stop(stopping); err == nil {
			err = e
		}
	}()
	if err := st.tell(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	if !s.once {
		<-ctx.Done()
	}
	return nil
}
