package asynqjobs

import (
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"go.opentelemetry.io/otel/metric"

	"github.com/sealcache/sealcache/middleware/jobs"
)

// An Option changes what NewClient, Handler and Config make. The same options may
// be given to all three; each takes what concerns it.
type Option func(*config) error

type config struct {
	hidden bool
	until  time.Time
	logger *slog.Logger
	meters metric.MeterProvider
	group  *asynq.Client

	now     func() time.Time
	opening time.Duration // of a group
}

// WithHiddenTypes hides type names, too: what Redis holds as a task's type is a
// keyed pseudonym, and the name travels in the sealed payload. Tasks of one type
// can still be told to be of one type. It needs jobs.WithPRF.
//
// It concerns who enqueues: the client, and the aggregator of Config. Handlers
// take hidden and open names alike.
func WithHiddenTypes() Option {
	return func(c *config) error {
		c.hidden = true
		return nil
	}
}

// IsHiddenType tells whether typename, as Redis holds it, stands for a hidden one: it
// begins as the pseudonyms of WithHiddenTypes do. Whether it is one only [OpenTask]
// can tell, which returns the real name.
func IsHiddenType(typename string) bool { return strings.HasPrefix(typename, hiddenPrefix) }

// WithClearUntil lets handlers take tasks in clear until t, for the time in which
// those enqueued before the application sealed its jobs are worked off. Until
// then, whoever can write to Redis can plant tasks; from then on, without a
// restart, they are refused. Each one taken is counted. A time in the past is
// allowed: a service that is restarted after the end must not fail.
func WithClearUntil(t time.Time) Option {
	return func(c *config) error {
		if t.IsZero() {
			return errors.New("WithClearUntil: zero time")
		}
		c.until = t
		return nil
	}
}

// WithGroupClient has Config enqueue, with c, those members of a group that do not
// open, each alone, at once: the aggregated task of the others has nothing to do with
// them. Give it to Handler as well.
//
// A member that might open later, because its key is not known yet or was disabled,
// becomes the sealed payload of a task of type "sealcache:refused" with asynq's usual
// number of tries. The handler puts the member back into its group, with its own id, as
// soon as it opens, also when that task is run again from the archive; while the id is
// taken it tries again. Any other member is
// enqueued as it was found, for the handler to archive it with its reason; members
// that are equal to the byte in several rounds of a group are one such task. If all
// that cannot be enqueued the group is put back. c must lead to the server's Redis; it
// is not closed.
//
// Without it they travel, sealed, in the aggregated task as far as they fit into it,
// which goes to the archive for that once it has run; see Config.
func WithGroupClient(c *asynq.Client) Option {
	return func(cfg *config) error {
		if c == nil {
			return errors.New("WithGroupClient: nil client")
		}
		cfg.group = c
		return nil
	}
}

// WithLogger sets where tasks that were refused, tolerated or put off are
// reported: at most a few lines a second, with queue and id but without type name,
// payload, result or error text. The default is slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return errors.New("WithLogger: nil logger")
		}
		c.logger = l
		return nil
	}
}

// WithMeterProvider makes the package report OpenTelemetry metrics:
//
//   - sealcache.jobs.admission, tasks that reached a handler or an aggregator, by
//     sealcache.outcome (sealed, clear, refused, retried, and lost: a refused
//     member of a group that is kept nowhere) and, for refused and retried,
//     sealcache.reason
//   - sealcache.jobs.ticks, ticks of schedules by sealcache.outcome (enqueued,
//     conflict: another process was first, failed)
//
// Both carry the namespace. The default is none.
func WithMeterProvider(p metric.MeterProvider) Option {
	return func(c *config) error {
		if p == nil {
			return errors.New("WithMeterProvider: nil provider")
		}
		c.meters = p
		return nil
	}
}

func newConfig(e *jobs.Encryptor, opts []Option) (*config, error) {
	c := &config{now: time.Now, opening: groupOpening}
	var errs []error
	if e == nil {
		errs = append(errs, errors.New("nil encryptor: make one with jobs.NewEncryptor"))
	}
	for _, o := range opts {
		if o == nil {
			errs = append(errs, errors.New("nil option"))
			continue
		}
		if err := o(c); err != nil {
			errs = append(errs, err)
		}
	}
	if c.hidden && e != nil && e.Tokens() == nil {
		errs = append(errs, errors.Join(errors.New("WithHiddenTypes"), jobs.ErrNoPRF))
	}
	if c.logger == nil {
		c.logger = slog.Default()
	}
	return c, errors.Join(errs...)
}

// tolerant tells whether clear tasks pass at this moment.
func (c *config) tolerant() bool { return !c.until.IsZero() && c.now().Before(c.until) }
