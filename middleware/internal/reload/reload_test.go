package reload_test

import (
	"context"
	"errors"
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
	panics          bool
}

func (c *counter) reload(context.Context) error {
	c.calls.Add(1)
	time.Sleep(c.takes) // by the clock of the bubble; it ignores its context
	if c.panics {
		panic("secret")
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
		c := &counter{takes: time.Minute}
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
