package asynqjobs

import (
	"context"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/jobs"
)

// sealedText starts the sealed text of an error: base64 follows, to the end. asynq
// stores error texts as UTF-8.
const sealedText = "sealcache:sealed:"

const (
	// maxFailureBytes bounds the text of an error: asynq keeps it in the task, and
	// a hundred kilobytes of stack trace are of no use there.
	maxFailureBytes = 32 << 10
	// failureTimeout bounds the sealing of an error's text: the task's own context
	// may have ended, which may be the very error.
	failureTimeout = 5 * time.Second
)

// failure is an error of a handler whose text is sealed. To errors.Is and
// errors.As it is still what it was.
type failure struct {
	text  string
	cause error
	task  *asynq.Task // opened
}

func (f *failure) Error() string    { return f.text }
func (f *failure) GoString() string { return f.text }
func (f *failure) Unwrap() error    { return f.cause }

// panicked is what a handler panics with again. asynq makes an error text of it.
type panicked struct{ text string }

func (p panicked) String() string   { return p.text }
func (p panicked) GoString() string { return p.text }

// sealFailure returns text sealed for the task at p, as asynq may store it.
func sealFailure(ctx context.Context, e *jobs.Encryptor, typename string, p place, text string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), failureTimeout)
	defer cancel()
	m := jobs.Meta{Kind: jobs.Failure, Type: typename, Queue: p.queue, ID: p.id}
	sealed, err := e.Seal(ctx, m, []byte(shortened(text)))
	if err != nil {
		return "sealcache: error text withheld: it could not be sealed: " + string(refusal(err).Reason)
	}
	return sealedText + base64.RawStdEncoding.EncodeToString(sealed)
}

// cutPanic cuts out what asynq says in clear of a panic: where this package panicked
// again. What is left reads as asynq's error would have without this package, for the
// text that follows begins with the place where the application did.
func cutPanic(text string) string {
	const cause, start, end = "panic error cause by: ", "panic [", "]: "
	rest, ok := strings.CutPrefix(text, cause)
	if !strings.HasPrefix(rest, start) {
		return text
	}
	_, rest, found := strings.Cut(rest, end)
	switch {
	case !found:
		return text
	case ok:
		return cause + rest
	default:
		return rest
	}
}

// openFailure is the inverse. What stands before the sealed text stays, but for the
// place of a panic of which the text tells itself.
func openFailure(ctx context.Context, e *jobs.Encryptor, typename string, p place, text string) (string, error) {
	i := strings.Index(text, sealedText)
	if i < 0 {
		return text, nil
	}
	sealed, err := base64.RawStdEncoding.Strict().DecodeString(text[i+len(sealedText):])
	if err != nil {
		return "", fmt.Errorf("asynqjobs: error text: %w: not base64", jobs.ErrUnauthentic)
	}
	b, err := e.Open(ctx, jobs.Meta{Kind: jobs.Failure, Type: typename, Queue: p.queue, ID: p.id}, sealed)
	if err != nil {
		return "", fmt.Errorf("asynqjobs: error text: %w", err)
	}
	before := text[:i]
	if strings.HasPrefix(string(b), "panic") {
		before = cutPanic(before)
	}
	return before + string(b), nil
}

// shortened cuts text at a character.
func shortened(text string) string {
	if len(text) <= maxFailureBytes {
		return text
	}
	n := maxFailureBytes
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return fmt.Sprintf("%s... (%d bytes more)", text[:n], len(text)-n)
}

// describePanic is the text of a panic with the place where it happened. It is to
// be called from the deferred function that recovered.
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
		seen = seen || inRuntime // runtime.gopanic, or what raised it
		if !more {
			return fmt.Sprintf("panic: %v", x)
		}
	}
}
