package asynqjobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/hibiken/asynq"
	"go.opentelemetry.io/otel/trace"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// Client enqueues sealed tasks. It has the methods of asynq.Client.
type Client struct {
	c         *asynq.Client
	pipelined *asynq.Client // its commands are recorded; nil without WithPipeline
	e         *jobs.Encryptor
	cfg       *config
	sealer    *sealer
	tel       *instruments
	queues    *queueCheck // nil: not checked
}

// NewClient returns a Client that seals with e and enqueues with c. It does not call Redis or the key service.
// The Client owns c: its Close closes c.
func NewClient(c *asynq.Client, e *jobs.Encryptor, opts ...Option) (*Client, error) {
	if c == nil {
		return nil, errors.New("asynqjobs: NewClient: the asynq client is nil")
	}
	cfg, err := newConfig(e, opts)
	if err != nil {
		return nil, fmt.Errorf("asynqjobs: NewClient: %w", err)
	}
	if err := proveBakedOptions(); err != nil {
		return nil, err
	}
	tel, err := newInstruments(e, cfg)
	if err != nil {
		return nil, fmt.Errorf("asynqjobs: NewClient: %w", err)
	}
	client := &Client{
		c: c, e: e, cfg: cfg, sealer: &sealer{e: e, hidden: cfg.hidden}, tel: tel, queues: newQueueCheck(cfg, tel),
	}
	if cfg.pipeline != nil {
		client.pipelined = asynq.NewClientFromRedisClient(recordingClient{cfg.pipeline})
	}
	return client, nil
}

// Enqueue is EnqueueContext with context.Background.
func (c *Client) Enqueue(t *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	return c.EnqueueContext(context.Background(), t, opts...)
}

// EnqueueContext seals t and enqueues it. It takes the options of asynq, including those that t was made with, and they mean
// the same as in asynq. It refuses options of a type that this release does not know. It does not change t. The returned
// TaskInfo describes the plaintext task. With jobs.WritePlaintext the task is enqueued as plaintext; see WithPlaintext.
//
// Unique needs jobs.WithPRF. asynq then compares a keyed token of type, queue and payload. A reader of two tokens learns
// whether the tasks are equal, and nothing else. Sealed tasks are compared with sealed tasks, and plaintext tasks with
// plaintext tasks. During a rollout from jobs.WritePlaintext to jobs.ReadPlaintext, a waiting plaintext task and its sealed
// duplicate both run.
//
// Errors: asynq.ErrDuplicateTask, asynq.ErrTaskIDConflict, ErrAlreadySealed, jobs.ErrTooLarge, jobs.ErrKeyServiceUnavailable,
// jobs.ErrNoPRF, those of ctx and of Redis. After an error nothing was enqueued, unless the connection broke before Redis
// answered.
func (c *Client) EnqueueContext(ctx context.Context, t *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	return c.enqueueTask(ctx, t, opts, nil)
}

// enqueueTask is EnqueueContext for a task that may belong to a tick of a schedule.
func (c *Client) enqueueTask(ctx context.Context, t *asynq.Task, opts []asynq.Option, tick *Tick) (*asynq.TaskInfo, error) {
	ctx, span := c.tel.startEnqueue(ctx)
	info, err := c.enqueueOver(ctx, c.c, t, opts, tick)
	c.enqueued(ctx, span, info, err)
	return info, err
}

// enqueued reports a task that was enqueued, or why it was not.
func (c *Client) enqueued(ctx context.Context, span trace.Span, info *asynq.TaskInfo, err error) {
	outcome := "ok"
	if err != nil {
		outcome = enqueueOutcome(err)
	} else {
		c.queues.enqueued(ctx, info.Queue)
		if span != nil {
			describeTask(span, identity{queue: info.Queue, id: info.ID})
		}
	}
	c.tel.enqueues.Add(ctx, 1, outcome)
	endSpan(span, outcome)
}

// enqueueOver seals t and enqueues it with client.
func (c *Client) enqueueOver(
	ctx context.Context, client *asynq.Client, t *asynq.Task, opts []asynq.Option, tick *Tick,
) (*asynq.TaskInfo, error) {
	if c.cfg.writesPlaintext() {
		if _, _, err := checkTask(t, opts); err != nil {
			return nil, err
		}
		info, err := client.EnqueueContext(ctx, t, opts...)
		return info, redisError(err)
	}
	sealed, all, err := c.sealer.seal(ctx, t, opts, frame{trace: c.tel.traceContext(ctx, t, tick), tick: tick}, false)
	if err != nil {
		return nil, err
	}
	info, err := client.EnqueueContext(ctx, sealed, all...)
	if err != nil {
		return nil, redisError(err)
	}
	info.Type, info.Payload, info.Headers = t.Type(), t.Payload(), t.Headers()
	// asynq has copied the task into its own message. After an error the task might still be in use.
	c.sealer.release(sealed)
	return info, nil
}

// redisError returns an error of asynq without the parts that may quote a stored value or a key name.
func redisError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("asynqjobs: %w", rediserr.Wrap(err))
}

// enqueueOutcome names an error for spans and metrics.
func enqueueOutcome(err error) string {
	switch {
	case errors.Is(err, ErrUnknownOutcome):
		return "unknown"
	case errors.Is(err, asynq.ErrDuplicateTask):
		return "duplicate"
	case errors.Is(err, asynq.ErrTaskIDConflict):
		return "conflict"
	default:
		return string(refusal(err).Reason)
	}
}

// OpenResult returns the result that the handler gave to WriteResult, or nil if there is none yet. info comes from an
// asynq.Inspector. Errors are those of jobs.Encryptor.Open. While plaintext is accepted, a plaintext result is returned as it
// is.
func (c *Client) OpenResult(ctx context.Context, info *asynq.TaskInfo) ([]byte, error) {
	b, err := OpenResult(ctx, c.e, info)
	if errors.Is(err, jobs.ErrNotSealed) && c.cfg.tolerant() {
		return info.Result, nil
	}
	return b, err
}

// openTask is OpenTask. While plaintext is accepted, a plaintext task is returned as it is.
func (c *Client) openTask(ctx context.Context, info *asynq.TaskInfo) (*asynq.Task, error) {
	t, err := OpenTask(ctx, c.e, info)
	if errors.Is(err, jobs.ErrNotSealed) && c.cfg.tolerant() {
		return plaintextTask(info.Type, info.Payload, info.Headers), nil
	}
	return t, err
}

// Ping returns an error if Redis does not answer.
func (c *Client) Ping() error { return redisError(c.c.Ping()) }

// Close ends the checks of WithQueueCheck and closes the asynq client. asynq returns an error if the client was made from a
// Redis client that belongs to the application.
func (c *Client) Close() error {
	c.queues.close()
	return c.c.Close()
}

// String describes the Client without its keys.
func (c *Client) String() string { return "asynqjobs.Client(" + c.e.String() + ")" }

// GoString returns String.
func (c *Client) GoString() string { return c.String() }

// LogValue returns String.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.String()) }
