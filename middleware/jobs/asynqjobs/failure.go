package asynqjobs

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

const (
	// maxFailureBytes bounds an error text. asynq keeps it in the task, where a long stack trace is of no use.
	maxFailureBytes = 32 << 10
	// failureTimeout bounds the sealing of an error text. The task's own context may have ended, which may be the error.
	failureTimeout = 5 * time.Second
)

// failure is an error of a handler, with its text sealed. errors.Is and errors.As see the original error.
type failure struct {
	text  string
	cause error
	task  *asynq.Task // opened
}

func (f *failure) Error() string    { return f.text }
func (f *failure) GoString() string { return f.text }
func (f *failure) Unwrap() error    { return f.cause }

// panicked replaces the value of a handler's panic. asynq makes an error text of it.
type panicked struct{ text string }

func (p panicked) String() string   { return p.text }
func (p panicked) GoString() string { return p.text }

// sealFailure returns the text that asynq may store for an error text of the task at.
func sealFailure(ctx context.Context, e *jobs.Encryptor, typename string, at identity, text string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), failureTimeout)
	defer cancel()
	sealed, err := e.Seal(ctx, failureMeta(typename, at), []byte(asynqwire.Shorten(text, maxFailureBytes)))
	if err != nil {
		return asynqwire.WithheldFailure(asynqwire.Code(refusal(err).Reason))
	}
	return asynqwire.SealedFailureText(sealed)
}

// openFailure is the inverse of sealFailure. It keeps text before the sealed part, except the source position of a panic,
// which the sealed text repeats.
func openFailure(ctx context.Context, e *jobs.Encryptor, typename string, at identity, text string) (string, error) {
	before, sealed, ok := asynqwire.CutSealedFailure(text)
	if !ok {
		return text, nil
	}
	if sealed == nil {
		return "", fmt.Errorf("asynqjobs: decrypt the error text of a task: %w: its sealed part is malformed", jobs.ErrUnauthentic)
	}
	b, err := e.Open(ctx, failureMeta(typename, at), sealed)
	if err != nil {
		return "", within("decrypt the error text of a task", err)
	}
	if strings.HasPrefix(string(b), "panic") {
		before = asynqwire.CutPanic(before)
	}
	return before + string(b), nil
}

func failureMeta(typename string, at identity) jobs.Meta {
	return jobs.Meta{Kind: jobs.Failure, Type: typename, Queue: at.queue, ID: at.id}
}

// describePanic returns the text of a panic with its position in the source. Call it from the deferred function that
// recovered.
func describePanic(x any) string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	seen := false
	for {
		f, more := frames.Next()
		inRuntime := strings.HasPrefix(f.Function, "runtime.")
		if seen && !inRuntime {
			return fmt.Sprintf("panic [%s:%d]: %v", f.File, f.Line, x)
		}
		seen = seen || inRuntime // runtime.gopanic, or the function that raised the panic
		if !more {
			return fmt.Sprintf("panic: %v", x)
		}
	}
}
