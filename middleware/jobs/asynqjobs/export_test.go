package asynqjobs

import (
	"context"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// ReadSchedules is the digest of the script that reads all schedules.
var ReadSchedules = redis.NewScript(readScript).Hash()

// WithNow sets the clock of dates.
func WithNow(now func() time.Time) Option {
	return func(c *config) error {
		c.now = now
		return nil
	}
}

// WithGroupOpening bounds the opening of a group.
func WithGroupOpening(d time.Duration) Option {
	return func(c *config) error {
		c.opening = d
		return nil
	}
}

// WithQueueCheckGrace sets the time that a queue without a server has.
func WithQueueCheckGrace(d time.Duration) Option {
	return func(c *config) error {
		c.grace = d
		return nil
	}
}

// WithHeldUp bounds the age of the last ticks that a scheduler goes by.
func WithHeldUp(d time.Duration) SchedulerOption {
	return func(s *schedulerConfig) error {
		s.heldUp = d
		return nil
	}
}

// WithOpeningTime sets how long a call may open schedules.
func WithOpeningTime(d time.Duration) SchedulerOption {
	return func(s *schedulerConfig) error {
		s.scanFor, s.listFor = d, d
		return nil
	}
}

// WithPoll sets how often a running scheduler asks Redis for changes.
func WithPoll(d time.Duration) SchedulerOption {
	return func(s *schedulerConfig) error {
		s.poll = d
		return nil
	}
}

// Settle does what Run does, until everything that is stored has been opened and what
// is due has been enqueued, and looks once more.
func (s *Scheduler) Settle(ctx context.Context) {
	r := s.newRun()
	for range 3 {
		r.pass(ctx)
		r.background.Wait()
		select {
		case <-r.opened:
			r.endOpening()
		default:
		}
	}
}

// Steps returns a function that does one pass of one run of the Scheduler, and waits
// for what it opens in the background.
func (s *Scheduler) Steps(ctx context.Context) (step func()) {
	r := s.newRun()
	return func() {
		for range 2 {
			r.pass(ctx)
			r.background.Wait()
			select {
			case <-r.opened:
				r.endOpening()
			default:
			}
		}
	}
}

// ErrRewritten is the cause of ReasonRewritten.
var ErrRewritten = asynqwire.ErrRewritten

// HeldMember returns the member of a group that a task holds, or nil.
func HeldMember(t testing.TB, e *jobs.Encryptor, info *asynq.TaskInfo) *asynq.Task {
	t.Helper()
	o, err := openInfo(t.Context(), e, info)
	require.NoError(t, err)
	if o.held == nil {
		return nil
	}
	return asynq.NewTaskWithHeaders(o.held.typename, o.held.payload, o.held.headers)
}

// TraceOf returns the W3C trace context that was sealed with a task.
func TraceOf(t testing.TB, e *jobs.Encryptor, info *asynq.TaskInfo) map[string]string {
	t.Helper()
	o, err := openInfo(t.Context(), e, info)
	require.NoError(t, err)
	return o.trace
}
