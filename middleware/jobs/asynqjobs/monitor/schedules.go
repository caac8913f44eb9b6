package monitor

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

const (
	// maxSchedules bounds the list of schedules.
	maxSchedules = 1000
	// schedulePrefix starts the id of a schedule. The rest is a keyed token of its name,
	// because ids appear in addresses and logs.
	schedulePrefix = "schedule:"
	scheduleDomain = "asynqjobs.monitor.schedule"
)

func isScheduleID(id string) bool { return strings.HasPrefix(id, schedulePrefix) }

// schedules completes asynqmon's list of scheduler entries. These are the plaintext
// entries of asynq.Scheduler. It adds the schedules of asynqjobs.
func (l *view) schedules(doc map[string]any) {
	entries, _ := doc["entries"].([]any)
	if l.viewer.access() >= AccessPayloads && len(entries) > 0 {
		l.foreign(entries)
	}
	if l.viewer.access() >= AccessTypes && l.h.scheduler != nil {
		entries = append(entries, l.own()...)
	}
	if entries == nil {
		entries = []any{}
	}
	doc["entries"] = entries
}

// foreign shows the payloads of entries of asynq.Scheduler.
func (l *view) foreign(entries []any) {
	stored, err := l.h.inspector.SchedulerEntries()
	if err != nil {
		return
	}
	payloads := make(map[string][]byte, len(stored))
	for _, e := range stored {
		payloads[e.ID] = e.Task.Payload()
	}
	for _, en := range entries {
		en, ok := en.(map[string]any)
		if !ok {
			continue
		}
		id, _ := en["id"].(string)
		typename, _ := en["task_type"].(string)
		b, ok := payloads[id]
		if !ok || len(b) == 0 || l.viewer.CanView != nil && !l.viewer.CanView(Task{Type: typename, Schedule: id}) {
			continue
		}
		switch {
		case jobs.IsSealed(b):
			en["task_payload"] = "[not opened: not sealed by asynqjobs.Scheduler]"
		case len(b) > maxOpenBytes:
			en["task_payload"] = tooLarge
		default:
			en["task_payload"] = asynqwire.Shorten(notSealed+l.h.formatted(typename, b), l.limit)
			l.rec.Tasks = append(l.rec.Tasks, Seen{ID: id, Payload: true})
		}
	}
}

// own lists the schedules of asynqjobs in asynqmon's form.
func (l *view) own() []any {
	infos, err := l.h.scheduler.List(l.ctx)
	var rows []any
	for i, info := range infos {
		if i == maxSchedules {
			break
		}
		id, err := l.h.scheduleID(info.Name)
		if err != nil {
			continue
		}
		row := map[string]any{
			"id": id, "spec": asynqwire.Shorten(info.When.String(), l.limit),
			"task_type": asynqwire.Shorten(info.Type, l.limit), "task_payload": "",
			"options":         []string{fmt.Sprintf("Name(%q)", asynqwire.Shorten(info.Name, l.limit)), fmt.Sprintf("Queue(%q)", info.Queue)},
			"next_enqueue_at": info.Next.Format(time.RFC3339),
		}
		if !info.Last.IsZero() {
			row["prev_enqueue_at"] = info.Last.Format(time.RFC3339)
		}
		if len(info.Payload) > 0 {
			row["task_payload"] = l.schedulePayload(id, &info)
		}
		rows = append(rows, row)
	}
	if err != nil {
		rows = append(rows, map[string]any{
			"id": schedulePrefix, "spec": "", "task_type": why(err), "task_payload": "", "options": []string{},
			"next_enqueue_at": l.rec.Time.Format(time.RFC3339),
		})
	}
	return rows
}

func (l *view) schedulePayload(id string, info *asynqjobs.ScheduleInfo) string {
	if l.viewer.access() < AccessPayloads {
		return withheld
	}
	if sees := l.viewer.CanView; sees != nil && !sees(Task{Queue: info.Queue, Type: info.Type, Schedule: info.Name}) {
		return withheld
	}
	if len(info.Payload) > maxOpenBytes {
		return tooLarge
	}
	l.rec.Tasks = append(l.rec.Tasks, Seen{Queue: info.Queue, ID: id, Payload: true})
	return asynqwire.Shorten(l.h.formatted(info.Type, info.Payload), l.limit)
}

func (h *Handler) scheduleID(name string) (string, error) {
	token, err := h.e.Tokens().Token(scheduleDomain, []byte(name))
	if err != nil {
		return "", err
	}
	return schedulePrefix + token.String()[:16], nil
}

// serveEvents answers with the last tick of a schedule of asynqjobs. Earlier ticks are not
// kept.
func (h *Handler) serveEvents(w http.ResponseWriter, r *http.Request, id string, viewer *Viewer) {
	events := []any{}
	if h.scheduler != nil && viewer.access() >= AccessTypes {
		release, ok := h.begin(r.Context())
		if !ok {
			fail(w, http.StatusServiceUnavailable)
			return
		}
		defer release()
		ctx, cancel := context.WithTimeout(r.Context(), openTimeout)
		defer cancel()
		infos, _ := h.scheduler.List(ctx) // the list of schedules shows why one is missing
		for _, info := range infos {
			if got, err := h.scheduleID(info.Name); err == nil && got == id && !info.Last.IsZero() {
				events = append(events, map[string]any{"task_id": "last tick", "enqueued_at": info.Last.Format(time.RFC3339)})
			}
		}
	}
	writeJSON(w, map[string]any{"events": events})
}
