package asynqjobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"
)

// Job is a kind of job with arguments of type T: one definition that those who
// enqueue it and those who process it share. Arguments travel as JSON, sealed.
type Job[T any] struct {
	typename string
	opts     []asynq.Option
}

// Define defines a job. typename is the asynq type; opts apply to every task of
// it, before those of a single call. A name that is empty is an error when the job
// is first used.
func Define[T any](typename string, opts ...asynq.Option) *Job[T] {
	return &Job[T]{typename: typename, opts: slices.Clone(opts)}
}

// Type is the asynq type.
func (j *Job[T]) Type() string { return j.typename }

// Delay enqueues the job to be run now.
func (j *Job[T]) Delay(ctx context.Context, c *Client, args T, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	if c == nil {
		return nil, errors.New("asynqjobs: nil client")
	}
	t, err := j.task(args)
	if err != nil {
		return nil, err
	}
	return c.EnqueueContext(ctx, t, slices.Concat(j.opts, opts)...)
}

// EnqueueAt enqueues the job to be run at a time, to the second. A time in the
// past is now.
func (j *Job[T]) EnqueueAt(ctx context.Context, c *Client, at time.Time, args T, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	return j.Delay(ctx, c, args, append(slices.Clone(opts), asynq.ProcessAt(at))...)
}

// EnqueueIn enqueues the job to be run after d. Zero or less is now.
func (j *Job[T]) EnqueueIn(ctx context.Context, c *Client, d time.Duration, args T, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	return j.Delay(ctx, c, args, append(slices.Clone(opts), asynq.ProcessIn(d))...)
}

// ScheduleOnce registers the job to be run periodically, once under name however
// many processes call it and however often; see Scheduler.ScheduleOnce.
func (j *Job[T]) ScheduleOnce(ctx context.Context, s *Scheduler, name string, when Schedule, args T, opts ...asynq.Option) (changed bool, err error) {
	if s == nil {
		return false, errors.New("asynqjobs: nil scheduler")
	}
	t, err := j.task(args)
	if err != nil {
		return false, err
	}
	return s.ScheduleOnce(ctx, name, when, t, slices.Concat(j.opts, opts)...)
}

// Handle registers h for the job. Arguments that are not JSON of a T archive the
// task at once. As asynq's mux routes by prefix, a task of a longer type name for
// which there is no handler may come here; it is refused as asynq refuses what has
// no handler.
func (j *Job[T]) Handle(mux *asynq.ServeMux, h func(ctx context.Context, args T) error) {
	mux.HandleFunc(j.typename, func(ctx context.Context, t *asynq.Task) error {
		if t.Type() != j.typename {
			return asynq.NotFound(ctx, t)
		}
		var args T
		if err := json.Unmarshal(t.Payload(), &args); err != nil {
			return fmt.Errorf("asynqjobs: arguments of job %q: %w: %w", j.typename, err, asynq.SkipRetry)
		}
		return h(ctx, args)
	})
}

func (j *Job[T]) task(args T) (*asynq.Task, error) {
	b, err := json.Marshal(args)
	if err != nil {
		// The text of a json error may quote the value.
		return nil, fmt.Errorf("asynqjobs: arguments of a job of type %T are not JSON", args)
	}
	return asynq.NewTask(j.typename, b), nil
}
