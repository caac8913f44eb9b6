// Package early stops slow hooks of fx (go.uber.org/fx) shortly before the timeout of fx. An application has two timeouts:
// one for all OnStart hooks together, and one for all OnStop hooks together.
//
// If an OnStart hook still runs at the timeout, fx reports only the timeout. The error of the hook, which would name the
// cause, is lost. If an OnStop hook still runs then, fx does not call the remaining hooks. So a hook should end before the
// timeout.
//
// [WithDeadline] returns a context that ends shortly before the timeout. A hook passes this context to the functions that
// it calls. [Do] calls a function that takes no context. If the function still runs shortly before the timeout, Do returns
// an error, and the function continues in its goroutine.
//
// [Wait] also calls a function, and returns an error if a context ends before the function returns. [Close] closes what a
// failed hook has opened.
package early

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// WithDeadline returns a context that ends a second before ctx, or a quarter of the time left if that is less.
func WithDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(time.Second, time.Until(deadline)/4)))
}

// Close calls f, which closes what a start that failed with err has opened, and joins the two errors. If f has not returned
// before the early deadline of ctx, Close returns err, and f continues in its goroutine. A client for Sentinel does not close
// while it waits for a Sentinel.
func Close(ctx context.Context, err error, f func() error) error {
	closing := Do(ctx, "", f)
	if errors.Is(closing, errLate) {
		return err
	}
	return errors.Join(err, closing)
}

// errLate means that f has not returned in time.
var errLate = errors.New("the OnStop hook did not end before fx.StopTimeout (raise fx.StopTimeout)")

// Do calls f and returns its error, or an error that names the action if f has not returned before the early deadline of
// ctx. In the second case f continues in its goroutine.
func Do(ctx context.Context, action string, f func() error) error {
	ctx, cancel := WithDeadline(ctx)
	defer cancel()
	late, err := wait(ctx, f)
	if late {
		return fmt.Errorf("%s: %w: %w", action, errLate, err)
	}
	return err
}

// Wait calls f and returns its error, or the error of ctx if f has not returned before ctx ends. In the second case f continues
// in its goroutine.
func Wait(ctx context.Context, f func() error) error {
	_, err := wait(ctx, f)
	return err
}

// wait is Wait, and reports whether f has not returned in time.
func wait(ctx context.Context, f func() error) (late bool, err error) {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return false, err
	case <-ctx.Done():
		return true, ctx.Err()
	}
}
