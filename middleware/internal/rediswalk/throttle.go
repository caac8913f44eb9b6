package rediswalk

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Throttle bounds the load of a run on the servers. Its methods wait. It is safe for concurrent use, and a nil
// Throttle bounds nothing.
type Throttle struct {
	entries *rate.Limiter
	bytes   *rate.Limiter

	mu      sync.Mutex
	reasons map[string]bool
	open    chan struct{} // closed while there are no reasons to pause
}

// NewThrottle returns a Throttle. 0 means no limit. batch is how many entries may come at once.
func NewThrottle(entriesPerSecond, bytesPerSecond float64, batch int) *Throttle {
	t := &Throttle{
		entries: rate.NewLimiter(limit(entriesPerSecond), batch),
		bytes:   rate.NewLimiter(limit(bytesPerSecond), 1<<20),
		reasons: make(map[string]bool), open: make(chan struct{}),
	}
	close(t.open)
	return t
}

func limit(perSecond float64) rate.Limit {
	if !(perSecond > 0) { // NaN too
		return rate.Inf
	}
	return rate.Limit(perSecond)
}

// SetEntries changes the bound of entries per second. 0 means no limit.
func (t *Throttle) SetEntries(perSecond float64) { t.entries.SetLimit(limit(perSecond)) }

// Pause stops the run for a reason until Resume is called for the same reason.
func (t *Throttle) Pause(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.reasons) == 0 {
		t.open = make(chan struct{})
	}
	t.reasons[reason] = true
}

// Resume ends a Pause. It reports whether the run was paused for this reason.
func (t *Throttle) Resume(reason string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.reasons[reason] {
		return false
	}
	if delete(t.reasons, reason); len(t.reasons) == 0 {
		close(t.open)
	}
	return true
}

// Paused reports whether the run is paused, and why.
func (t *Throttle) Paused() (reasons []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.reasons {
		reasons = append(reasons, r)
	}
	return reasons
}

// Entries waits until n more entries may be read.
func (t *Throttle) Entries(ctx context.Context, n int) error {
	if t == nil {
		return nil
	}
	return t.wait(ctx, t.entries, n)
}

// Bytes waits until n more bytes may be read or written.
func (t *Throttle) Bytes(ctx context.Context, n int) error {
	if t == nil {
		return nil
	}
	return t.wait(ctx, t.bytes, n)
}

func (t *Throttle) wait(ctx context.Context, l *rate.Limiter, n int) error {
	for {
		t.mu.Lock()
		open := t.open
		t.mu.Unlock()
		select {
		case <-open:
		case <-ctx.Done():
			return fmt.Errorf("stopped while waiting for the rate limit: %w", context.Cause(ctx))
		}
		if n <= 0 || l.Limit() == rate.Inf {
			return nil
		}
		part := min(n, l.Burst())
		// A reservation of the limiter does not notice a higher rate that is set later, so it is kept short.
		if !l.AllowN(time.Now(), part) {
			part = min(part, max(int(float64(l.Limit())/20), 1))
			if err := l.WaitN(ctx, part); err != nil {
				return fmt.Errorf("stopped while waiting for the rate limit: %w", err)
			}
		}
		n -= part
	}
}
