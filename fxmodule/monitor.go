package fxmodule

import (
	"context"
	"errors"
	"net/http"

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
// It takes from the graph, if they are there, a monitor.Authorizer or the function that one is, func(*http.Request)
// monitor.Viewer, and a func(context.Context, monitor.Record) error for the audit (monitor.WithAudit). Whatever opts say
// counts more. Without an authorizer nothing clear is shown to anybody, and everybody whom the application lets come to the
// page sees queues, counts, ids and pseudonyms; the module warns of that. One that would not be found, because it has a name
// or is in a group, keeps the application from starting.
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
	Plain     func(*http.Request) monitor.Viewer          `optional:"true"`
	Audit     func(context.Context, monitor.Record) error `optional:"true"`
}

var (
	errTwoAuthorizers = errors.New("the application provides a monitor.Authorizer and a func(*http.Request) monitor.Viewer: which is to say who sees what? Drop the one or the other")
	errLostAuthorizer = errors.New("the application provides a monitor.Authorizer that is nil, or that fx cannot make, because something that its constructor needs is missing (if it is a type of the application's own of that name, say monitor.WithAuthorizer in the options of Monitor)")
	errStrayViewer    = errors.New("the application provides an authorizer of the admin page under a name or in a group, where nobody finds it, so that everybody would be admitted: provide it without, or say monitor.WithAuthorizer in the options of Monitor")
	errLostAudit      = errors.New("the application provides an audit function that is nil, or that fx cannot make, because something that its constructor needs is missing")
	errStrayAudit     = errors.New("the application provides an audit function of the admin page under a name, in a group, or without the error result, where nobody finds it: provide a func(context.Context, monitor.Record) error")
)

// The types as fx draws them.
const (
	authorizerType = "monitor.Authorizer"
	viewerType     = "func(*http.Request) monitor.Viewer"
	auditType      = "func(context.Context, monitor.Record) error"
	muteAuditType  = "func(context.Context, monitor.Record)"
)

func newMonitor(in monitorInputs, opts []monitor.Option) (*monitor.Handler, error) {
	s := in.Graph.system
	own := []monitor.Option{monitor.WithLogger(s.log)}
	authorize, err := in.authorizer(authorizes(in.Encryptor, opts))
	if err != nil {
		return nil, in.Graph.jobsFailed(err)
	}
	if authorize != nil {
		own = append(own, monitor.WithAuthorizer(authorize))
	}
	switch drawing := s.in.Graph; {
	case in.Audit != nil:
		own = append(own, monitor.WithAudit(in.Audit))
	case provided(drawing, auditType):
		return nil, in.Graph.jobsFailed(errLostAudit)
	case provided(drawing, muteAuditType), providedApart(drawing, muteAuditType), providedApart(drawing, auditType):
		return nil, in.Graph.jobsFailed(errStrayAudit)
	}
	h, err := monitor.New(shared{in.Queue.client}, in.Encryptor, append(append(own, opts...), monitor.WithSharedConnection())...)
	return h, in.Graph.jobsFailed(err)
}

// authorizer is the graph's. It is an error if there is one that cannot be had and the options say none.
func (in monitorInputs) authorizer(optioned bool) (monitor.Authorizer, error) {
	drawing := in.Graph.system.in.Graph
	switch {
	case optioned:
		return nil, nil //nolint:nilnil // theirs counts
	case in.Authorize != nil && in.Plain != nil:
		return nil, errTwoAuthorizers
	case in.Authorize != nil:
		return in.Authorize, nil
	case in.Plain != nil:
		return in.Plain, nil
	case provided(drawing, authorizerType), provided(drawing, viewerType):
		return nil, errLostAuthorizer
	case providedApart(drawing, authorizerType), providedApart(drawing, viewerType):
		return nil, errStrayViewer
	}
	in.Graph.system.log.Warn("sealcache: the admin page of jobs has no authorizer, so that everybody whom the application lets come to it sees queues, counts, ids and pseudonyms: provide a monitor.Authorizer")
	return nil, nil //nolint:nilnil // there need not be one
}

// authorizes tells whether options set an authorizer. Options do not tell; but New takes WithActions with one only, and
// looks at its options before it asks for a client.
func authorizes(e *jobs.Encryptor, opts []monitor.Option) bool {
	var asked probe
	_, _ = monitor.New(&asked, e, append(opts[:len(opts):len(opts)], monitor.WithActions())...)
	return bool(asked)
}

// probe is a connection that notes that it was asked for a client, and has none.
type probe bool

func (p *probe) MakeRedisClient() any {
	*p = true
	return nil
}

// shared gives the monitor the client that is there.
type shared struct{ client redis.UniversalClient }

func (s shared) MakeRedisClient() any { return s.client }
