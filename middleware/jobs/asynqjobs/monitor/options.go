package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"time"

	"github.com/sealcache/sealcache/internal/options"
	"github.com/sealcache/sealcache/middleware/internal/telemetry"
)

// maxShownBytes bounds the payload, the result and the error text on a task's own
// page, each. Longer texts are cut.
const maxShownBytes = 64 << 10

// An Option configures a Handler. New checks all options and reports all mistakes at
// once.
type Option func(*config) error

type config struct {
	root      string // without a slash at its end: "" is "/"
	authorize Authorizer
	actions   bool
	shared    bool
	audit     func(context.Context, Record) error
	format    func(typename string, payload []byte) string
	logger    *slog.Logger
	origins   *http.CrossOriginProtection
	now       func() time.Time
}

// WithRootPath sets the path of the page as browsers see it. The default is "/". The
// path begins with a slash and consists of letters, digits and "-", ".", "_", "~",
// "/". Do not strip it from requests:
//
//	mux.Handle(h.RootPath()+"/", h)
func WithRootPath(root string) Option {
	return func(c *config) error {
		clean := path.Clean(root)
		if root == "" || root[0] != '/' || root != clean && root != clean+"/" {
			return fmt.Errorf("WithRootPath: %q is not a clean path that begins with a slash (an example is /admin/jobs)", root)
		}
		for i := range len(root) {
			switch b := root[i]; {
			case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '.', b == '_', b == '~', b == '/':
			default:
				return fmt.Errorf("WithRootPath: %q: byte %q at position %d is not allowed", root, root[i:i+1], i)
			}
		}
		if c.root = clean; clean == "/" {
			c.root = ""
		}
		return nil
	}
}

// WithSharedConnection declares that the client that conn makes belongs to the application. Close then leaves
// it open. New adds a hook to it. The hook only changes the reply to asynq's estimate of memory on servers
// without MEMORY. By default the Handler owns the client.
func WithSharedConnection() Option {
	return func(c *config) error {
		c.shared = true
		return nil
	}
}

// WithAuthorizer sets the function that decides what each user sees. Without it
// every user has AccessCounts.
func WithAuthorizer(a Authorizer) Option {
	return func(c *config) error {
		if a == nil {
			return errors.New("WithAuthorizer: the function is nil")
		}
		c.authorize = a
		return nil
	}
}

// WithActions enables actions for viewers with Viewer.CanAct. They may run, archive,
// cancel and delete tasks, and pause, resume and delete queues. No action changes a
// payload. The option needs WithAuthorizer. By default the page is read-only.
func WithActions() Option {
	return func(c *config) error {
		c.actions = true
		return nil
	}
}

// WithAudit sets a function that receives each Record, in addition to the logger,
// before anything is shown or done. If it returns an error, nothing is shown or done.
// Its context is the request's, with a deadline of 10 seconds. Other requests do not
// wait for it. It must be safe for concurrent use.
func WithAudit(audit func(ctx context.Context, r Record) error) Option {
	return func(c *config) error {
		if audit == nil {
			return errors.New("WithAudit: the function is nil")
		}
		c.audit = audit
		return nil
	}
}

// WithFormatter sets the function that turns payloads and results into text, for
// protocol buffers and other binary forms. It receives the real type name of the
// task, and only payloads that the viewer may see. Its text is cut like any other. If
// it panics, the page shows that the payload cannot be formatted. By default, UTF-8
// text is shown unchanged and other bytes in base64.
func WithFormatter(format func(typename string, b []byte) string) Option {
	return func(c *config) error {
		if format == nil {
			return errors.New("WithFormatter: the function is nil")
		}
		c.format = format
		return nil
	}
}

// WithLogger sets the logger for views, actions, refusals and failures. Log lines
// hold the viewer, queues and task ids, but never type names, payloads, results or
// error texts of jobs. The default is slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		var t telemetry.Config
		if err := t.SetLogger(l); err != nil {
			return err
		}
		c.logger = t.Logger()
		return nil
	}
}

// WithTrustedOrigin accepts actions from origin ("scheme://host[:port]"). Only a
// proxy that changes the Host header makes it necessary, and only for browsers that
// do not send Sec-Fetch-Site. These are browsers from before 2023, and all browsers
// over plain HTTP.
func WithTrustedOrigin(origin string) Option {
	return func(c *config) error {
		if err := c.origins.AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("WithTrustedOrigin: %w", err)
		}
		return nil
	}
}

func newConfig(opts []Option) (*config, error) {
	c := &config{
		format:  func(_ string, b []byte) string { return plain(b) },
		origins: http.NewCrossOriginProtection(),
		now:     time.Now,
	}
	errs := []error{options.Apply("", opts, func(o Option) error { return o(c) })}
	if c.actions && c.authorize == nil {
		errs = append(errs, errors.New("WithActions needs the option WithAuthorizer"))
	}
	if c.logger == nil {
		c.logger = slog.Default()
	}
	return c, errors.Join(errs...)
}
