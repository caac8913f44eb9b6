package fxjobs

import (
	"errors"

	"go.uber.org/fx"

	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

// Monitor provides the admin page of the jobs, a *monitor.Handler, which the application mounts:
//
//	fxjobs.Monitor(authorize, monitor.WithRootPath("/admin/jobs")),
//	fx.Invoke(func(mux *http.ServeMux, page *monitor.Handler) { mux.Handle(page.RootPath()+"/", page) }),
//
// authorize returns what the user of a request may see and do. It is required. The page shares the connection of
// Module, which closes it: Close of the handler does nothing.
func Monitor(authorize monitor.Authorizer, opts ...monitor.Option) fx.Option {
	if authorize == nil {
		return fx.Error(errors.New("fxjobs: Monitor: the authorizer must not be nil"))
	}
	return fx.Provide(func(s settings, c *connection) (*monitor.Handler, error) {
		own := []monitor.Option{monitor.WithLogger(s.logger())}
		own = append(own, opts...)
		own = append(own, monitor.WithAuthorizer(authorize), monitor.WithSharedConnection())
		h, err := monitor.New(c, s.Encryptor, own...)
		return h, s.failed(err)
	})
}
