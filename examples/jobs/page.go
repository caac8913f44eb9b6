package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/fx"

	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

// userKey is the context key of the user's name, which the application's login sets.
type userKey struct{}

// authorize returns what each user of the application may see.
func authorize(r *http.Request) monitor.Viewer {
	switch user, _ := r.Context().Value(userKey{}).(string); user {
	case "auditor": // payloads, results and errors; each view is recorded
		return monitor.Viewer{Name: user, Access: monitor.AccessPayloads}
	case "operator": // type names and counts
		return monitor.Viewer{Name: user, Access: monitor.AccessTypes}
	default:
		return monitor.Viewer{} // answers 403
	}
}

// audit prints each view. A production audit writes to a place that cannot be rewritten. If it returns an error, nothing is
// shown.
func (p *printer) audit(_ context.Context, r monitor.Record) error {
	p.printf("  audit: %s: %s of %s, tasks: %d", r.Viewer, r.Action, r.Page, len(r.Tasks))
	return nil
}

// addresses are the addresses of the page by user, once the application has started.
type addresses map[string]string

func newAddresses() addresses { return make(addresses) }

// servePage serves the page while the application runs. This program has no login. It serves the page to this machine
// only. Each of two users has a port, and a request to that port counts as logged in. A web site in a browser on this
// machine could reach it under a name that resolves to this machine: see byItsAddress.
func servePage(lc fx.Lifecycle, s settings, page *monitor.Handler, at addresses, p *printer, log *slog.Logger, app fx.Shutdowner) {
	mux := http.NewServeMux()
	mux.Handle(page.RootPath()+"/", page)
	serve := func(user, address string) {
		server := &http.Server{
			ReadHeaderTimeout: 5 * time.Second,
			BaseContext:       func(net.Listener) context.Context { return context.WithValue(context.Background(), userKey{}, user) },
		}
		lc.Append(fx.Hook{
			OnStart: func(ctx context.Context) error {
				l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
				if err != nil {
					return err
				}
				tcp, ok := l.Addr().(*net.TCPAddr)
				if !ok || !tcp.IP.IsLoopback() {
					return errors.Join(fmt.Errorf("other machines can reach the address %s, but the page has no login (use 127.0.0.1)", address), l.Close())
				}
				server.Handler = byItsAddress(tcp, mux)
				at[user] = "http://" + l.Addr().String() + page.RootPath() + "/"
				p.printf("the admin page, as the %s sees it: %s", user, at[user])
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
	serve("auditor", s.auditor)
	serve("operator", s.operator)
}

// byItsAddress serves requests that name the address itself, or localhost. A browser sends the host name of the site
// that made the request. A page with a login needs this less, because browsers send cookies only to their own site.
func byItsAddress(at *net.TCPAddr, page http.Handler) http.Handler {
	local := net.JoinHostPort("localhost", strconv.Itoa(at.Port))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != at.String() && r.Host != local {
			http.Error(w, "this page answers only under its own address", http.StatusMisdirectedRequest)
			return
		}
		page.ServeHTTP(w, r)
	})
}
