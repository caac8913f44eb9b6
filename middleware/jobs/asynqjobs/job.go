package asynqjobs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hibiken/asynq"
)

// Job is a kind of job with arguments of type T. The code that enqueues the job and the code that processes it share one
// definition. Arguments are encoded by the job's codec and sealed.
//
//	var Welcome = asynqjobs.Define[WelcomeArgs]("mail:welcome", asynq.MaxRetry(5))
//
//	info, err := Welcome.Delay(ctx, client, WelcomeArgs{User: 42})
//	Welcome.Handle(mux, func(ctx context.Context, args WelcomeArgs) error { ... })
//	args, err := Welcome.Args(ctx, client, info) // of an archived task
type Job[T any] struct {
	typename string
	codec    Codec[T]
	opts     []asynq.Option
}

// Define defines a job whose arguments are encoded as JSON. typename is the asynq type. opts apply to every task of the job,
// before those of a single call. An empty name, and an option that this release does not know, are errors when the job is
// used.
func Define[T any](typename string, opts ...asynq.Option) *Job[T] {
	return DefineWith(typename, JSON[T](), opts...)
}

// DefineWith is Define with a codec. A nil codec is JSON. A codec that holds a nil pointer is an ErrCodec when the
// job is used.
func DefineWith[T any](typename string, codec Codec[T], opts ...asynq.Option) *Job[T] {
	if codec == nil {
		codec = JSON[T]()
	}
	return &Job[T]{typename: typename, codec: codec, opts: slices.Clone(opts)}
}

// Type returns the asynq type.
func (j *Job[T]) Type() string { return j.typename }

// Delay enqueues the job to run now.
func (j *Job[T]) Delay(ctx context.Context, c *Client, args T, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	if c == nil {
		return nil, errors.New("asynqjobs: Delay: the client is nil")
	}
	t, err := j.NewTask(args, nil, opts...)
	if err != nil {
		return nil, err
	}
	return c.EnqueueContext(ctx, t)
}

// DelayMany enqueues the job once for each of args, as Client.EnqueueMany does. The infos and the indices of a *BatchError are in
// the order of args. Arguments that the codec does not encode are an error, and then nothing was sent.
func (j *Job[T]) DelayMany(ctx context.Context, c *Client, args []T, opts ...asynq.Option) ([]*asynq.TaskInfo, error) {
	if c == nil {
		return nil, errors.New("asynqjobs: DelayMany: the client is nil")
	}
	tasks := make([]*asynq.Task, len(args))
	for i, a := range args {
		b, err := encode(j.codec, a)
		if err != nil {
			return nil, err
		}
		tasks[i] = asynq.NewTask(j.typename, b)
	}
	return c.EnqueueMany(ctx, tasks, slices.Concat(j.opts, opts)...)
}

// EnqueueAt enqueues the job to run at a time, to the second. A time in the past is now.
func (j *Job[T]) EnqueueAt(ctx context.Context, c *Client, at time.Time, args T, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	return j.Delay(ctx, c, args, append(slices.Clone(opts), asynq.ProcessAt(at))...)
}

// EnqueueIn enqueues the job to run after d. Zero or less is now.
func (j *Job[T]) EnqueueIn(ctx context.Context, c *Client, d time.Duration, args T, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	return j.Delay(ctx, c, args, append(slices.Clone(opts), asynq.ProcessIn(d))...)
}

// ScheduleOnce registers the job to run periodically. It is registered once under name, however many processes call it; see
// Scheduler.ScheduleOnce.
func (j *Job[T]) ScheduleOnce(ctx context.Context, s *Scheduler, name string, when Schedule, args T, opts ...asynq.Option) (changed bool, err error) {
	if s == nil {
		return false, errors.New("asynqjobs: ScheduleOnce: the scheduler is nil")
	}
	t, err := j.NewTask(args, nil, opts...)
	if err != nil {
		return false, err
	}
	return s.ScheduleOnce(ctx, name, when, t)
}

// Handle registers h for the job. Arguments that the codec does not decode archive the task at once. asynq's mux routes by
// prefix: a task with a longer type name and no handler may come here. It is refused as asynq refuses a task that
// has no handler.
func (j *Job[T]) Handle(mux *asynq.ServeMux, h func(ctx context.Context, args T) error) {
	mux.HandleFunc(j.typename, func(ctx context.Context, t *asynq.Task) error {
		if t.Type() != j.typename {
			return asynq.NotFound(ctx, t)
		}
		args, err := decode(j.codec, t.Payload())
		if err != nil {
			return fmt.Errorf("%w: %w", err, asynq.SkipRetry)
		}
		return h(ctx, args)
	})
}

// Args returns the arguments of the job's task that info describes, for example of an archived one. info comes from an
// asynq.Inspector. A task of another type is an error. Other errors are those of OpenTask and ErrCodec.
func (j *Job[T]) Args(ctx context.Context, c *Client, info *asynq.TaskInfo) (args T, err error) {
	if c == nil {
		return args, errors.New("asynqjobs: Args: the client is nil")
	}
	t, err := c.openTask(ctx, info)
	if err != nil {
		return args, err
	}
	if t.Type() != j.typename {
		return args, fmt.Errorf("asynqjobs: Args: the task has another type than the job %q", j.typename)
	}
	return decode(j.codec, t.Payload())
}

// NewTask returns a task of the job that is not enqueued yet, with the options of the definition and then opts. Give it to
// Client.EnqueueContext or Client.EnqueueMany, or declare it in a PeriodicTask for Scheduler.Sync. headers may be nil. They are
// sealed; the handler reads them with HeadersOf.
func (j *Job[T]) NewTask(args T, headers map[string]string, opts ...asynq.Option) (*asynq.Task, error) {
	b, err := encode(j.codec, args)
	if err != nil {
		return nil, err
	}
	return asynq.NewTaskWithHeaders(j.typename, b, headers, slices.Concat(j.opts, opts)...), nil
}

// HeadersOf returns the headers of the task that a handler processes, as Task.Headers does. The handler of a typed job does not
// get the task. ctx is the handler's. The map is the caller's own, and nil if there are no headers.
func HeadersOf(ctx context.Context) map[string]string {
	d, ok := ctx.Value(deliveryKey{}).(*delivery)
	if !ok || len(d.headers) == 0 {
		return nil
	}
	return maps.Clone(d.headers)
}
