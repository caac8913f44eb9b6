// Package sleep waits for a given time, or until a context ends if that is earlier: call [For]. It imports only the
// standard library.
package sleep

import (
	"context"
	"time"
)

// For returns after d, or when ctx ends. It returns the error of ctx.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return ctx.Err()
}
