package reload_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealcache/sealcache/middleware/internal/reload"
)

// counter is a reload function with a result and a duration.
type counter struct {
	calls, failures atomic.Int32
	takes           time.Duration
	err             error
	panics, exits   bool
}

func (c *counter) reload(context.Context) error {
	c.calls.Add(1)
	time.Sleep(c.takes) // by the clock of the bubble; it ignores its context
	if c.panics {
		panic("secret")
	}
	if c.exits {
		runtime.Goexit()
	}
	return c.err
}

func (c *counter) reloader() *reload.Reloader {
	return reload.New(nil, c.reload, func(context.Context, error) { c.failures.Add(1) })
}

func check(t *testing.T, r *reload.Reloader, since time.Time, want reload.Answer, wantErr error) {
	t.Helper()
	got, err := r.Run(t.Context(), since)
	if got != want || !errors.Is(err, wantErr) {
		t.Errorf("%+v, %v; want %+v, %v", got, err, want, wantErr)
	}
}

func TestNothingToReload(t *testing.T) {
	t.Parallel()
	check(t, reload.New(nil, nil, nil), time.Now(), reload.Answer{Decided: true}, nil)
	c := &counter{err: errors.ErrUnsupported} // a Keyring without a source
	r := c.reloader()
	for range 2 {
		check(t, r, r.Now(), reload.Answer{Decided: true}, nil)
	}
	if c.failures.Load() != 0 || c.calls.Load() != 1 {
		t.Errorf("%d failures, %d calls", c.failures.Load(), c.calls.Load())
	}
}

// An answer depends on the times at which the reload began and ended, and at which the caller read its value.
func TestAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &counter{takes: 4 * time.Second}
		r := c.reloader()
		before := r.Now()
		time.Sleep(time.Second)
		go check(t, r, r.Now(), reload.Answer{Again: true, Decided: true}, nil)
		time.Sleep(time.Second)
		during := r.Now()
		check(t, r, during, reload.Answer{Again: true}, nil) // the joined reload may have read an older keyset
		time.Sleep(time.Second)
		check(t, r, before, reload.Answer{Again: true, Decided: true}, nil)
		check(t, r, during, reload.Answer{Again: true}, nil)
		check(t, r, r.Now(), reload.Answer{}, nil)
		if n := c.calls.Load(); n != 1 {
			t.Errorf("%d reloads within ten seconds", n)
		}
		time.Sleep(10 * time.Second)
		check(t, r, r.Now(), reload.Answer{Again: true, Decided: true}, nil)
	})
}

func TestFailedReloadDecidesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &counter{err: errors.New("no file")}
		r := c.reloader()
		for range 2 { // the second time from memory
			check(t, r, time.Time{}, reload.Answer{}, c.err)
		}
		c.panics = true
		time.Sleep(11 * time.Second)
		_, err := r.Run(t.Context(), r.Now())
		if err == nil || strings.Contains(err.Error(), "secret") || c.failures.Load() != 2 {
			t.Errorf("a panic: %v, %d failures", err, c.failures.Load())
		}
	})
}

// A caller waits for a reload only as long as its context allows. The end of one caller fails no other.
func TestReloadOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &counter{takes: 9 * time.Second}
		r := c.reloader()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Run(ctx, r.Now()); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		check(t, r, began.Add(-time.Second), reload.Answer{Again: true, Decided: true}, nil)
		if n := c.calls.Load(); n != 1 {
			t.Errorf("%d reloads", n)
		}
	})
}

// badError is an error whose methods panic, as those of a nil pointer do.
type badError struct{}

func (badError) Error() string { panic("secret") }

// Callers wait for a function that ignores its context only as long as a reload may take. It is not called again while it runs,
// and is called again later. A function that ends its goroutine, or whose error panics, keeps no caller waiting either.
func TestReloadThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &counter{takes: time.Minute}
		r := c.reloader()
		for range 2 {
			began := time.Now()
			if _, err := r.Run(t.Context(), r.Now()); err == nil || time.Since(began) > 11*time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
			time.Sleep(11 * time.Second)
		}
		if n := c.calls.Load(); n != 1 {
			t.Errorf("%d calls at a time", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait() // the abandoned call has returned
		c.takes, c.exits = 0, true
		if _, err := r.Run(t.Context(), r.Now()); err == nil {
			t.Error("a function that ended its goroutine has succeeded")
		}
		time.Sleep(11 * time.Second)
		c.exits, c.err = false, badError{}
		if _, err := r.Run(t.Context(), r.Now()); err == nil || strings.Contains(err.Error(), "secret") {
			t.Error("an error that panics is not reported")
		}
		time.Sleep(11 * time.Second)
		c.err = nil
		check(t, r, r.Now(), reload.Answer{Again: true, Decided: true}, nil)
	})
}
