package asynqjobs

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/sealcache/sealcache/internal/options"
	"github.com/sealcache/sealcache/middleware/internal/plaintext"
	"github.com/sealcache/sealcache/middleware/internal/telemetry"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// An Option configures NewClient, Handler and Config. The same options may be given to all three. Each ignores the options
// that it does not need.
type Option func(*config) error

type config struct {
	hidden    bool
	policy    jobs.PlaintextPolicy
	hasPolicy bool
	until     time.Time
	plaintext *plaintext.Window
	telemetry telemetry.Config
	group     *asynq.Client
	inspector *asynq.Inspector
	pipeline  redis.UniversalClient // nil: EnqueueMany enqueues one task after the other

	now     func() time.Time
	opening time.Duration // of a group
	grace   time.Duration // of WithQueueCheck
}

// WithHiddenTypes also hides type names: the type that Redis holds is a keyed pseudonym, and the name is in the sealed
// payload. Tasks of one type can still be recognized as such. The option needs jobs.WithPRF.
//
// The client and the aggregator of Config use it. Handlers accept hidden and plain names alike.
func WithHiddenTypes() Option {
	return func(c *config) error {
		c.hidden = true
		return nil
	}
}

// WithPlaintext sets what happens to plaintext tasks. The default is jobs.RejectPlaintext. Roll out the policies in this
// order, each to every process before the next:
//
//   - jobs.WritePlaintext: the client enqueues plaintext, and so can still be read by workers without this package. Handlers
//     read both. A plaintext task's result and error text, and the aggregate of plaintext members, stay plaintext. What
//     belongs to a sealed task stays sealed.
//   - jobs.ReadPlaintext: handlers read both. Everything that is written is sealed.
//   - jobs.RejectPlaintext: plaintext tasks are archived with ReasonNotSealed.
//
// A unique job is unique among the plaintext and among the sealed jobs, but not between the two: see Client.EnqueueContext.
// While plaintext is accepted, an attacker who can write to Redis can plant tasks. Set an end with WithPlaintextUntil.
func WithPlaintext(p jobs.PlaintextPolicy) Option {
	return func(c *config) error {
		switch p {
		case jobs.RejectPlaintext, jobs.ReadPlaintext, jobs.WritePlaintext:
		default:
			return fmt.Errorf("WithPlaintext: the policy %d is unknown (use a constant such as jobs.ReadPlaintext)", int(p))
		}
		c.policy, c.hasPolicy = p, true
		return nil
	}
}

// WithPlaintextUntil ends the policy of WithPlaintext at t: from then on, without a restart, everything behaves as with
// jobs.RejectPlaintext. The end is final: a wall clock that is set back later does not undo it. Without WithPlaintext, the
// policy until t is jobs.ReadPlaintext; middleware's option of this name is then an error. A time in the past is allowed, so
// that a service can restart after the end.
func WithPlaintextUntil(t time.Time) Option {
	return func(c *config) error {
		if t.IsZero() {
			return errors.New("WithPlaintextUntil: the time must not be zero")
		}
		c.until = t
		return nil
	}
}

// WithGroupClient sets the client that enqueues the members of a group that do not open. Config needs it where it has a
// GroupAggregator, and the handler of the same server needs it too. c must lead to the server's Redis. It is not closed.
//
// If a member may open later, because its key is not known yet or is disabled, it is held. It then becomes the
// sealed content of a separate task, with asynq's usual number of tries. When the member opens, the handler puts it
// back into its group under its own id. Any other member is enqueued as it was found, for the handler to archive it
// with its reason. Members with equal bytes become one such task. If one of them cannot be enqueued, the whole
// group is put back.
func WithGroupClient(c *asynq.Client) Option {
	return func(cfg *config) error {
		if c == nil {
			return errors.New("WithGroupClient: the asynq client is nil")
		}
		cfg.group = c
		return nil
	}
}

// WithQueueCheck makes a Client log an ERROR if it enqueues into a queue that no running server processes, neither now nor a
// minute later. It asks i in the background, at the first task of a queue and then at most once in five minutes. Close ends
// it. The inspector is not closed.
func WithQueueCheck(i *asynq.Inspector) Option {
	return func(c *config) error {
		if i == nil {
			return errors.New("WithQueueCheck: the asynq inspector is nil")
		}
		c.inspector = i
		return nil
	}
}

// WithLogger sets the logger for tasks that are refused, accepted as plaintext, or retried. It gets at most a few
// lines each second. They contain queue and id, and no type name, payload, result or error text. Config also gives it to
// asynq, unless asynq.Config has a Logger. The default is slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error { return c.telemetry.SetLogger(l) }
}

// WithMeterProvider reports OpenTelemetry metrics. All carry the namespace. The default is none.
//
//   - sealcache.jobs.admission counts tasks that reached a handler or an aggregator, by sealcache.outcome (sealed, plaintext,
//     refused, retried) and, for refused and retried, sealcache.reason
//   - sealcache.jobs.enqueued counts tasks given to a Client, by sealcache.outcome (ok, duplicate, conflict, unknown: Redis did not
//     reply, or a Reason)
//   - sealcache.jobs.ticks counts ticks of schedules, by sealcache.outcome (enqueued, conflict: another process was first,
//     failed)
//   - sealcache.jobs.schedules counts schedules that a running Scheduler changed because Redis lost data, by sealcache.outcome
//     (restored, ended_again: a cancelled schedule had come back)
func WithMeterProvider(p metric.MeterProvider) Option {
	return func(c *config) error { return c.telemetry.SetMeterProvider(p) }
}

// WithTracerProvider reports OpenTelemetry spans: "sealcache.jobs.enqueue" for each task that a Client enqueues, and
// "sealcache.jobs.process" for each task that a handler runs. They carry the queue and the id, and no type name or error text.
//
// The client seals the W3C trace context of its span with the task. The handler's span continues that trace. Without this
// option, the client seals the trace context of the caller's span, unless the task's headers have one. A Handler without the
// option still puts the trace context into the handler's ctx. Plaintext tasks carry no trace context, except as application
// headers.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(c *config) error { return c.telemetry.SetTracerProvider(p) }
}

func newConfig(e *jobs.Encryptor, opts []Option) (*config, error) {
	c := &config{now: time.Now, opening: groupOpening, grace: queueCheckGrace}
	var errs []error
	if e == nil {
		errs = append(errs, errors.New("the encryptor is nil (make one with jobs.NewEncryptor)"))
	}
	errs = append(errs, options.Apply("", opts, func(o Option) error { return o(c) }))
	if c.hidden && e != nil && e.Tokens() == nil {
		errs = append(errs, fmt.Errorf("WithHiddenTypes cannot be used: %w", jobs.ErrNoPRF))
	}
	switch {
	case c.until.IsZero():
	case !c.hasPolicy:
		c.policy = jobs.ReadPlaintext
	case c.policy == jobs.RejectPlaintext:
		errs = append(errs, errors.New("WithPlaintextUntil cannot be combined with the policy jobs.RejectPlaintext"))
	}
	c.plaintext = plaintext.NewWindow(c.policy, c.until, c.now)
	return c, errors.Join(errs...)
}

// tolerant reports whether plaintext tasks are accepted at this moment.
func (c *config) tolerant() bool { return c.plaintext.Policy() != jobs.RejectPlaintext }

// writesPlaintext reports whether new tasks are plaintext at this moment.
func (c *config) writesPlaintext() bool { return c.plaintext.Policy() == jobs.WritePlaintext }
