package early_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/fxmodule/internal/early"
)

var errClose = errors.New("closed with an error")

// A function that blocks leaves time for the hooks that follow: a second, or a quarter of a short time to stop.
func TestDo(t *testing.T) {
	t.Parallel()
	for available, want := range map[time.Duration]time.Duration{15 * time.Second: 14 * time.Second, 2 * time.Second: 1500 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), available)
			defer cancel()
			release := make(chan struct{})
			began := time.Now()
			err := early.Do(ctx, "fxmodule: close", func() error {
				<-release
				return nil
			})
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.ErrorContains(t, err, "fxmodule: close: ")
			require.Equal(t, want, time.Since(began))
			require.NoError(t, ctx.Err())
			close(release)
		})
	}
}

func TestDoReturnsTheError(t *testing.T) {
	t.Parallel()
	for _, want := range []error{nil, errClose} {
		require.Equal(t, want, early.Do(context.Background(), "fxmodule: close", func() error { return want }))
	}
}

// Close joins the error of the start with that of closing. It gives up a function that blocks.
func TestClose(t *testing.T) {
	t.Parallel()
	cause := errors.New("cannot start")
	err := early.Close(context.Background(), cause, func() error { return errClose })
	require.ErrorIs(t, err, cause)
	require.ErrorIs(t, err, errClose)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
		defer cancel()
		release := make(chan struct{})
		require.Equal(t, cause, early.Close(ctx, cause, func() error {
			<-release
			return nil
		}))
		require.NoError(t, ctx.Err())
		close(release)
	})
}

// Wait returns at the end of a context that f ignores.
func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Equal(t, context.DeadlineExceeded, early.Wait(ctx, func() error {
			<-release
			return nil
		}))
		close(release)
		want := errors.New("its own")
		require.Equal(t, want, early.Wait(t.Context(), func() error { return want }))
	})
}
