package asynqjobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/sleep"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// Handler returns a handler for asynq.Server that opens each task and passes it to next, the application's whole mux. The texts
// of next's errors and panics are sealed before asynq gets them. WriteResult needs the context that next is given.
//
// If a task names a key that the keyset does not contain, the handler reloads the keyset: see jobs.WithReload. If the task
// still does not open, asynq retries it, and this uses up a try.
//
// Also give the asynq.Server a Config of this package.
func Handler(e *jobs.Encryptor, next asynq.Handler, opts ...Option) (asynq.Handler, error) {
	if nilcheck.IsNil(next) {
		return nil, errors.New("asynqjobs: Handler: the handler is nil")
	}
	cfg, err := newConfig(e, opts)
	if err != nil {
		return nil, fmt.Errorf("asynqjobs: Handler: %w", err)
	}
	tel, err := newInstruments(e, cfg)
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
	tel  *instruments
}

var errNoGroupClient = errors.New("asynqjobs: the handler cannot put the task back into its group (give the handler WithGroupClient)")

// ProcessTask opens t and runs it.
func (h *handler) ProcessTask(ctx context.Context, t *asynq.Task) error {
	start := h.cfg.now()
	at, ok := identityOf(ctx)
	if !ok {
		return &Refusal{Reason: ReasonNoTaskContext}
	}
	o, err := h.open(ctx, t, at)
	ctx, span := h.tel.startProcess(ctx, start, at, o)
	outcome := "panic"
	defer func() { endSpan(span, outcome) }()
	switch {
	case err != nil:
		outcome = string(refusalIn(err).Reason)
	case o.held != nil:
		outcome = "ok"
		if err = h.release(ctx, at, *o.held); err != nil {
			outcome = string(refusalIn(err).Reason)
		}
	case o.wakes():
		outcome = "ok"
	default:
		if err = h.run(ctx, t, o, at); err == nil {
			outcome = "ok"
		} else {
			outcome = "failed"
		}
	}
	return err
}

// release puts a held member back into its group. It returns nil, or the error by which asynq keeps the task that holds the
// member. If the member's id is taken, the task is retried: asynq may be about to delete the earlier task with this id.
func (h *handler) release(ctx context.Context, at identity, m member) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := errNoGroupClient
		if h.cfg.group != nil {
			err = release(ctx, h.e, h.cfg.group, at.queue, m)
		}
		if err == nil {
			return nil
		}
		if r, again := h.refuseOrWait(ctx, at, err, pause); !again {
			return r
		}
	}
}

// open opens the task, or returns the error that makes asynq retry or archive it.
func (h *handler) open(ctx context.Context, t *asynq.Task, at identity) (*opened, error) {
	if !servedHere(ctx, at.queue) {
		h.tel.refused(ctx, at, ReasonUnauthentic)
		return nil, refusal(fmt.Errorf("%w: the task names a queue that this server does not serve", jobs.ErrUnauthentic))
	}
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		o, err := openTask(ctx, h.e, t.Type(), t.Payload(), t.Headers(), at, false)
		switch {
		case err == nil:
			h.tel.sealed(ctx)
			return o, nil
		case errors.Is(err, jobs.ErrNotSealed) && h.cfg.tolerant():
			h.tel.plaintext(ctx, at)
			return &opened{task: plaintextTask(t.Type(), t.Payload(), t.Headers()), plaintext: true}, nil
		}
		if r, again := h.refuseOrWait(ctx, at, err, pause); !again {
			return nil, r
		}
	}
}

// The first and the longest pause of a task without a try left while the key service is down.
const (
	firstPause   = time.Second
	longestPause = 30 * time.Second
)

// refuseOrWait counts and logs a task that did not open. It returns the error that makes asynq retry or archive the task. Or it waits
// for the pause and returns true, and the caller tries again.
func (h *handler) refuseOrWait(ctx context.Context, at identity, err error, pause time.Duration) (*Refusal, bool) {
	r := refusal(err)
	if r.definite() {
		h.tel.refused(ctx, at, r.Reason)
		return r, false
	}
	h.tel.retried(ctx, at, r.Reason)
	if !r.unanswered() || !lastTry(ctx) {
		return r, false
	}
	// asynq archives a task that has no try left, after any error. A sound job must not be archived because a key
	// service restarts, so it waits here. When the server shuts down, asynq puts it back.
	return r, sleep.For(ctx, pause) == nil
}

// lastTry reports whether asynq will not try the task again.
func lastTry(ctx context.Context) bool {
	n, ok1 := asynq.GetRetryCount(ctx)
	most, ok2 := asynq.GetMaxRetry(ctx)
	return ok1 && ok2 && n >= most
}

// run calls the application's handler and seals the text of its error. While plaintext is written, the error text of a
// plaintext task stays plaintext.
func (h *handler) run(ctx context.Context, stored *asynq.Task, o *opened, at identity) error {
	plaintext := o.plaintext && h.cfg.writesPlaintext()
	ctx = context.WithValue(ctx, deliveryKey{}, &delivery{
		e: h.e, at: at, typename: stored.Type(), writer: stored.ResultWriter(), plaintext: plaintext, headers: o.task.Headers(),
		tick: o.tick,
	})
	if plaintext {
		return errtext.Guard(h.next.ProcessTask(ctx, o.task))
	}
	defer func() {
		// panic(nil) has not been nil since Go 1.21, and runtime.Goexit recovers nothing.
		if x := recover(); x != nil {
			panic(panicked{sealFailure(ctx, h.e, stored.Type(), at, describePanic(x))})
		}
	}()
	err := h.next.ProcessTask(ctx, o.task)
	if err == nil {
		return nil
	}
	return &failure{text: sealFailure(ctx, h.e, stored.Type(), at, errtext.Text(err)), cause: err, task: o.task}
}
