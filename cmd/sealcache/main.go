package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// Redis may hang, and then an orderly stop takes a while. So the second signal has its default effect.
	disarm := context.AfterFunc(ctx, func() {
		stop()
		fmt.Fprintln(os.Stderr, "sealcache: stopping (send the signal again to stop at once)")
	})
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	disarm()
	stop()
	os.Exit(status)
}
