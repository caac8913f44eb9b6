package asynqjobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/jobs"
)

// Handler returns a handler for asynq.Server that opens each task and hands it to
// next, the application's whole mux. Errors and panics of next come to asynq with
// their texts sealed. The context that next is given is needed by WriteResult.
//
// Give the asynq.Server a Config of this package, too.
func Handler(e *jobs.Encryptor, next asynq.Handler, opts ...Option) (asynq.Handler, error) {
	if next == nil {
		return nil, errors.New("asynqjobs: Handler: nil handler")
	}
	cfg, err := newConfig(e, opts)
	if err != nil {
		return nil, fmt.Errorf("asynqjobs: Handler: %w", err)
	}
	tel, err := newTelemetry(e, cfg)
	if err != nil {
		return nil, fmt.Errorf("asynqjobs: Handler: %w", err)
	}
	tel.announce(cfg)
	return &handler{e: e, next: next, cfg: cfg, tel: tel}, nil
}

type handler struct {
	e    *jobs.Encryptor
	next asynq.Handler
	cfg  *config
	tel  *telemetry
}

// ProcessTask opens t, and runs it.
func (h *handler) ProcessTask(ctx context.Context, t *asynq.Task) error {
	p, ok := placeOf(ctx)
	if !ok {
		return errors.New("asynqjobs: the context of the task is not that of an asynq.Server: queue and id are not known")
	}
	o, err := h.open(ctx, t, p)
	if err != nil {
		return err
	}
	if h.cfg.group != nil && o.nothing && o.lost == 0 && len(o.refused) == 1 {
		return h.release(ctx, p, o.refused[0])
	}
	// The members that a task holds were counted when the group was opened. It goes
	// to the archive with them, where someone can look, whatever becomes of the rest.
	var held *Refusal
	if len(o.refused) > 0 || o.lost > 0 {
		held = &Refusal{Reason: ReasonGroup, group: keptAndLost(len(o.refused), o.lost)}
	}
	if !o.nothing {
		d := &delivery{e: h.e, place: p, typename: t.Type(), writer: t.ResultWriter()}
		err := h.run(context.WithValue(ctx, deliveryKey{}, d), t, o.task, p, held)
		if err != nil && (held == nil || !errors.Is(err, asynq.RevokeTask)) {
			return err
		}
	}
	if held != nil {
		return held
	}
	return nil
}

// release puts a member back into its group that did not open before, or says what
// asynq shall do with the task that holds it. If its id is taken the task is tried
// again: asynq may be about to delete the very member, of whose group this task was
// made a moment ago.
func (h *handler) release(ctx context.Context, p place, m member) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := release(ctx, h.e, h.cfg.group, p.queue, m)
		if err == nil {
			return nil
		}
		if r, again := h.judge(ctx, p, err, pause); !again {
			return r
		}
	}
}

// keptAndLost says what became of the members that did not open.
func keptAndLost(kept int, lost uint32) string {
	text := fmt.Sprintf("%d members of the group did not open; they are in this task's payload", kept)
	if lost > 0 {
		text += fmt.Sprintf("; %d more were too large to be kept", lost)
	}
	return text
}

// open opens the task, or says what asynq shall do with it.
func (h *handler) open(ctx context.Context, t *asynq.Task, p place) (*opened, error) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		o, err := admit(ctx, h.e, h.cfg, t, p)
		if err == nil {
			if o.clear {
				h.tel.clear(ctx, p)
			} else {
				h.tel.sealed(ctx)
			}
			return o, nil
		}
		if r, again := h.judge(ctx, p, err, pause); !again {
			return nil, r
		}
	}
}

// How long a task without a try left waits for the key service at first, and at most.
const (
	firstPause   = time.Second
	longestPause = 30 * time.Second
)

// judge reports that a task did not open, and tells whether to try again here, after
// the pause; otherwise it says what asynq shall do with it.
func (h *handler) judge(ctx context.Context, p place, err error, pause time.Duration) (*Refusal, bool) {
	r := refusal(err)
	if r.definite() {
		h.tel.refused(ctx, p, r.Reason)
		return r, false
	}
	h.tel.retried(ctx, p, r.Reason)
	if r.Reason != ReasonKeyServiceUnavailable || !lastTry(ctx) {
		return r, false
	}
	// asynq would archive a task without a try left, whatever the error. A
	// sound job must not end there because a key service was restarted: it
	// waits here. When the server shuts down, asynq puts it back.
	select {
	case <-ctx.Done():
		return r, false
	case <-time.After(pause):
		return r, true
	}
}

// admit opens t, or passes it if it is in clear and that is tolerated.
func admit(ctx context.Context, e *jobs.Encryptor, cfg *config, t *asynq.Task, p place) (*opened, error) {
	o, err := openTask(ctx, e, t.Type(), t.Payload(), t.Headers(), p, false)
	if errors.Is(err, jobs.ErrNotSealed) && cfg.tolerant() {
		// Without the ResultWriter, through which a result would go in clear.
		return &opened{task: asynq.NewTaskWithHeaders(t.Type(), t.Payload(), t.Headers()), clear: true}, nil
	}
	return o, err
}

// lastTry tells whether asynq will not try the task again.
func lastTry(ctx context.Context) bool {
	n, ok1 := asynq.GetRetryCount(ctx)
	most, ok2 := asynq.GetMaxRetry(ctx)
	return ok1 && ok2 && n >= most
}

// run calls the application's handler, and seals what it fails with. What the task
// holds beside stands before that.
func (h *handler) run(ctx context.Context, sealed, task *asynq.Task, p place, held *Refusal) error {
	prefix := ""
	if held != nil {
		prefix = held.Error() + ": "
	}
	defer func() {
		// panic(nil) is no longer nil here, and runtime.Goexit stays one.
		if x := recover(); x != nil {
			panic(panicked{prefix + sealFailure(ctx, h.e, sealed.Type(), p, describePanic(x))})
		}
	}()
	err := h.next.ProcessTask(ctx, task)
	if err == nil {
		return nil
	}
	return &failure{text: prefix + sealFailure(ctx, h.e, sealed.Type(), p, err.Error()), cause: err, task: task}
}

// delivery is what WriteResult must know of the task that is being processed.
type delivery struct {
	e        *jobs.Encryptor
	place    place
	typename string // as Redis has it
	writer   *asynq.ResultWriter
}

type deliveryKey struct{}

// WriteResult seals result and stores it as the result of the task that is being
// processed, where the Inspector finds it for as long as asynq.Retention says; read
// it with Client.OpenResult. ctx is the handler's. Written again, the last one
// counts.
func WriteResult(ctx context.Context, result []byte) error {
	d, ok := ctx.Value(deliveryKey{}).(*delivery)
	if !ok || d.writer == nil {
		return errors.New("asynqjobs: WriteResult: ctx is not that of a handler under asynqjobs.Handler")
	}
	m := jobs.Meta{Kind: jobs.Result, Type: d.typename, Queue: d.place.queue, ID: d.place.id}
	sealed, err := d.e.Seal(ctx, m, result)
	if err != nil {
		return fmt.Errorf("asynqjobs: WriteResult: %w", err)
	}
	if _, err := d.writer.Write(sealed); err != nil {
		return fmt.Errorf("asynqjobs: WriteResult: %w", err)
	}
	return nil
}
