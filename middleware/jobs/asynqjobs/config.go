package asynqjobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// Config returns cfg with its functions wrapped. ErrorHandler, RetryDelayFunc and GroupAggregator see opened tasks. They and
// IsFailure see errors with their own texts. The result of the aggregator is sealed. Everything else is as in cfg. IsFailure
// gets the text of a panic still sealed, because asynq does not pass the task to it; asynq.IsPanicError recognizes a panic.
//
// HealthCheckFunc and Logger get the errors of Redis without the parts that may quote a stored value or a key name. If Logger is
// nil, asynq logs to the logger of WithLogger.
//
// Queues must be the queues of the server: tasks and members of groups are checked against them. Set them before you call Config:
// if the server has other queues, their tasks are archived. A task that names another queue than asynq took it from is not run. An
// attacker has moved it, and asynq leaves it in its list of active tasks.
//
// ErrorHandler and RetryDelayFunc see a task that could not be opened as Redis holds it, with a *Refusal.
//
// If the key service does not answer, asynq retries the task, and this does not use up a try. But in the last try of a task,
// asynq archives it after any error. So in the last try, the handler waits until the key service answers. While it waits, it
// occupies one of the server's Concurrency slots. asynq archives the task if its timeout or deadline ends during the wait.
// A task with MaxRetry(0) has only a last try, so give each task at least MaxRetry(1).
//
// A task with ReasonRewritten does not use up tries either, and is retried once an hour.
//
// A GroupAggregator needs WithGroupClient. A group is opened as a whole, many members at a time, in at most 30
// seconds. If the key service is down, the group is put back. Members that do not open, which an attacker may have
// planted, do not stop the others: each becomes a separate task; see WithGroupClient. Set GroupMaxSize if an
// aggregated task may become larger than jobs.WithMaxPayloadBytes. If it is too large, its members are put back
// into the group, and this is logged each time.
//
// asynq does not look at a group that it has put back before the next task is enqueued into it. So the aggregator also enqueues a
// task that makes asynq look at the group five minutes later. There is no such task if a server dies while it aggregates, or if
// asynq cannot enqueue the aggregated task, as when its id is taken. The task must be sealed. So there is none either if sealing
// fails in the outage: the data key is older than aead.WithMaxAge, or the KEK of a Keyring refuses the keyset.
//
// asynq does not tell the aggregator the queue of the group. If a server has several queues, the aggregator uses the queue
// that is named in most tasks of the group. So an attacker can copy many old tasks of another queue into a group, and the
// genuine tasks do not open. To prevent this, give each queue with groups its own server.
func Config(e *jobs.Encryptor, cfg asynq.Config, opts ...Option) (asynq.Config, error) {
	c, err := newConfig(e, opts)
	if err != nil {
		return asynq.Config{}, fmt.Errorf("asynqjobs: Config: %w", err)
	}
	for name, part := range map[string]any{"ErrorHandler": cfg.ErrorHandler, "GroupAggregator": cfg.GroupAggregator, "Logger": cfg.Logger} {
		if part != nil && nilcheck.IsNil(part) {
			return asynq.Config{}, fmt.Errorf("asynqjobs: Config: the %s is a nil %T", name, part)
		}
	}
	if cfg.GroupAggregator != nil && c.group == nil {
		return asynq.Config{}, errors.New("asynqjobs: Config: a GroupAggregator needs the option WithGroupClient")
	}
	if err := proveBakedOptions(); err != nil {
		return asynq.Config{}, err
	}
	tel, err := newInstruments(e, c)
	if err != nil {
		return asynq.Config{}, fmt.Errorf("asynqjobs: Config: %w", err)
	}
	if h := cfg.ErrorHandler; h != nil {
		cfg.ErrorHandler = asynq.ErrorHandlerFunc(func(ctx context.Context, t *asynq.Task, err error) {
			at, known := identityOf(ctx)
			task, opened := reveal(ctx, e, t, at, known, err)
			h.HandleError(ctx, task, opened)
		})
	}
	cfg.BaseContext = serving(servedQueues(cfg.Queues), cfg.BaseContext)
	cfg.RetryDelayFunc = retryDelay(e, cfg.RetryDelayFunc)
	cfg.Logger = newAsynqLogger(cfg.Logger, c.telemetry.Logger())
	if check := cfg.HealthCheckFunc; check != nil {
		cfg.HealthCheckFunc = func(err error) { check(rediserr.Wrap(err)) }
	}
	isFailure := cfg.IsFailure
	cfg.IsFailure = func(err error) bool {
		r := refusalIn(err)
		switch {
		case r != nil && (r.unanswered() || r.Reason == ReasonRewritten):
			return false
		case isFailure == nil:
			return err != nil
		default:
			return isFailure(cause(err))
		}
	}
	if a := cfg.GroupAggregator; a != nil {
		cfg.GroupAggregator = &aggregator{
			e: e, next: a, cfg: c, tel: tel, sealer: &sealer{e: e, hidden: c.hidden}, queues: servedQueues(cfg.Queues),
		}
	}
	return cfg, nil
}

// rewrittenDelay is the time between two tries of a task whose sealed payload is gone.
const rewrittenDelay = time.Hour

// retryDelay wraps the application's RetryDelayFunc, or asynq's own.
func retryDelay(e *jobs.Encryptor, delay asynq.RetryDelayFunc) asynq.RetryDelayFunc {
	return func(n int, err error, t *asynq.Task) time.Duration {
		if r := refusalIn(err); r != nil && r.Reason == ReasonRewritten {
			return rewrittenDelay
		}
		if delay == nil {
			return asynq.DefaultRetryDelayFunc(n, err, t)
		}
		// asynq passes neither queue nor id.
		task, opened := reveal(context.Background(), e, t, identity{}, false, err)
		return delay(n, opened, task)
	}
}

// cause returns the error that the application's handler returned.
func cause(err error) error {
	var f *failure
	if errors.As(err, &f) {
		return f.cause
	}
	return err
}

// revealTimeout bounds the opening of a task for an ErrorHandler or a RetryDelayFunc.
const revealTimeout = 5 * time.Second

// reveal returns a task and its error with opened contents. Contents that do not open stay as stored.
func reveal(ctx context.Context, e *jobs.Encryptor, t *asynq.Task, at identity, known bool, err error) (*asynq.Task, error) {
	var f *failure
	if errors.As(err, &f) {
		return f.task, f.cause
	}
	if t == nil || refusalIn(err) != nil {
		return t, err
	}
	// The error is asynq's own: a panic, a timeout, a lost lease. Its context may have ended.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revealTimeout)
	defer cancel()
	if !known {
		claim, claimErr := claimOf(t.Payload(), t.Headers())
		if claimErr != nil {
			return t, err
		}
		at = claim
	}
	if text, openErr := openFailure(ctx, e, t.Type(), at, err.Error()); openErr == nil && text != err.Error() {
		err = &revealed{text: text, error: err}
	}
	if o, openErr := openTask(ctx, e, t.Type(), t.Payload(), t.Headers(), at, !known); openErr == nil {
		t = o.task
	}
	return t, err
}

// revealed is an error of asynq with its opened text. errors.Is and asynq.IsPanicError see the original error.
type revealed struct {
	text string
	error
}

func (r *revealed) Error() string { return r.text }
func (r *revealed) Unwrap() error { return r.error }

// servedKey is the context key of the queues of a server.
type servedKey struct{}

// serving wraps the application's BaseContext, so that handlers learn the queues of their server. asynq takes the queue of a
// task from the task itself, which an attacker may have put into another queue.
func serving(queues []string, base func() context.Context) func() context.Context {
	if base == nil {
		base = context.Background
	}
	return func() context.Context { return context.WithValue(base(), servedKey{}, queues) }
}

// servedHere reports whether the server that made ctx serves the queue. Without Config it is unknown, and true.
func servedHere(ctx context.Context, queue string) bool {
	queues, known := ctx.Value(servedKey{}).([]string)
	return !known || slices.Contains(queues, queue)
}

// servedQueues returns the queues of a server, sorted. asynq ignores queues without a positive priority, and uses its default
// queue if none is left.
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
