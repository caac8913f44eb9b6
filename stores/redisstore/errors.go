package redisstore

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/sealcache/sealcache/internal/rediserr"
)

// opError names the operation that failed. Its text is the text of the cause, without quotations of keys and values.
// errors.Is and errors.As find the cause.
type opError struct {
	op    string
	cause error
	ctx   error // the context's error, if it has ended and is not the cause
}

// failed wraps an error with the operation that it ended. It returns nil for nil.
func failed(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	return &opError{op: op, cause: err, ctx: ended(ctx, err)}
}

// ended returns the error of a context that has ended, unless err has it. go-redis turns the deadline of a context into one
// of the connection. Its "i/o timeout" may come shortly before the context ends.
func ended(ctx context.Context, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if deadline, ok := ctx.Deadline(); ok && errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

func (e *opError) Error() string {
	text := rediserr.Text(e.cause)
	if rediserr.Code(e.cause) == "WRONGTYPE" {
		text = "WRONGTYPE, the Redis key of the entry or of a tag has another type (use another name, or delete the key)"
	}
	if e.ctx != nil {
		text = e.ctx.Error() + ": " + text
	}
	return "redisstore: " + e.op + ": " + text
}

func (e *opError) Unwrap() []error {
	if e.ctx != nil {
		return []error{e.cause, e.ctx}
	}
	return []error{e.cause}
}
