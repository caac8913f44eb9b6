package asynqjobs

import (
	"context"
	"errors"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/jobs"
)

// delivery holds what WriteResult, HeadersOf and TickOf need from the task that is being processed.
type delivery struct {
	e         *jobs.Encryptor
	at        identity
	typename  string // as Redis has it
	writer    *asynq.ResultWriter
	plaintext bool // of a plaintext task, with jobs.WritePlaintext
	headers   map[string]string
	tick      *Tick // nil: the task is not a tick
}

type deliveryKey struct{}

// WriteResult seals result and stores it as the result of the task that is being processed. ctx is the handler's. Redis keeps
// the result for as long as asynq.Retention says; Client.OpenResult reads it. A later call replaces the result of an earlier
// one.
func WriteResult(ctx context.Context, result []byte) error {
	d, ok := ctx.Value(deliveryKey{}).(*delivery)
	if !ok || d.writer == nil {
		return errors.New("asynqjobs: WriteResult: ctx is not the context that asynqjobs.Handler passes to a handler")
	}
	if !d.plaintext {
		m := jobs.Meta{Kind: jobs.Result, Type: d.typename, Queue: d.at.queue, ID: d.at.id}
		sealed, err := d.e.Seal(ctx, m, result)
		if err != nil {
			return within("WriteResult", err)
		}
		result = sealed
	}
	if _, err := d.writer.Write(result); err != nil {
		return redisError(err)
	}
	return nil
}

// A Result is a kind of result of type R. The handler that writes it and the code that reads it share one definition.
type Result[R any] struct{ codec Codec[R] }

// DefineResult defines a result with a codec. Without one, results are encoded as JSON. A codec that holds a nil pointer
// is an ErrCodec when the result is used.
func DefineResult[R any](codec Codec[R]) *Result[R] {
	if codec == nil {
		codec = JSON[R]()
	}
	return &Result[R]{codec}
}

// Write is WriteResult for a value.
func (r *Result[R]) Write(ctx context.Context, value R) error {
	b, err := encode(r.codec, value)
	if err != nil {
		return err
	}
	return WriteResult(ctx, b)
}

// Read returns the result of the task that info describes, and reports whether there is one. Errors are those of
// Client.OpenResult and ErrCodec.
func (r *Result[R]) Read(ctx context.Context, c *Client, info *asynq.TaskInfo) (value R, found bool, err error) {
	if c == nil {
		return value, false, errors.New("asynqjobs: Result.Read: the client is nil")
	}
	if info != nil && len(info.Result) == 0 {
		return value, false, nil
	}
	b, err := c.OpenResult(ctx, info)
	if err != nil {
		return value, false, err
	}
	value, err = decode(r.codec, b)
	return value, err == nil, err
}
