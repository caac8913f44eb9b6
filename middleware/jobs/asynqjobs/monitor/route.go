package monitor

import (
	"net/http"
	"strings"
)

// A route is a parsed request for data. Only known routes reach asynqmon, so that a route
// of a later release cannot show what this package has not checked.
type route struct {
	view  string
	queue string
	group string
	id    string // of a task, or a scheduler entry

	action Action // empty: a read
	all    bool
	batch  bool // the ids are in the body
}

const (
	viewTask      = "task"
	viewQueue     = "queue"
	viewServers   = "servers"
	viewSchedules = "scheduler_entries"
	viewEvents    = "enqueue_events"
	viewRedis     = "redis_info"
)

// isTaskList reports whether s is one of asynqmon's lists of tasks. aggregating_tasks
// has a group before it.
func isTaskList(s string) bool {
	switch s {
	case "active_tasks", "pending_tasks", "scheduled_tasks", "retry_tasks", "archived_tasks", "completed_tasks", "aggregating_tasks":
		return true
	default:
		return false
	}
}

// parseRoute reads a path below /api/, which is clean.
func parseRoute(method, rel string) (route, bool) {
	segs := strings.Split(rel, "/")
	for _, s := range segs {
		if s == "" {
			return route{}, false
		}
	}
	switch method {
	case http.MethodGet:
		return parseRead(segs)
	case http.MethodPost, http.MethodDelete:
		return parseAction(method, segs)
	default:
		return route{}, false
	}
}

func parseRead(segs []string) (route, bool) {
	switch n := len(segs); {
	case n == 1:
		switch segs[0] {
		case "queues", "queue_stats", viewServers, viewSchedules, viewRedis:
			return route{view: segs[0]}, true
		}
	case n == 3 && segs[0] == viewSchedules && segs[2] == viewEvents:
		return route{view: viewEvents, id: segs[1]}, true
	case segs[0] != "queues":
	case n == 2:
		return route{view: viewQueue, queue: segs[1]}, true
	case n == 3 && segs[2] == "groups":
		return route{view: "groups", queue: segs[1]}, true
	case n == 3 && isTaskList(segs[2]) && segs[2] != "aggregating_tasks":
		return route{view: segs[2], queue: segs[1]}, true
	case n == 4 && segs[2] == "tasks":
		return route{view: viewTask, queue: segs[1], id: segs[3]}, true
	case n == 5 && segs[2] == "groups" && segs[4] == "aggregating_tasks":
		return route{view: segs[4], queue: segs[1], group: segs[3]}, true
	}
	return route{}, false
}

func parseAction(method string, segs []string) (route, bool) {
	if len(segs) < 2 || segs[0] != "queues" {
		return route{}, false
	}
	r := route{view: viewQueue, queue: segs[1]}
	if len(segs) == 2 {
		if method == http.MethodDelete {
			r.action = Delete
			return r, true
		}
		name, verb, _ := cutLast(segs[1])
		r.queue, r.action = name, Action(verb)
		return r, name != "" && (r.action == Pause || r.action == Resume)
	}
	rest := segs[2:]
	if len(rest) >= 3 && rest[0] == "groups" {
		r.group, rest = rest[1], rest[2:]
	}
	view, verb, hasVerb := cutLast(rest[0])
	r.view = view
	switch {
	case !isTaskList(view) || (view == "aggregating_tasks") != (r.group != ""):
		return route{}, false
	case len(rest) == 1 && hasVerb: // pending_tasks:delete_all, pending_tasks:batch_delete
		if name, ok := strings.CutSuffix(verb, "_all"); ok {
			r.action, r.all = Action(name), true
		} else if name, ok := strings.CutPrefix(verb, "batch_"); ok {
			r.action, r.batch = Action(name), true
		}
	case len(rest) == 2 && !hasVerb && method == http.MethodDelete:
		r.action, r.id = Delete, rest[1]
	case len(rest) == 2 && !hasVerb:
		id, verb, _ := cutLast(rest[1])
		r.id, r.action = id, Action(verb)
		if id == "" {
			return route{}, false
		}
	}
	switch r.action {
	case Run, Archive, Cancel, Delete:
		return r, true
	default:
		return route{}, false
	}
}

// cutLast cuts s at its last colon, as asynqmon's routes do.
func cutLast(s string) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}
