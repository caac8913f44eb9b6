package jobs

import (
	"context"
	"sync"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"
)

const (
	// reloadEvery is the least time between two reloads, so that a queue full of
	// jobs under a key that is gone does not become a storm of calls.
	reloadEvery = 10 * time.Second
	// reloadTimeout bounds one reload, whose caller may have no deadline.
	reloadTimeout = 10 * time.Second
)

// reloader reloads the keyset when a value names a key that it does not list.
type reloader struct {
	reload func(context.Context) error
	tel    *telemetry
	now    func() time.Time

	mu      sync.Mutex
	last    time.Time // when the last reload ended
	ok      bool      // how
	ongoing chan struct{}
}

func newReloader(a tink.AEADWithContext, c *config, tel *telemetry) *reloader {
	reload := c.reload
	if reload == nil {
		r, ok := a.(interface{ Reload(context.Context) error })
		if !ok {
			return nil
		}
		reload = r.Reload
	}
	return &reloader{reload: reload, tel: tel, now: time.Now}
}

// clock is the time by which run compares. A nil reloader has none.
func (r *reloader) clock() time.Time {
	if r == nil {
		return time.Time{}
	}
	return r.now()
}

// run reloads, or waits for the reload that is under way, and tells whether it is
// worth to try again what began at began: a reload has succeeded since. A nil
// reloader reloads nothing.
func (r *reloader) run(ctx context.Context, began time.Time) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	if wait := r.ongoing; wait != nil {
		r.mu.Unlock()
		select {
		case <-wait:
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.ok
		case <-ctx.Done():
			return false
		}
	}
	if !r.last.IsZero() && r.now().Sub(r.last) < reloadEvery {
		defer r.mu.Unlock()
		return r.ok && r.last.After(began)
	}
	done := make(chan struct{})
	r.ongoing = done
	r.mu.Unlock()

	// Others wait for this one: the end of its caller must not fail them.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reloadTimeout)
	defer cancel()
	ok := false
	defer func() {
		r.mu.Lock()
		r.ok, r.last, r.ongoing = ok, r.now(), nil
		r.mu.Unlock()
		close(done)
	}()
	err := r.reload(ctx)
	ok = err == nil
	if err != nil {
		r.tel.reloadFailed(ctx, err)
	}
	return ok
}
