package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"time"
)

// DefaultMaxShownBytes is the default of WithMaxShownBytes.
const DefaultMaxShownBytes = 64 << 10

// An Option changes what New makes. Options are checked there, all of them at
// once.
type Option func(*config) error

type config struct {
	root       string // without a slash at its end: "" is "/"
	authorize  Authorizer
	actions    bool
	shared     bool
	audit      func(context.Context, Record) error
	format     func(typename string, payload []byte) string
	shownBytes int
	logger     *slog.Logger
	origins    *http.CrossOriginProtection
	now        func() time.Time
}

// WithRootPath sets the path under which the page is mounted, as browsers see it;
// the default is "/". It begins with a slash and holds letters, digits and "-", ".",
// "_", "~", "/". Do not strip it from requests:
//
//	mux.Handle(h.RootPath()+"/", h)
func WithRootPath(root string) Option {
	return func(c *config) error {
		clean := path.Clean(root)
		if root == "" || root[0] != '/' || root != clean && root != clean+"/" {
			return fmt.Errorf("WithRootPath: %q: it takes a clean path that begins with a slash", root)
		}
		for i := range len(root) {
			switch b := root[i]; {
			case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '-', b == '.', b == '_', b == '~', b == '/':
			default:
				return fmt.Errorf("WithRootPath: %q: byte %q at %d is not allowed", root, b, i)
			}
		}
		if c.root = clean; clean == "/" {
			c.root = ""
		}
		return nil
	}
}

// WithSharedConnection says that the client that New gets from conn belongs to the
// application: Close does not close it. It is for a conn that hands out a client that
// is used elsewhere, too. The default is that it is the handler's own.
func WithSharedConnection() Option {
	return func(c *config) error {
		c.shared = true
		return nil
	}
}

// WithAuthorizer sets who sees what. Without it nothing is opened for anybody.
func WithAuthorizer(a Authorizer) Option {
	return func(c *config) error {
		if a == nil {
			return errors.New("WithAuthorizer: nil function")
		}
		c.authorize = a
		return nil
	}
}

// WithActions lets viewers with Viewer.Acts change things. The default is a
// read-only page. It needs WithAuthorizer.
func WithActions() Option {
	return func(c *config) error {
		c.actions = true
		return nil
	}
}

// WithAudit sets a function that is given each Record, beside the logger, before
// contents are shown or an action is done. If it returns an error they are not. ctx
// is the request's, and ends after 10 seconds: an audit that takes longer should heed
// it. Nobody but the one request waits for it. It must be safe for concurrent use.
func WithAudit(audit func(ctx context.Context, r Record) error) Option {
	return func(c *config) error {
		if audit == nil {
			return errors.New("WithAudit: nil function")
		}
		c.audit = audit
		return nil
	}
}

// WithFormatter sets how payloads and results are made text, for protocol buffers
// and other binary forms. It is called for those who may see them only, with the
// task's real type name; a panic of it is shown as text that cannot be formatted.
// What it returns is cut like any other text. The default shows UTF-8 text as it is
// and everything else as base64.
func WithFormatter(format func(typename string, b []byte) string) Option {
	return func(c *config) error {
		if format == nil {
			return errors.New("WithFormatter: nil function")
		}
		c.format = format
		return nil
	}
}

// WithMaxShownBytes bounds what a task's own page shows of its payload, result and
// error text, each, in bytes; what is longer is cut. The default is
// DefaultMaxShownBytes. n is 1 to 4 MiB.
func WithMaxShownBytes(n int) Option {
	return func(c *config) error {
		if n < 1 || n > maxOpenBytes {
			return fmt.Errorf("WithMaxShownBytes: %d: it takes 1 to %d", n, maxOpenBytes)
		}
		c.shownBytes = n
		return nil
	}
}

// WithLogger sets where looks, actions, refusals and failures are reported: with
// viewer, queue and task ids, but without type names, payloads, results or error
// texts of jobs. The default is slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return errors.New("WithLogger: nil logger")
		}
		c.logger = l
		return nil
	}
}

// WithTrustedOrigin lets actions come from origin ("scheme://host[:port]"). It is
// needed only behind a proxy that changes the Host header, for browsers that do not
// say that a request is of the same origin: those older than 2023, and all of them
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
		shownBytes: DefaultMaxShownBytes,
		format:     func(_ string, b []byte) string { return plain(b) },
		origins:    http.NewCrossOriginProtection(),
		now:        time.Now,
	}
	var errs []error
	for _, o := range opts {
		if o == nil {
			errs = append(errs, errors.New("nil option"))
			continue
		}
		if err := o(c); err != nil {
			errs = append(errs, err)
		}
	}
	if c.actions && c.authorize == nil {
		errs = append(errs, errors.New("WithActions needs WithAuthorizer: somebody must say who may act"))
	}
	if c.logger == nil {
		c.logger = slog.Default()
	}
	return c, errors.Join(errs...)
}
