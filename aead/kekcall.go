package aead

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sealcache/sealcache/internal/abandon"
	"github.com/sealcache/sealcache/internal/errtext"
)

// kekTimeout bounds every call to the KEK.
const kekTimeout = backgroundTimeout

// errNoAnswer is the error of a call that kekTimeout ended. It is not a context.DeadlineExceeded: a caller that checks for that
// error wants to know about its own deadline.
var errNoAnswer = fmt.Errorf("the key service did not answer within %v", kekTimeout)

// detach returns a context with the values of the caller's context. It ends with Close, and not with the caller.
func (e *Envelope) detach(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(e.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// callContext is detach with the deadline of one call to the KEK.
func (e *Envelope) callContext(ctx context.Context) (context.Context, context.CancelFunc) {
	detached, cancel := e.detach(ctx)
	ctx, cancelCall := context.WithTimeoutCause(detached, kekTimeout, errNoAnswer)
	return ctx, func() {
		cancelCall()
		cancel()
	}
}

// take waits for one of the slots that bound the calls of a kind.
func take(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		if ctx.Err() == nil {
			return nil
		}
		<-slots
	case <-ctx.Done():
		if len(slots) == cap(slots) {
			return fmt.Errorf("earlier calls have not ended: %w", ended(ctx))
		}
	}
	return fmt.Errorf("the context ended before the call began: %w", ended(ctx))
}

// releaser returns a function that frees one of the slots.
func releaser(slots <-chan struct{}) func() { return func() { <-slots } }

// releaseSlow returns a function that calls release when a call has returned. If the call takes longer than slow, release is
// called before, provided that something else bounds the calls.
func releaseSlow(release func(), slow time.Duration, bounded func() bool) func() {
	release = sync.OnceFunc(release)
	timer := time.AfterFunc(slow, func() {
		if bounded() {
			release()
		}
	})
	return func() {
		timer.Stop()
		release()
	}
}

// callKEK is callForeign for a KEK: some clients of key services ignore their context.
func callKEK(ctx context.Context, release func(), call func() ([]byte, error)) ([]byte, error) {
	return callForeign(ctx, "aead: the implementation of the key-encryption key", release, call)
}

// callForeign calls callee by abandon.Call. It calls release when the call has returned. The answer of an abandoned call is
// cleared.
func callForeign(ctx context.Context, callee string, release func(), call func() ([]byte, error)) ([]byte, error) {
	a, ok := abandon.Call(ctx, callee, release, func(late []byte) { clear(late) }, call)
	if !ok {
		return nil, ended(ctx)
	}
	return a.Out, answered(ctx, a.Err)
}

// closeKEK closes a KEK of the application, and does not wait for it longer than for a call. It takes only the values of ctx, not
// its end. Its callers are goroutines without a caller, where a panic would end the process.
func closeKEK(ctx context.Context, c io.Closer) error {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), kekTimeout, errNoAnswer)
	defer cancel()
	a, ok := abandon.Call(ctx, "aead: the Close method of the key-encryption key", func() {}, func(struct{}) {}, func() (struct{}, error) {
		return struct{}{}, c.Close()
	})
	if !ok {
		return fmt.Errorf("aead: close the key-encryption key: %w", ended(ctx))
	}
	return a.Err
}

// answered returns the KEK's error without this package's deadline, and with the cause of the caller's context.
func answered(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	switch cause := errtext.Guard(context.Cause(ctx)); {
	case errors.Is(cause, errNoAnswer):
		return &lateError{err}
	case errors.Is(err, cause):
		return err
	default:
		return fmt.Errorf("%w (cause: %w)", err, cause)
	}
}

// lateError is the error of a call that our own deadline ended. errors.Is finds the KEK's error in it, but neither that deadline
// nor a refusal.
type lateError struct{ err error }

// Error does not say twice that the time is over.
func (e *lateError) Error() string {
	return strings.TrimSuffix(errNoAnswer.Error()+": "+withoutPrefix(e.err).Error(), ": "+context.DeadlineExceeded.Error())
}

func (e *lateError) Is(target error) bool {
	switch target {
	case errNoAnswer:
		return true
	case context.DeadlineExceeded, ErrUnauthentic, ErrUnknownKey:
		return false
	}
	return errors.Is(e.err, target)
}

func (e *lateError) As(target any) bool { return errors.As(e.err, target) }

// ended returns why ctx has ended: its error, and its cause if that says more.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), errtext.Guard(context.Cause(ctx))
	switch {
	case errors.Is(cause, errNoAnswer):
		return errNoAnswer
	case errors.Is(cause, err):
		return cause
	}
	return fmt.Errorf("%w (cause: %w)", err, cause)
}
