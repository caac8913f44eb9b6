// Package reload reads a keyset (a set of encryption keys) again when a stored value needs a key that is not in memory.
// Begin with [New].
//
// Such values appear after an operator adds a key to the keyset. Another process has already loaded the new key and
// encrypts with it, but this process has not loaded it. An attacker can also write values that name a key that does not
// exist. So the package reads the keyset at most once in ten seconds.
package reload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/abandon"
)

const (
	// interval is the least time between two reloads. Without it, a store full of values under a lost key would cause
	// many calls.
	interval = 10 * time.Second
	// timeout bounds one reload, whose caller may have no deadline.
	timeout = 10 * time.Second
)

// ErrNil is the error of an option that was given a nil function.
var ErrNil = errors.New("WithReload: the reload function is nil")

// A Reloader calls one reload function. A nil Reloader reloads nothing.
type Reloader struct {
	reload  func(context.Context) error
	failed  func(context.Context, error)
	running atomic.Bool // a call of reload, which may be abandoned

	mu      sync.Mutex
	begin   time.Time // of the last reload that ended
	end     time.Time
	err     error // its result
	ongoing chan struct{}

	sightings sightings
}

// An Answer tells a caller whose value was refused how to continue after Run.
type Answer struct {
	// Again reports that a reload has succeeded and ended after since, so that another attempt may open the value.
	Again bool
	// Decided reports that a reload has also begun after since, or that there is nothing to reload. If it is false, another
	// process may have sealed the value under a key that this process has not loaded.
	Decided bool
}

// New returns a Reloader over reload, or over the AEAD's own Reload method if reload is nil. Without either it returns nil.
// It reports failures to failed.
func New(a tink.AEADWithContext, reload func(context.Context) error, failed func(context.Context, error)) *Reloader {
	if reload == nil {
		r, ok := a.(interface{ Reload(context.Context) error })
		if !ok {
			return nil
		}
		reload = r.Reload
	}
	return &Reloader{reload: reload, failed: failed}
}

// Now returns the time that Run compares with.
func (r *Reloader) Now() time.Time {
	if r == nil {
		return time.Time{}
	}
	return time.Now()
}

// Run reloads, or waits for the reload that is under way, unless the last one ended less than ten seconds ago. For
// Again, since may be any time before the value was refused. For Decided, it must be a time after the value was first read: see Refused.
// The error is the error of the last reload or of ctx. A reload continues when ctx ends, because other callers may
// wait for it.
func (r *Reloader) Run(ctx context.Context, since time.Time) (Answer, error) {
	if r == nil {
		return Answer{Decided: true}, nil
	}
	r.mu.Lock()
	done := r.ongoing
	switch {
	case done != nil:
	case !r.end.IsZero() && time.Since(r.end) < interval:
		defer r.mu.Unlock()
		return r.result(since)
	default:
		done = make(chan struct{})
		r.ongoing = done
		since = time.Time{} // the reload begins after it, at any resolution of the clock
		go r.run(ctx, done)
	}
	r.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.result(since)
}

// run reloads once. It takes only the values of its caller's context, not its end.
func (r *Reloader) run(ctx context.Context, done chan<- struct{}) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	begin := time.Now()
	err := r.call(ctx)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		r.failed(ctx, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begin, r.end, r.err, r.ongoing = begin, time.Now(), err, nil
	close(done)
}

var (
	errHangs   = fmt.Errorf("the function that reloads the keyset did not return within %v", timeout)
	errRunning = errors.New("an earlier reload of the keyset still runs, because its function ignores the end of its context")
)

// call calls the function by abandon.Call, because it may ignore its context. It is not called again while an abandoned call runs.
func (r *Reloader) call(ctx context.Context) error {
	if !r.running.CompareAndSwap(false, true) {
		return errRunning
	}
	a, ok := abandon.Call(ctx, "the function that reloads the keyset", func() { r.running.Store(false) }, func(struct{}) {},
		func() (none struct{}, err error) { return none, r.reload(ctx) })
	if !ok {
		return errHangs
	}
	return a.Err
}

// result returns the answer of Run. A Keyring without a source has nothing to reload.
func (r *Reloader) result(since time.Time) (Answer, error) {
	switch {
	case errors.Is(r.err, errors.ErrUnsupported):
		return Answer{Decided: true}, nil
	case r.err != nil:
		return Answer{}, r.err
	}
	return Answer{Again: r.end.After(since), Decided: r.begin.After(since)}, nil
}
