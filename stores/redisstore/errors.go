package redisstore

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"
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
	text := withoutData(e.cause.Error())
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

// withoutData cuts a text where what follows repeats data. "ERR unknown command 'x', with args beginning with: 'key'" is
// Redis's, for a command that was renamed or is newer; the others are go-redis's and strconv's for a reply that does
// not parse. "NOPERM ... access the 'key' key" is said by newer servers.
func withoutData(text string) string {
	for _, mark := range []string{", with args beginning with", " reply=", " verbatim string reply", ": parsing "} {
		if i := strings.Index(text, mark); i >= 0 {
			text = text[:i]
		}
	}
	if i := strings.Index(text, "NOPERM"); i >= 0 && strings.Contains(text[i:], "' key") {
		text = text[:i] + "NOPERM this user has no permissions to access that key"
	}
	return text
}

// marshalError is a BinaryMarshaler's refusal; its own text may quote the value.
type marshalError struct {
	kind  string
	cause error
}

func (e *marshalError) Error() string { return "MarshalBinary of " + e.kind + " failed" }

func (e *marshalError) Unwrap() error { return e.cause }
