package asynqjobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/rediserr"
)

// WithPipeline has Client.EnqueueMany send its tasks in pipelines over rdb. asynq hides the Redis client of an asynq.Client,
// so rdb must lead to the same Redis and database. It is not closed, and is not a *redis.Ring. A caller that makes the asynq.Client with
// asynq.NewClientFromRedisClient gives the same client to both. Only NewClient uses the option.
func WithPipeline(rdb redis.UniversalClient) Option {
	return func(c *config) error {
		if nilcheck.IsNil(rdb) {
			return errors.New("WithPipeline: the Redis client is nil")
		}
		if isRing(rdb) {
			return fmt.Errorf("WithPipeline: %w", errRing)
		}
		c.pipeline = rdb
		return nil
	}
}

// ErrUnknownOutcome is the error of a task of EnqueueMany that was sent and for which Redis did not reply. The task may be
// enqueued. Enqueueing it again is safe if it has an id by asynq.TaskID: asynq.ErrTaskIDConflict then says that
// it was.
var ErrUnknownOutcome = errors.New("asynqjobs: enqueue: Redis did not confirm the task, which may exist (retry only if it has a TaskID)")

const (
	// pipelinedTasks and pipelinedBytes bound a pipeline, and with it the memory of EnqueueMany.
	pipelinedTasks = 1000
	pipelinedBytes = 4 << 20
)

// EnqueueMany seals tasks and enqueues them, each as EnqueueContext does, in their order. opts apply to every task, after
// the options that asynq.NewTask got. A TaskID among opts is an error. The infos are in the order of the tasks, and
// nil for each task that failed. EnqueueMany is not a transaction: a *BatchError lists the tasks that failed, and all others
// are enqueued. Any other error is about opts, and then nothing was sent.
//
// With WithPipeline, a thousand tasks or 4 MiB at a time make one round trip; in a Cluster, one to each node. The first task
// of a queue makes one more, as with asynq. Each task is sent once: none runs twice because a connection broke. If Redis did
// not reply, the error of a task is ErrUnknownOutcome. Once ctx ends, no further tasks are sent. A client with
// redis.Options.ContextTimeoutEnabled also stops waiting for a reply at the deadline of ctx.
//
// Without WithPipeline, EnqueueMany calls EnqueueContext for one task after the other.
func (c *Client) EnqueueMany(ctx context.Context, tasks []*asynq.Task, opts ...asynq.Option) ([]*asynq.TaskInfo, error) {
	common, err := parseOptions(opts)
	if err != nil {
		return nil, err
	}
	if common.hasID {
		return nil, errors.New("asynqjobs: EnqueueMany: one TaskID cannot apply to many tasks (give each task its own)")
	}
	b := &taskBatch{c: c, infos: make([]*asynq.TaskInfo, len(tasks))}
	for i, t := range tasks {
		if err := ctx.Err(); err != nil {
			b.finish(i, nil, err)
			continue
		}
		if c.pipelined == nil {
			info, err := c.enqueueTask(ctx, t, opts, nil)
			b.finish(i, info, err)
			continue
		}
		b.add(ctx, i, t, opts)
		if len(b.sending) == pipelinedTasks || b.bytes >= pipelinedBytes {
			b.send(ctx)
		}
	}
	b.send(ctx)
	return b.infos, b.err()
}

// taskBatch is one call of EnqueueMany.
type taskBatch struct {
	c       *Client
	infos   []*asynq.TaskInfo
	errs    map[int]error
	record  recording
	sending []recordedTask
	bytes   int // of the commands in sending
}

// recordedTask is a sealed task that waits for its pipeline.
type recordedTask struct {
	index int
	info  *asynq.TaskInfo // if it succeeds
	call  *scriptCall
	span  trace.Span
}

// add seals a task and has asynq record its command.
func (b *taskBatch) add(ctx context.Context, i int, t *asynq.Task, opts []asynq.Option) {
	ctx, span := b.c.tel.startEnqueue(ctx)
	info, err := b.c.enqueueOver(b.record.in(ctx), b.c.pipelined, t, opts, nil)
	call := b.record.take()
	if err != nil || call == nil { // nil: asynq has enqueued the task by a command of another kind
		b.c.enqueued(ctx, span, info, err)
		b.finish(i, info, err)
		return
	}
	b.sending = append(b.sending, recordedTask{index: i, info: info, call: call, span: span})
	b.bytes += call.bytes()
}

// send sends the recorded commands and reads their replies.
func (b *taskBatch) send(ctx context.Context) {
	ended := ctx.Err()
	if ended == nil {
		calls := make([]*scriptCall, len(b.sending))
		for i, t := range b.sending {
			calls[i] = t.call
		}
		sendScripts(ctx, b.c.cfg.pipeline, calls)
	}
	for _, t := range b.sending {
		info, err := t.info, ended
		if err == nil {
			err = t.call.outcome()
		}
		if err != nil {
			info = nil
		}
		b.c.enqueued(ctx, t.span, info, err)
		b.finish(t.index, info, err)
	}
	b.sending, b.bytes = b.sending[:0], 0
}

func (b *taskBatch) finish(i int, info *asynq.TaskInfo, err error) {
	b.infos[i] = info
	if err != nil {
		if b.errs == nil {
			b.errs = make(map[int]error)
		}
		b.errs[i] = err
	}
}

func (b *taskBatch) err() error {
	if len(b.errs) == 0 {
		return nil
	}
	return &BatchError{Errors: b.errs, tasks: len(b.infos)}
}

// outcome returns the error of a command that asynq's script answered.
func (s *scriptCall) outcome() error {
	reply, err := s.reply.Result()
	switch {
	case err == nil:
	case rediserr.IsReply(err), notSent(err):
		return redisError(err)
	default:
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, rediserr.Wrap(err))
	}
	switch reply { // of all scripts with which asynq enqueues
	case int64(1):
		return nil
	case int64(0):
		return redisError(asynq.ErrTaskIDConflict)
	case int64(-1):
		return redisError(asynq.ErrDuplicateTask)
	default:
		return fmt.Errorf("%w: the reply of Redis has the unexpected type %T", ErrUnknownOutcome, reply)
	}
}

// notSent reports whether a command failed before there was a connection.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) ||
		errors.Is(err, redis.ErrClosed)
}

// A BatchError lists the tasks of EnqueueMany that failed. errors.Is and errors.As find the error of any task. All other tasks
// are enqueued. The text counts the failures by reason and quotes the first of the other errors.
type BatchError struct {
	// Errors are the errors by the index of the task. The map is the caller's own.
	Errors map[int]error

	tasks int // of the batch
}

func (e *BatchError) Error() string {
	reasons := map[string]int{}
	var others int
	var other error // the first
	for _, i := range slices.Sorted(maps.Keys(e.Errors)) {
		switch reason := enqueueOutcome(e.Errors[i]); reason {
		case string(ReasonOther):
			others++
			other = cmp.Or(other, e.Errors[i])
		case "unknown":
			reasons["not confirmed by Redis"]++
		case "duplicate":
			reasons["duplicate of a unique task"]++
		case "conflict":
			reasons["TaskID in use"]++
		default:
			reasons[strings.ReplaceAll(reason, "_", " ")]++
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "asynqjobs: EnqueueMany: %d of %d tasks failed (see BatchError.Errors)", len(e.Errors), e.tasks)
	separator := ": "
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		fmt.Fprintf(&text, "%s%s (%d)", separator, reason, reasons[reason])
		separator = ", "
	}
	if others > 0 {
		fmt.Fprintf(&text, "%sother errors (%d, the first: %s)", separator, others, strings.TrimPrefix(other.Error(), "asynqjobs: "))
	}
	return text.String()
}

// Unwrap returns the errors in the order of the tasks.
func (e *BatchError) Unwrap() []error {
	errs := make([]error, 0, len(e.Errors))
	for _, i := range slices.Sorted(maps.Keys(e.Errors)) {
		errs = append(errs, e.Errors[i])
	}
	return errs
}

// LogValue returns Error.
func (e *BatchError) LogValue() slog.Value { return slog.StringValue(e.Error()) }
