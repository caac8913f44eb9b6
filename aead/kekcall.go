package aead

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// kekTimeout bounds every call to the KEK.
	kekTimeout = backgroundTimeout
	// kekGrace is how long a call whose context has ended may take to return, so that a KEK which heeds its context
	// can say why it had not answered. After it the call is abandoned.
	kekGrace = 100 * time.Millisecond
)

// errNoAnswer is what callers are told when kekTimeout ends a call: it is our deadline, not theirs, so it must not be
// found as a context.DeadlineExceeded by those who look whether their own has passed.
var errNoAnswer = fmt.Errorf("the key service did not answer within %v", kekTimeout)

// detach returns a context with the values of a caller's. It ends with Close, and not with the caller's.
func (e *Envelope) detach(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(e.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// callContext is detach, for one call to the KEK.
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
	return fmt.Errorf("too many calls are under way: %w", ended(ctx))
}

// releaser returns what gives back one of the slots.
func releaser(slots <-chan struct{}) func() { return func() { <-slots } }

// callKEK calls the KEK and waits for its answer as long as ctx allows. The caller has taken one of slots; it is given
// back when the call returns.
//
// The call runs in a goroutine of its own, for not every client of a key service heeds its context. One that does not
// is abandoned: nobody waits for it any more, Close included, and what it returns in the end is cleared. It keeps its
// slot meanwhile, so that the number of such calls is bounded too.
//
// A panic of the client would end the process. Such clients exist; to the caller it is one more way of not answering.
// The panic's value is not passed on, it may hold anything.
func callKEK(ctx context.Context, release func(), call func() ([]byte, error)) ([]byte, error) {
	type answer struct {
		out []byte
		err error
	}
	answers, abandoned := make(chan answer), make(chan struct{})
	go func() {
		a := answer{err: errors.New("aead: the key-encryption key ended its goroutine")}
		defer func() {
			if p := recover(); p != nil {
				a = answer{err: fmt.Errorf("aead: the key-encryption key panicked (%T)", p)}
			}
			release()
			select {
			case answers <- a:
			case <-abandoned:
				clear(a.out)
			}
		}()
		a.out, a.err = call()
	}()
	select {
	case a := <-answers:
		return a.out, answered(ctx, a.err)
	case <-ctx.Done():
	}
	grace := time.NewTimer(kekGrace)
	defer grace.Stop()
	select {
	case a := <-answers:
		return a.out, answered(ctx, a.err)
	case <-grace.C:
		close(abandoned)
		return nil, ended(ctx)
	}
}

// answered hides our own deadline in what the KEK made of it, and adds the cause to what it made of a caller's context.
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
		return fmt.Errorf("%w: %w", err, cause)
	}
}

// lateError is the error of a call that our own deadline ended. The KEK's error is found in it, as far as it is not
// about that deadline; and it is no refusal, whatever else the KEK says.
type lateError struct{ err error }

func (e *lateError) Error() string { return errNoAnswer.Error() + ": " + e.err.Error() }

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

// ended says why ctx has ended: its error, and beside it the cause that whoever ended it gave.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	switch {
	case errors.Is(cause, errNoAnswer):
		return errNoAnswer
	case errors.Is(cause, err):
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
