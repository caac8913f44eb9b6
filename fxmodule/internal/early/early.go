// Package early gives the hooks of an application an earlier deadline than fx gives them.
//
// If a stop hook of fx does not return before fx's stop timeout, fx does not call the remaining hooks. If a start hook does
// not return before fx's start timeout, fx drops its error, which names the cause. So each hook passes the
// context of [WithDeadline] on, or calls in [Do] what ignores contexts. It then gives up shortly before the timeout.
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
