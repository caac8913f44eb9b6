package monitor

import (
	"context"
	"log/slog"
	"time"
)

// Action is the kind of a Record.
type Action string

// The actions.
const (
	View    Action = "view" // payloads, results or error texts
	Run     Action = "run"
	Archive Action = "archive"
	Cancel  Action = "cancel"
	Delete  Action = "delete" // of tasks, or of a queue
	Pause   Action = "pause"  // of a queue
	Resume  Action = "resume" // of a queue
)

// A Record says which user viewed or changed which tasks. It is made before that happens. The page also makes a Record
// when it refuses an action.
type Record struct {
	Time   time.Time
	Viewer string // Viewer.Name
	Action Action

	// Page is what the user asked for: "task", a list such as "retry_tasks",
	// "servers", "scheduler_entries", or "queue".
	Page  string
	Queue string // empty for servers and schedules
	Group string // for aggregating_tasks

	// All reports whether an action covers all tasks of the list.
	All bool

	// Tasks are the tasks that were opened, or that the action names. The record of a
	// refused batch has none, because its body is not read.
	Tasks []Seen

	// Refused reports whether the action was refused because the user may not act.
	// Names of more than 128 bytes are cut in such a record.
	Refused bool
}

// Seen is one task of a Record, with the parts of it that the user saw.
type Seen struct {
	Queue string
	ID    string // for a schedule, the keyed pseudonym that the page shows as its id

	Payload, Result, Failure bool
}

// auditTimeout is the deadline of the context that the application's audit gets.
const auditTimeout = 10 * time.Second

// record logs r and passes it to the application's audit.
func (h *Handler) record(ctx context.Context, r *Record) error {
	level := slog.LevelInfo
	if r.Refused {
		level = slog.LevelWarn
	}
	ids := make([]string, len(r.Tasks))
	for i, s := range r.Tasks {
		ids[i] = s.ID
		if r.Queue == "" && s.Queue != "" {
			ids[i] = s.Queue + "/" + s.ID
		}
	}
	attrs := []slog.Attr{
		slog.String("viewer", r.Viewer), slog.String("action", string(r.Action)), slog.String("page", r.Page),
	}
	if r.Queue != "" {
		attrs = append(attrs, slog.String("queue", r.Queue))
	}
	if r.All {
		attrs = append(attrs, slog.Bool("all", true))
	}
	if len(ids) > 0 {
		attrs = append(attrs, slog.Any("tasks", ids))
	}
	if r.Refused {
		attrs = append(attrs, slog.Bool("refused", true))
	}
	h.cfg.logger.LogAttrs(ctx, level, "sealcache: job monitor: a user requested an action", attrs...)
	if h.cfg.audit == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	return h.cfg.audit(ctx, *r)
}
