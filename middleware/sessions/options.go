package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// An Option is a setting of New.
type Option func(*config) error

type config struct {
	user  func(context.Context, []byte) (string, error) // nil: EndAll is not possible
	idle  time.Duration                                 // 0: no idle end
	lossy bool
}

// WithIdleTimeout ends a session that was not used for d. Find moves the idle end only if it differs
// from the one wanted by more than a sixteenth of d. So most requests write nothing, and a session
// may end up to d/16 early. If the clocks of processes differ, add the difference. d is at least 2
// seconds. The default is none.
//
// A new or shorter idle timeout counts for an existing session from its next use.
//
// It replaces scs's own IdleTimeout, which must be 0.
//
// The backing store must be one for middleware's Touch. Over another store, users who are active
// would be logged out, so New returns middleware.ErrUnsupported.
func WithIdleTimeout(d time.Duration) Option {
	return func(c *config) error {
		if d < 2*time.Second {
			return fmt.Errorf("WithIdleTimeout(%v): the duration must be at least 2 seconds", d)
		}
		c.idle = d
		return nil
	}
}

// WithUser makes EndAll possible. Commit calls user with each session in its encoded
// form, and stores the session under the user that it returns. An empty name means
// no user. An error of user is returned by Commit, which then writes nothing.
//
// user must decode the session itself. It must not call scs's SessionManager, which
// holds a lock during Commit.
//
// The backing store must keep tags: New asks the server, and refuses a Redis whose
// maxmemory-policy may evict them. See WithLossyTags.
func WithUser(user func(ctx context.Context, encoded []byte) (string, error)) Option {
	return func(c *config) error {
		if user == nil {
			return errors.New("WithUser: the function that returns the user is nil")
		}
		c.user = user
		return nil
	}
}

// WithLossyTags accepts a backing store that may lose the tag of a user, or does not know whether
// it does. EndAll may then miss sessions.
func WithLossyTags() Option {
	return func(c *config) error {
		c.lossy = true
		return nil
	}
}
