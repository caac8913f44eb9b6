package asynqjobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/jobs"
)

// Config returns cfg with its functions wrapped, so that ErrorHandler,
// RetryDelayFunc and GroupAggregator see tasks, and they and IsFailure errors, in
// clear, and what the aggregator makes is sealed. Everything else is as in cfg. Only
// the text of a panic stays sealed to IsFailure, to which asynq does not tell whose
// it is; asynq.IsPanicError knows it.
//
// Queues must be what the server is started with: groups are held against it.
//
// Where a task could not be opened, ErrorHandler and RetryDelayFunc see it as it
// is in Redis, with a *Refusal. That the key service is down is never a failure:
// it does not use up a try.
//
// A group is opened as a whole, its members many at a time, in at most 30 seconds. If
// the key service is down it is put back. Members that do not open although others do
// must not stop those: somebody may have planted them. So if some of them might open
// later, because their key is not known yet for one, the group is put back for a
// quarter of an hour, which asynq does every two minutes, and then goes on without
// them. They are kept in the sealed payload of the aggregated task, which goes to the
// archive with ReasonGroup once the rest of it has run: up to 32 MiB, and no more than
// fits into jobs.WithMaxPayloadBytes beside the payload. What does not fit is lost,
// and logged, counted and named in the archived task's error. Client.EnqueueRefused
// enqueues again what opens by then. With WithGroupClient nothing waits and nothing is
// lost. An aggregator that gives its tasks an id of its own, or makes them unique, needs
// it: a task in the archive has its id, and the next one cannot be enqueued. Where an aggregated task may become larger than jobs.WithMaxPayloadBytes, set
// GroupMaxSize: the members of one that does are put back, and logged, each time.
func Config(e *jobs.Encryptor, cfg asynq.Config, opts ...Option) (asynq.Config, error) {
	c, err := newConfig(e, opts)
	if err != nil {
		return asynq.Config{}, fmt.Errorf("asynqjobs: Config: %w", err)
	}
	if err := proveBakedOptions(); err != nil {
		return asynq.Config{}, err
	}
	tel, err := newTelemetry(e, c)
	if err != nil {
		return asynq.Config{}, fmt.Errorf("asynqjobs: Config: %w", err)
	}
	if h := cfg.ErrorHandler; h != nil {
		cfg.ErrorHandler = asynq.ErrorHandlerFunc(func(ctx context.Context, t *asynq.Task, err error) {
			p, known := placeOf(ctx)
			task, cleared := reveal(ctx, e, t, p, known, err)
			h.HandleError(ctx, task, cleared)
		})
	}
	if delay := cfg.RetryDelayFunc; delay != nil {
		cfg.RetryDelayFunc = func(n int, err error, t *asynq.Task) time.Duration {
			// asynq tells neither queue nor id.
			task, cleared := reveal(context.Background(), e, t, place{}, false, err)
			return delay(n, cleared, task)
		}
	}
	isFailure := cfg.IsFailure
	cfg.IsFailure = func(err error) bool {
		switch {
		case outage(err):
			return false
		case isFailure == nil:
			return err != nil
		default:
			return isFailure(cause(err))
		}
	}
	if a := cfg.GroupAggregator; a != nil {
		cfg.GroupAggregator = &aggregator{
			e: e, next: a, cfg: c, tel: tel, sealer: &sealer{e: e, hidden: c.hidden}, patience: newPatience(c.now),
			queue: onlyQueue(cfg.Queues), queues: servedQueues(cfg.Queues),
		}
	}
	return cfg, nil
}

// cause is the error that the application's handler returned.
func cause(err error) error {
	var f *failure
	if errors.As(err, &f) {
		return f.cause
	}
	return err
}

// revealTimeout bounds what is opened for an ErrorHandler or a RetryDelayFunc.
const revealTimeout = 5 * time.Second

// reveal returns a task and its error as the application knows them, as far as
// they open.
func reveal(ctx context.Context, e *jobs.Encryptor, t *asynq.Task, p place, known bool, err error) (*asynq.Task, error) {
	var f *failure
	if errors.As(err, &f) {
		return f.task, f.cause
	}
	var r *Refusal
	if t == nil || errors.As(err, &r) && r.Reason != ReasonGroup {
		return t, err
	}
	// A panic, a timeout, a lost lease: asynq's own error. Its context may have
	// ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revealTimeout)
	defer cancel()
	if !known {
		claim, claimErr := claimed(t.Payload(), t.Headers())
		if claimErr != nil {
			return t, err
		}
		p = claim
	}
	if text, openErr := openFailure(ctx, e, t.Type(), p, err.Error()); openErr == nil && text != err.Error() {
		err = &revealed{text: text, error: err}
	}
	if o, openErr := openTask(ctx, e, t.Type(), t.Payload(), t.Headers(), p, !known); openErr == nil {
		t = o.task
	}
	return t, err
}

// revealed is an error of asynq with the text that it would have without this
// package. To errors.Is and asynq.IsPanicError it is what it was.
type revealed struct {
	text string
	error
}

func (r *revealed) Error() string { return r.text }
func (r *revealed) Unwrap() error { return r.error }

// servedQueues are the queues of a server, in order. asynq ignores those without a
// positive priority, and takes its default if none is left.
func servedQueues(queues map[string]int) []string {
	var names []string
	for name, priority := range queues {
		if priority > 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return []string{defaultQueue}
	}
	slices.Sort(names)
	return names
}

// onlyQueue is the queue of a server that has one, else empty.
func onlyQueue(queues map[string]int) string {
	if names := servedQueues(queues); len(names) == 1 {
		return names[0]
	}
	return ""
}
