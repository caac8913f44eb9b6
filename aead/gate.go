package aead

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// unwrapParallel is how many unknown data keys the KEK is asked for at one time.
	unwrapParallel = 16
	// unwrapQueue is how many may wait for that, at some kilobytes each. In the ten seconds for which one may wait, a
	// key service that answers in 40 ms gets through as many.
	unwrapQueue = 4096
	// unwrapRate is how many calls a second may fail, past a burst of unwrapBurst: garbage in the store costs no more.
	unwrapRate  = 100
	unwrapBurst = 1024
)

var (
	errQueueFull = fmt.Errorf("%w: %d wait to be unwrapped", ErrTooManyDataKeys, unwrapQueue)
	errNoTurn    = errors.New("no turn to unwrap a data key")
)

// gate is what unknown data keys pass on their way to the KEK. Known ones do not.
//
// It cannot tell a data key of ours from garbage before the KEK has. So all are bounded in concurrency and in the
// length of the queue, and only what the KEK did not unwrap is bounded in rate: a process that starts beside a full
// store gets all its data keys as fast as the KEK gives them, and garbage soon finds the bucket empty.
type gate struct {
	slots   chan struct{} // one for each call under way
	most    int64         // in the queue; 0 is any number
	waiting atomic.Int64
	failing *bucket // nil if failures cost nothing
}

// remoteGate is the gate to a KEK whose calls cost something.
func remoteGate(now int64) *gate {
	return &gate{
		slots: make(chan struct{}, unwrapParallel), most: unwrapQueue,
		failing: &bucket{rate: unwrapRate, size: unwrapBurst, tokens: unwrapBurst, at: now},
	}
}

// localGate is the gate to a KEK that computes a few microseconds: there, a limit would fail reads and protect nobody.
func localGate() *gate { return &gate{slots: make(chan struct{}, unwrapParallel)} }

// enter takes a place in the queue, which pass gives back.
func (g *gate) enter() error {
	if g.waiting.Add(1) > g.most && g.most > 0 {
		g.waiting.Add(-1)
		return errQueueFull
	}
	return nil
}

// pass waits for a slot, and then for the bucket to hold a token, of which it takes one. The slot is the caller's to
// give back, and the token if the call succeeds.
func (g *gate) pass(ctx context.Context, c *clock) error {
	defer g.waiting.Add(-1)
	if err := take(ctx, g.slots); err != nil {
		return fmt.Errorf("%w: %w", errNoTurn, err)
	}
	if g.failing == nil {
		return nil
	}
	wait := g.failing.take(c.now())
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		g.turnBack()
		return fmt.Errorf("%w: too many failed of late: %w", errNoTurn, ended(ctx))
	}
}

// succeeded gives the token back.
func (g *gate) succeeded() {
	if g.failing != nil {
		g.failing.giveBack()
	}
}

// turnBack gives token and slot back, for a call that is not made.
func (g *gate) turnBack() {
	g.succeeded()
	<-g.slots
}

// bucket is a token bucket whose tokens can be given back. That of golang.org/x/time/rate gives none back that could
// have been used at once.
type bucket struct {
	rate, size float64 // tokens a second, and at most

	mu     sync.Mutex
	tokens float64 // below zero are those that are waited for
	at     int64
}

// take takes a token, and returns how long to wait until it is there.
func (b *bucket) take(now int64) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+b.rate*time.Duration(now-b.at).Seconds(), b.size) - 1
	b.at = now
	return time.Duration(max(-b.tokens, 0) / b.rate * float64(time.Second))
}

func (b *bucket) giveBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+1, b.size)
}
