package aead

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// kekTimeout bounds every call to the KEK.
	kekTimeout = backgroundTimeout
	// kekGrace is how long a call may continue after its context has ended. A KEK that respects its context can
	// then report why it had not answered. After it, the call is abandoned.
	kekGrace = 100 * time.Millisecond
)

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

// callKEK calls the KEK and waits for its answer as long as ctx allows. It calls release when the call has returned. The answer
// of an abandoned call is cleared.
func callKEK(ctx context.Context, release func(), call func() ([]byte, error)) ([]byte, error) {
	a, ok := callAbandonably(ctx, "implementation of the key-encryption key or of the Source", release, func(late []byte) { clear(late) }, call)
	if !ok {
		return nil, ended(ctx)
	}
	return a.out, answered(ctx, a.err)
}

// answer is what a call returned.
type answer[T any] struct {
	out T
	err error
}

// callAbandonably makes a call to callee, and waits for its answer as long as ctx allows and kekGrace longer. It calls release
// when the call has returned. ok is false if the call was abandoned.
//
// The call runs in a separate goroutine, because some clients of key services ignore their context. Neither callers nor
// Close wait for an abandoned call, and discard gets its answer. It keeps its slot until it returns, so that the number of
// abandoned calls is bounded.
//
// A panic of the client, or of a method of its error, would end the process, so it becomes an error. Its value is not shown,
// because it may hold a secret.
func callAbandonably[T any](ctx context.Context, callee string, release func(), discard func(T), call func() (T, error)) (a answer[T], ok bool) {
	answers, abandoned := make(chan answer[T]), make(chan struct{})
	go func() {
		a := answer[T]{err: fmt.Errorf("aead: the %s called runtime.Goexit", callee)}
		defer func() {
			if p := recover(); p != nil {
				a = answer[T]{err: fmt.Errorf("aead: the %s panicked with a value of type %T", callee, p)}
			}
			release()
			select {
			case answers <- a:
			case <-abandoned:
				discard(a.out)
			}
		}()
		a.out, a.err = call()
		if a.err != nil { // the methods of a nil pointer panic
			_ = a.err.Error()
			_ = errors.Is(a.err, errNoAnswer)
		}
	}()
	select {
	case a := <-answers:
		return a, true
	case <-ctx.Done():
	}
	grace := time.NewTimer(kekGrace)
	defer grace.Stop()
	select {
	case a := <-answers:
		return a, true
	case <-grace.C:
		close(abandoned)
		return answer[T]{}, false
	}
}

// closeKEK closes a KEK of the application, and does not wait for it longer than for a call. Its callers are goroutines without a
// caller, where a panic would end the process.
func closeKEK(c io.Closer) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), kekTimeout, errNoAnswer)
	defer cancel()
	a, ok := callAbandonably(ctx, "Close method of the key-encryption key", func() {}, func(struct{}) {}, func() (struct{}, error) {
		return struct{}{}, c.Close()
	})
	if !ok {
		return fmt.Errorf("aead: close the key-encryption key: %w", ended(ctx))
	}
	return a.err
}

// answered returns the KEK's error without this package's deadline, and with the cause of the caller's context.
func answered(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	switch cause := context.Cause(ctx); {
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

func (e *lateError) Error() string { return errNoAnswer.Error() + ": " + withoutPrefix(e.err).Error() }

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
	err, cause := ctx.Err(), context.Cause(ctx)
	switch {
	case errors.Is(cause, errNoAnswer):
		return errNoAnswer
	case errors.Is(cause, err):
		return cause
	}
	return fmt.Errorf("%w (cause: %w)", err, cause)
}
