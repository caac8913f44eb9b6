package redisstore

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/sealcache/sealcache/internal/rediserr"
)

// opError says which operation failed. Its text is that of the cause without what might quote a key or a value; the cause
// itself is for errors.Is and errors.As.
type opError struct {
	op    string
	cause error
	ctx   error // that of the context, if it has ended and the cause does not say so
}

// failed wraps an error with the operation that it ended; nil stays nil.
func failed(ctx context.Context, op string, err error) error {
	if err == nil {
		return nil
	}
	return &opError{op: op, cause: err, ctx: ended(ctx, err)}
}

// ended is the error of a context that has ended. go-redis turns a context's deadline into one of the connection, and
// reports "i/o timeout", which may come a moment before the context itself notices.
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

// marshalError is a BinaryMarshaler's refusal; its own text may quote the value.
type marshalError struct {
	kind  string
	cause error
}

func (e *marshalError) Error() string { return "MarshalBinary of " + e.kind + " failed" }

func (e *marshalError) Unwrap() error { return e.cause }
