package monitor

import (
	"context"
	"log/slog"
	"time"
)

// Action is what a Record is of.
type Action string

// The actions.
const (
	Look    Action = "look" // contents were about to be shown
	Run     Action = "run"
	Archive Action = "archive"
	Cancel  Action = "cancel"
	Delete  Action = "delete" // of tasks, or of a queue
	Pause   Action = "pause"  // of a queue
	Resume  Action = "resume"
)

// A Record says who looked at what, or did what. It is made before that happens.
type Record struct {
	Time   time.Time
	Viewer string // Viewer.Name
	Action Action

	// View is where: "task", a list such as "retry_tasks", "servers",
	// "scheduler_entries", or "queue".
	View  string
	Queue string // empty for servers and schedules
	Group string // of aggregating_tasks

	// All says that an action concerns all tasks of the view.
	All bool

	// Tasks are those that were opened, or that the action names. A refused action on
	// several has none: what the viewer sent is not read.
	Tasks []Seen

	// Refused says that an action was not done: the viewer may not act. Names of more
	// than 128 bytes are cut then.
	Refused bool
}

// Seen is a task of a Record, and which of its contents were shown.
type Seen struct {
	Queue string
	ID    string // for a schedule, the keyed pseudonym that the page shows as its id

	Payload, Result, Failure bool
}

// auditTimeout bounds the application's audit, as far as that heeds its context.
const auditTimeout = 10 * time.Second

// record logs r and gives it to the application.
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
		slog.String("viewer", r.Viewer), slog.String("action", string(r.Action)), slog.String("view", r.View),
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
	h.cfg.logger.LogAttrs(ctx, level, "sealcache: job monitor", attrs...)
	if h.cfg.audit == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	return h.cfg.audit(ctx, *r)
}
