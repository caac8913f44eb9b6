package monitor

import (
	"fmt"
	"net/http"
)

// Access is how much of the jobs somebody may see. Each level includes those below
// it.
type Access int

// The levels. The zero value is none.
const (
	NoAccess Access = iota // 403 for everything
	Numbers                // counts, times, ids and whatever type names Redis holds
	Names                  // real type names, schedules without their payloads
	Contents               // payloads, results, error texts: audited
)

func (a Access) String() string {
	switch a {
	case NoAccess:
		return "no access"
	case Numbers:
		return "numbers"
	case Names:
		return "names"
	case Contents:
		return "contents"
	default:
		return fmt.Sprintf("access %d", int(a))
	}
}

// A Viewer is who sent a request and what they may. The zero Viewer may nothing.
type Viewer struct {
	// Name is how logs and records of the audit call them: an account, not a secret.
	Name string

	// Access is what they see. A value that is none of this package's is NoAccess.
	Access Access

	// Sees narrows Contents to the tasks for which it returns true. It is given
	// the real type name, and must be safe for concurrent use if it is shared. Of a
	// task whose type is hidden and whose payload does not open, or is in clear, the
	// type is not known: it is not asked about, and nothing is shown. Nil: all tasks.
	Sees func(Task) bool

	// Acts lets them run, archive, cancel and delete tasks, and pause, resume and
	// delete queues, all of them whatever Sees says, if the handler was made with
	// WithActions and Access is at least Numbers.
	Acts bool
}

func (v *Viewer) access() Access {
	if v.Access < NoAccess || v.Access > Contents {
		return NoAccess
	}
	return v.Access
}

// Task is what Viewer.Sees decides about.
type Task struct {
	Queue string
	ID    string // empty for a schedule
	Type  string // the real name

	// Schedule is the name of a schedule, else empty.
	Schedule string
}

// An Authorizer says who sent r and what they may see. It is called once for each
// request, the page's own scripts and pictures included, before anything is read
// from Redis. r is as it came; what the application's own middleware put into its
// context is there. It must be safe for concurrent use.
type Authorizer func(r *http.Request) Viewer
