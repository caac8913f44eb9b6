package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"go.uber.org/fx"
)

// serve listens on LISTEN, by default localhost:8080. It starts after the cache has checked itself, and stops before
// the cache is closed.
func serve(lc fx.Lifecycle, handler *http.ServeMux, log *slog.Logger, app fx.Shutdowner) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	lc.Append(fx.Hook{
		OnStart: func(ctx context.Context) error {
			l, err := new(net.ListenConfig).Listen(ctx, "tcp", cmp.Or(os.Getenv("LISTEN"), "localhost:8080"))
			if err != nil {
				return err
			}
			log.InfoContext(ctx, "listening", "address", l.Addr().String())
			go func() {
				if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
					log.Error("the HTTP server stopped", "error", err) //nolint:sloglint // start's ctx is over
					_ = app.Shutdown(fx.ExitCode(1))
				}
			}()
			return nil
		},
		OnStop: server.Shutdown,
	})
}
