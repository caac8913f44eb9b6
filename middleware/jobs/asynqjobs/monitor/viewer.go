package monitor

import (
	"fmt"
	"net/http"
)

// Access is how much of the jobs a viewer may see. Each level includes the levels
// below it.
type Access int

// The levels. The zero value is NoAccess.
const (
	NoAccess       Access = iota // 403 for every request
	AccessCounts                 // counts, times, ids, and type names as Redis holds them
	AccessTypes                  // also the real type names, and schedules without payloads
	AccessPayloads               // also payloads, results and error texts; each view is recorded
)

// String returns the level in plain words.
func (a Access) String() string {
	switch a {
	case NoAccess:
		return "no access"
	case AccessCounts:
		return "counts"
	case AccessTypes:
		return "types"
	case AccessPayloads:
		return "payloads"
	default:
		return fmt.Sprintf("access %d", int(a))
	}
}

// A Viewer is the user behind a request, and what the user may do. The zero Viewer
// has no access.
type Viewer struct {
	// Name identifies the user in logs, in records, and on the page itself. It is the
	// name of an account, not a secret.
	Name string

	// Access is how much the user sees. A value that this package does not define counts as
	// NoAccess.
	Access Access

	// CanView limits AccessPayloads to the tasks for which it returns true. Nil means
	// all tasks. It receives the real type name. It must be safe for concurrent use if
	// viewers share it. The real type of a task with a hidden type is unknown if its
	// payload does not open or is plaintext. CanView is not called for such a task, and
	// its payload is withheld.
	CanView func(Task) bool

	// CanAct allows the user to run, archive, cancel and delete tasks, and to pause,
	// resume and delete queues. It covers all tasks, independent of CanView. It needs
	// WithActions and an Access of at least AccessCounts.
	CanAct bool
}

func (v *Viewer) access() Access {
	if v.Access < NoAccess || v.Access > AccessPayloads {
		return NoAccess
	}
	return v.Access
}

// Task is what Viewer.CanView decides about.
type Task struct {
	Queue string
	ID    string // empty for a schedule
	Type  string // the real name

	// Schedule is the name of a schedule. It is empty for a task.
	Schedule string
}

// An Authorizer returns the user behind r and what the user may see. It is called
// once for each request, also for scripts and images of the page, before anything is
// read from Redis. The context of r holds what the application's middleware put
// there. An Authorizer must be safe for concurrent use.
type Authorizer func(r *http.Request) Viewer
