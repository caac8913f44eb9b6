package asynqjobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/jobs"
)

// Client enqueues tasks sealed. It has the methods of asynq.Client.
type Client struct {
	c      *asynq.Client
	e      *jobs.Encryptor
	cfg    *config
	sealer *sealer
	tel    *telemetry
}

// NewClient returns a Client that enqueues with c what it seals with e. It
// does not call Redis or the key service.
func NewClient(c *asynq.Client, e *jobs.Encryptor, opts ...Option) (*Client, error) {
	if c == nil {
		return nil, errors.New("asynqjobs: NewClient: nil asynq client")
	}
	cfg, err := newConfig(e, opts)
	if err != nil {
		return nil, fmt.Errorf("asynqjobs: NewClient: %w", err)
	}
	if err := proveBakedOptions(); err != nil {
		return nil, err
	}
	tel, err := newTelemetry(e, cfg)
	if err != nil {
		return nil, fmt.Errorf("asynqjobs: NewClient: %w", err)
	}
	return &Client{c: c, e: e, cfg: cfg, sealer: &sealer{e: e, hidden: cfg.hidden}, tel: tel}, nil
}

// Enqueue is EnqueueContext with context.Background.
func (c *Client) Enqueue(t *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	return c.EnqueueContext(context.Background(), t, opts...)
}

// EnqueueContext enqueues t sealed. It takes the options of asynq, those that t
// was made with included, and means by them what asynq does; t is not changed. The
// TaskInfo that it returns describes the task in clear.
//
// Unique needs jobs.WithPRF: what asynq compares is then a keyed token of type,
// queue and payload, which tells whether two tasks are the same and nothing else.
//
// Errors: asynq.ErrDuplicateTask, asynq.ErrTaskIDConflict, jobs.ErrTooLarge,
// jobs.ErrKeyServiceUnavailable, jobs.ErrNoPRF, those of ctx and of Redis. After an
// error nothing was enqueued, unless the connection broke before Redis answered.
func (c *Client) EnqueueContext(ctx context.Context, t *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error) {
	sealed, all, err := c.sealer.seal(ctx, t, opts, frame{}, false)
	if err != nil {
		return nil, err
	}
	info, err := c.c.EnqueueContext(ctx, sealed, all...)
	if err != nil {
		return nil, err
	}
	info.Type, info.Payload, info.Headers = t.Type(), t.Payload(), t.Headers()
	// asynq has copied it into its own message. After an error it might still be in use.
	c.sealer.release(sealed)
	return info, nil
}

// OpenResult returns the result that the handler gave to WriteResult, or nil if
// there is none (yet). info is the Inspector's. Errors are those of
// jobs.Encryptor.Open; with WithClearUntil, until then, a result in clear is
// returned as it is.
func (c *Client) OpenResult(ctx context.Context, info *asynq.TaskInfo) ([]byte, error) {
	b, err := OpenResult(ctx, c.e, info)
	if errors.Is(err, jobs.ErrNotSealed) && c.cfg.tolerant() {
		return info.Result, nil
	}
	return b, err
}

// Ping asks whether Redis answers.
func (c *Client) Ping() error { return c.c.Ping() }

// Close closes the asynq client, which refuses if it was made from a Redis client
// that belongs to the application.
func (c *Client) Close() error { return c.c.Close() }

// String says what the Client is, and nothing of its keys.
func (c *Client) String() string { return "asynqjobs.Client(" + c.e.String() + ")" }

// GoString is String.
func (c *Client) GoString() string { return c.String() }

// LogValue is String.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.String()) }
