package keylock

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// empty reports that nothing is kept for keys that are not in use.
func empty(s *Set) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.locks) == 0
}

func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s Set
		var mu sync.Mutex
		holders, most := 0, 0
		var wg sync.WaitGroup
		for range 50 { // each waits for up to 49 others, far longer than one holder may keep the lock
			wg.Go(func() {
				unlock, err := s.Lock(t.Context(), "k")
				if err != nil {
					t.Error(err)
					return
				}
				defer unlock()
				mu.Lock()
				holders++
				most = max(most, holders)
				mu.Unlock()
				time.Sleep(patience / 2)
				mu.Lock()
				holders--
				mu.Unlock()
			})
		}
		other, err := s.Lock(t.Context(), "other")
		require.NoError(t, err, "keys do not wait for each other")
		other()
		wg.Wait()
		require.Equal(t, 1, most)
		require.True(t, empty(&s))
	})
}

// A holder that waits for the lock of another key cannot hold up the holder of that one forever.
func TestHoldersDoNotDeadlock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s Set
		var both, wg sync.WaitGroup
		both.Add(2)
		for _, keys := range [][2]string{{"a", "b"}, {"b", "a"}} {
			wg.Go(func() {
				first, err := s.Lock(t.Context(), keys[0])
				if err != nil {
					t.Error(err)
					return
				}
				defer first()
				both.Done()
				both.Wait()
				second, err := s.Lock(t.Context(), keys[1])
				if err != nil {
					t.Error(err)
					return
				}
				second()
			})
		}
		wg.Wait()
		require.True(t, empty(&s))

		// The same holds for one goroutine.
		outer, err := s.Lock(t.Context(), "a")
		require.NoError(t, err)
		inner, err := s.Lock(t.Context(), "a")
		require.NoError(t, err)
		inner()
		outer()
		unlock, err := s.Lock(t.Context(), "a")
		require.NoError(t, err)
		unlock()
		require.True(t, empty(&s))
	})
}

func TestContextEndsTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s Set
		unlock, err := s.Lock(t.Context(), "k")
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), patience/2)
		defer cancel()
		_, err = s.Lock(ctx, "k")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = s.Lock(ctx, "free")
		require.ErrorIs(t, err, context.DeadlineExceeded, "a context that has ended takes no lock")
		unlock()
		require.True(t, empty(&s))
	})
}
