// Package early stops slow hooks of fx (go.uber.org/fx) shortly before the timeout of fx. An application has two timeouts:
// one for all OnStart hooks together, and one for all OnStop hooks together.
//
// If an OnStart hook still runs at the timeout, fx drops the error of the hook, which would name the cause. If an OnStop
// hook still runs then, fx does not call the remaining hooks. So a hook should end before the timeout.
//
// [WithDeadline] returns a context that ends shortly before the timeout. A hook passes this context to the functions that it
// calls. [Do] calls a function that takes no context. If the function still runs shortly before the timeout, Do returns an
// error.
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
		return fmt.Errorf("%s: the step took longer than fx.StopTimeout allows: %w", action, ctx.Err())
	}
}
