package fxmodule

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

// Monitor goes beside Module in an application that serves the admin page of its jobs. It provides a *monitor.Handler,
// which the application mounts:
//
//	fxmodule.Monitor(monitor.WithRootPath("/admin/jobs")),
//	fx.Invoke(func(mux *http.ServeMux, page *monitor.Handler) { mux.Handle(page.RootPath()+"/", page) }),
//
// It takes from the graph, if they are there, a monitor.Authorizer, and a func(context.Context, monitor.Record) error for
// the audit (monitor.WithAudit). Without an authorizer nothing clear is shown to anybody. Whatever opts say counts more.
// The page uses the client of the jobs' Redis that everything else has, and Module closes it: to Close the handler does
// nothing.
//
// It is a function and no part of Module so that a program which does not call it links no web interface.
func Monitor(opts ...monitor.Option) fx.Option {
	return fx.Provide(func(in monitorInputs) (*monitor.Handler, error) { return newMonitor(in, opts) })
}

type monitorInputs struct {
	fx.In

	Graph     *graph
	Queue     *queue
	Encryptor *jobs.Encryptor
	Authorize monitor.Authorizer                          `optional:"true"`
	Audit     func(context.Context, monitor.Record) error `optional:"true"`
}

func newMonitor(in monitorInputs, opts []monitor.Option) (*monitor.Handler, error) {
	s := in.Graph.system
	own := []monitor.Option{monitor.WithLogger(s.log)}
	switch {
	case in.Authorize != nil:
		own = append(own, monitor.WithAuthorizer(in.Authorize))
	case provided(s.in.Graph, "monitor.Authorizer"):
		return nil, in.Graph.jobsFailed(errors.New("the application provides a monitor.Authorizer that is nil, or that fx cannot make, because something that its constructor needs is missing"))
	}
	switch {
	case in.Audit != nil:
		own = append(own, monitor.WithAudit(in.Audit))
	case provided(s.in.Graph, "func(context.Context, monitor.Record) error"):
		return nil, in.Graph.jobsFailed(errors.New("the application provides an audit function that is nil, or that fx cannot make, because something that its constructor needs is missing"))
	}
	h, err := monitor.New(shared{in.Queue.client}, in.Encryptor, append(append(own, opts...), monitor.WithSharedConnection())...)
	return h, in.Graph.jobsFailed(err)
}

// shared gives the monitor the client that is there.
type shared struct{ client redis.UniversalClient }

func (s shared) MakeRedisClient() any { return s.client }
