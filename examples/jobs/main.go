// Command jobs is an application with background jobs on asynq, sealed. It runs with nothing installed but Go, over a
// Redis in its own process:
//
//	go run ./examples/jobs
//
// and over a real one by one setting:
//
//	JOBS_REDIS=localhost:6379 go run ./examples/jobs
//
// It enqueues jobs that succeed, fail, panic and are tried again, registers one that runs every second, and prints what
// its handlers see beside what Redis holds; then it goes on until it is interrupted. With -once it ends there.
//
// Its keys are made for the run. JOBS_KEYS names a directory in which they are kept instead, which a second process over
// the same Redis needs.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/hibiken/asynq"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
)

func main() {
	once := flag.Bool("once", false, "end after the demonstration")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Stdout, settings{redis: os.Getenv("JOBS_REDIS"), keys: os.Getenv("JOBS_KEYS"), once: *once}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type settings struct {
	redis string // host:port; empty: one in this process
	keys  string // a directory; empty: keys for this run
	once  bool
}

// run is the program. It prints to out.
func run(ctx context.Context, out io.Writer, s settings) (err error) {
	keys, remove, err := keysIn(ctx, s.keys)
	if err != nil {
		return err
	}
	defer remove()
	var st *story
	app := fx.New(
		fxmodule.Module, // keys and the *jobs.Encryptor
		fx.Supply(s, &printer{w: out}, fxmodule.Config{
			Caches: map[string]fxmodule.Cache{fxmodule.Default: {Store: "memory://", KEK: keys.kek}},
			Jobs:   fxmodule.Jobs{Namespace: "shop", PRFKeyset: keys.prf},
		}),
		fx.Provide(newRedis, newClient, newScheduler, newMux, newServer, newStory),
		fx.Invoke(func(*asynq.Server) {}, registerDigest),
		fx.Populate(&st),
		fx.NopLogger,
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
