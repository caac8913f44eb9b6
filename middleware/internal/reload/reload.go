// Package reload reloads a keyset when a value names a key that the keyset does not list. Another process may have loaded
// it first.
package reload

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"
)

const (
	// interval is the least time between two reloads. Without it, a store full of values under a lost key would cause a
	// storm of calls.
	interval = 10 * time.Second
	// timeout bounds one reload, whose caller may have no deadline.
	timeout = 10 * time.Second
)

// ErrNil is the error of an option that was given a nil function.
var ErrNil = errors.New("WithReload: nil function")

// A Reloader calls one reload function. A nil Reloader reloads nothing.
type Reloader struct {
	reload func(context.Context) error
	failed func(context.Context, error)

	mu      sync.Mutex
	last    time.Time // the end of the last reload
	err     error     // and its result
	ongoing chan struct{}
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

// Run reloads, or waits for the reload that is under way, unless the last one ended less than ten seconds ago. It reports
// whether a reload has succeeded since began, so that what began then is worth another try. The error is that of the last
// reload, or of ctx.
func (r *Reloader) Run(ctx context.Context, began time.Time) (again bool, err error) {
	if r == nil {
		return false, nil
	}
	r.mu.Lock()
	if wait := r.ongoing; wait != nil {
		r.mu.Unlock()
		select {
		case <-wait:
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.result(began)
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	if !r.last.IsZero() && time.Since(r.last) < interval {
		defer r.mu.Unlock()
		return r.result(began)
	}
	done := make(chan struct{})
	r.ongoing = done
	r.mu.Unlock()

	// Other callers wait for this reload: the end of its own caller must not fail them.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	err = errPanicked
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.err, r.last, r.ongoing = err, time.Now(), nil
		close(done)
		again, err = r.result(began)
	}()
	if err = r.reload(ctx); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		r.failed(ctx, err)
	}
	return again, err
}

// result returns the answer of Run. A Keyring without a source has nothing to reload.
func (r *Reloader) result(began time.Time) (again bool, err error) {
	if errors.Is(r.err, errors.ErrUnsupported) {
		return false, nil
	}
	return r.err == nil && r.last.After(began), r.err
}

var errPanicked = errors.New("reload: the reload function panicked")
