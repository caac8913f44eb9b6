package monitor

import (
	"context"
	"errors"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// A view builds one answer for a viewer.
type view struct {
	h      *Handler
	ctx    context.Context
	viewer *Viewer
	limit  int // bytes of a field
	left   int // tasks that may still be opened
	rec    Record
}

// fields are asynqmon's names of the parts of a task. A name is empty if asynqmon does
// not have the part.
type fields struct{ id, typename, payload, result, failure string }

var (
	//nolint:gochecknoglobals // Go has no constants of structs
	taskFields = fields{"id", "type", "payload", "result", "error_message"}
	//nolint:gochecknoglobals // as above
	workerFields = fields{"task_id", "task_type", "task_payload", "", ""}
)

func (l *view) revealAll(list any, f fields) {
	tasks, _ := list.([]any)
	for _, t := range tasks {
		if t, ok := t.(map[string]any); ok {
			l.reveal(t, f)
		}
	}
}

// reveal adds to one task the contents that the viewer may see. Payload and result are
// withheld already.
func (l *view) reveal(t map[string]any, f fields) {
	typename, _ := t[f.typename].(string)
	if f.failure != "" {
		text, _ := t[f.failure].(string)
		t[f.failure] = publicFailure(text)
	}
	access := l.viewer.access()
	hidden := asynqjobs.IsHiddenType(typename)
	if access < AccessTypes || access == AccessTypes && !hidden {
		return
	}
	queue, _ := t["queue"].(string)
	id, _ := t[f.id].(string)
	o := l.open(queue, id)
	if o.typename != "" {
		t[f.typename] = asynqwire.Shorten(o.typename, l.limit)
	}
	if access < AccessPayloads || !o.readable(l.viewer) {
		return
	}
	seen := Seen{Queue: queue, ID: id}
	put := func(field string, show func() (string, bool)) bool {
		if _, ok := t[field]; field == "" || !ok {
			return false
		}
		text, shown := o.note, false
		if text == "" {
			text, shown = show()
		}
		t[field] = asynqwire.Shorten(text, l.limit)
		return shown
	}
	seen.Payload = put(f.payload, func() (string, bool) { return l.payload(o) })
	seen.Result = put(f.result, func() (string, bool) { return l.result(o) })
	seen.Failure = put(f.failure, func() (string, bool) { return l.failure(o) })
	if seen.Payload || seen.Result || seen.Failure {
		l.rec.Tasks = append(l.rec.Tasks, seen)
	}
}

// opened holds the parts of a task that opened.
type opened struct {
	note     string // why there is nothing to show
	info     *asynq.TaskInfo
	task     *asynq.Task // nil: it does not open
	err      error
	typename string // the real one, empty if not known
}

// open reads a task and opens its payload.
func (l *view) open(queue, id string) *opened {
	if l.left--; l.left < 0 {
		return &opened{note: tooMany}
	}
	if err := l.ctx.Err(); err != nil {
		return &opened{note: why(err)}
	}
	info, err := l.h.inspector.GetTaskInfo(queue, id)
	switch {
	case errors.Is(err, asynq.ErrTaskNotFound), errors.Is(err, asynq.ErrQueueNotFound):
		return &opened{note: gone}
	case err != nil:
		return &opened{note: notRead}
	case info.Queue != queue || info.ID != id:
		// It would open under the name that it claims, but an attacker put it here.
		return &opened{note: why(jobs.ErrUnauthentic)}
	}
	o := &opened{info: info}
	if size(info) > maxOpenBytes {
		o.err = jobs.ErrTooLarge
	} else {
		o.task, o.err = asynqjobs.OpenTask(l.ctx, l.h.e, info)
	}
	switch {
	case o.task != nil:
		o.typename = o.task.Type()
	case !asynqjobs.IsHiddenType(info.Type):
		// Result and error text are bound to the type. Behind a pseudonym, the type stays unknown,
		// also with a plaintext payload: an attacker may have replaced the payload.
		o.typename = info.Type
	}
	return o
}

// size returns the size of what would be opened. The payload of a unique task is in a
// header.
func size(info *asynq.TaskInfo) int {
	n := len(info.Payload)
	for _, v := range info.Headers {
		n += len(v)
	}
	return n
}

// readable reports whether the viewer may see the payload of the task. If its type is
// unknown, only a viewer without CanView may.
func (o *opened) readable(v *Viewer) bool {
	switch {
	case v.CanView == nil:
		return true
	case o.info == nil || o.typename == "":
		return false
	default:
		return v.CanView(Task{Queue: o.info.Queue, ID: o.info.ID, Type: o.typename})
	}
}

// payload returns the text of the payload, or the reason why there is none. It reports
// whether the text is the payload.
func (l *view) payload(o *opened) (string, bool) {
	switch {
	case errors.Is(o.err, jobs.ErrNotSealed):
		return notSealed + l.text(o, o.info.Payload), true
	case o.err != nil:
		return why(o.err), false
	}
	return l.text(o, o.task.Payload()), true
}

func (l *view) result(o *opened) (string, bool) {
	switch n := len(o.info.Result); {
	case n == 0:
		return "", false
	case n > maxOpenBytes:
		return tooLarge, false
	}
	b, err := asynqjobs.OpenResult(l.ctx, l.h.e, o.info)
	switch {
	case errors.Is(err, jobs.ErrNotSealed):
		return notSealed + l.text(o, o.info.Result), true
	case err != nil:
		return why(err), false
	default:
		return l.text(o, b), true
	}
}

func (l *view) failure(o *opened) (string, bool) {
	stored := o.info.LastErr
	if len(stored) > maxOpenBytes {
		return tooLarge, false
	}
	text, err := asynqjobs.OpenFailure(l.ctx, l.h.e, o.info)
	switch kind := asynqwire.ParseFailure(stored).Kind; {
	case err != nil:
		return why(err), false
	case kind.Public():
		return text, false
	case kind == asynqwire.SealedFailure:
		return text, true
	default: // an attacker may have written it, or the part before the sealed text
		return notSealed + text, true
	}
}

// text formats b.
func (l *view) text(o *opened, b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return l.h.formatted(o.typename, b)
}
