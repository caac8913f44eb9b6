// Package early stops waiting for slow start and stop hooks shortly before fx does. fx (go.uber.org/fx) calls these
// hooks of an application, and has a timeout for all start hooks and one for all stop hooks.
//
// If a start hook runs into the timeout, fx drops the error of the hook, which names the cause. If a stop hook does, fx
// does not call the remaining stop hooks.
//
// [WithDeadline] returns a context that ends shortly before the timeout. A hook passes this context to the functions
// that it calls. [Do] calls a function that takes no context, and returns an error at this time if the function still
// runs.
package early

import (
	"context"
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

// Do calls f and returns its error, or an error that names the action if f has not returned before the early deadline of
// ctx. In the second case f continues in its goroutine.
func Do(ctx context.Context, action string, f func() error) error {
	ctx, cancel := WithDeadline(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s: it took longer than fx.StopTimeout allows: %w", action, ctx.Err())
	}
}
