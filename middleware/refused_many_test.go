package middleware_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
)

// A key with many entries is gone. Two reloads replace all of them. The first one decides about the entry that started it, and
// the second one about every entry that was met in between.
func TestOneReloadDecidesAboutAllRefusedEntries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := memory(t)
		lost := rawHandle(t)
		kept := sealtest.KeyringOf(t, rawHandle(t))
		ring := newSwitching(kept, kept)
		s := sealed(t, m, ring, middleware.WithMissOnOpenFailure())
		const n = 100
		name := func(i int) string { return fmt.Sprint("entry", i) }
		for i := range n {
			sealRaw(t, m, lost, name(i))
		}
		write := func(i int) error {
			if i%2 == 0 {
				written, err := s.SetIfNotExists(t.Context(), name(i), "second")
				if err == nil && !written {
					t.Errorf("%s is taken", name(i))
				}
				return err
			}
			_, err := s.Increment(t.Context(), name(i), 1)
			return err
		}
		require.NoError(t, write(0))
		for range 3 {
			time.Sleep(time.Second)
			for i := 1; i < n; i++ {
				held := raw(t, m, name(i))
				err := write(i)
				require.ErrorIs(t, err, middleware.ErrUnauthentic)
				require.ErrorContains(t, err, "so nothing was written")
				require.Equal(t, held, raw(t, m, name(i)))
			}
		}
		require.Equal(t, 1, ring.reloads)
		time.Sleep(10 * time.Second)
		for i := 1; i < n; i++ {
			require.NoError(t, write(i), name(i))
		}
		require.Equal(t, 2, ring.reloads)

		// Callers that decide the same entry at the same time do not disturb each other.
		sealRaw(t, m, lost, "lock") // after the second reload began
		_, err := s.SetIfNotExists(t.Context(), "lock", "second")
		require.ErrorContains(t, err, "so nothing was written")
		time.Sleep(10 * time.Second)
		var wrote atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				written, err := s.SetIfNotExists(t.Context(), "lock", "second")
				if err != nil {
					t.Error(err)
				}
				if written {
					wrote.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, wrote.Load())
		require.Equal(t, 3, ring.reloads)

		// Another value under the name was not met before that reload.
		sealRaw(t, m, lost, "lock")
		_, err = s.SetIfNotExists(t.Context(), "lock", "third")
		require.ErrorContains(t, err, "so nothing was written")
		require.Equal(t, 3, ring.reloads)
	})
}
