package middleware_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// gated is a memorystore whose swaps wait until the test lets them go.
type gated struct {
	*memorystore.Store
	enter chan context.Context // of a swap that has begun
	leave chan error           // how it goes on; nil: it takes place, errPanics: it panics, errGoexit: it ends its goroutine
	swaps atomic.Int64
}

var (
	errPanics = errors.New("the store panics")
	errGoexit = errors.New("the store calls runtime.Goexit")
)

func newGated(t *testing.T) *gated {
	t.Helper()
	return &gated{Store: memory(t), enter: make(chan context.Context), leave: make(chan error)}
}

func (g *gated) Capabilities() (owner any, names []string) {
	_, names = g.Store.Capabilities()
	return g, names
}

func (g *gated) CompareAndSwap(ctx context.Context, key string, old []byte, tail int, next []byte, ttl time.Duration) (bool, error) {
	g.swaps.Add(1)
	g.enter <- ctx
	err := <-g.leave
	if errors.Is(err, errPanics) {
		panic("secret-value")
	}
	if errors.Is(err, errGoexit) {
		runtime.Goexit()
	}
	if err != nil {
		return false, err
	}
	return g.Store.CompareAndSwap(ctx, key, old, tail, next, ttl)
}

// sum is the result of one call of Increment.
type sum struct {
	n   int64
	err error
}

func increment(ctx context.Context, s *middleware.Store, delta int64) <-chan sum {
	done := make(chan sum, 1)
	go func() {
		n, err := s.Increment(ctx, "n", delta)
		done <- sum{n, err}
	}()
	return done
}

// Calls that come while a swap is under way share the next one. Each has the sum at its place in the order.
func TestIncrementsAreCombined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t)
		s := sealed(t, g, keyring(t))
		require.NoError(t, s.Set(t.Context(), "n", int8(100)))
		first := increment(t.Context(), s, 1)
		<-g.enter
		var others []<-chan sum
		for _, delta := range []int64{10, 20, math.MaxInt64, -5, 1} {
			others = append(others, increment(t.Context(), s, delta))
			synctest.Wait() // queued in this order
		}
		g.leave <- nil
		require.Equal(t, sum{101, nil}, <-first)
		<-g.enter
		g.leave <- nil
		for i, want := range []int64{111, 0, 0, 106, 107} {
			got := <-others[i]
			if want == 0 { // 131 does not fit an int8, and the others do not notice
				require.ErrorIs(t, got.err, middleware.ErrOverflow)
				continue
			}
			require.Equal(t, sum{want, nil}, got)
		}
		require.EqualValues(t, 2, g.swaps.Load(), "six increments in two swaps")
		got, err := s.Get(t.Context(), "n")
		require.NoError(t, err)
		require.Equal(t, int8(107), got)
	})
}

// A panic during a swap for several callers ends none of the other goroutines, and no later increment waits for it. Nor does
// the end of the goroutine, also while others wait.
func TestPanicDuringCombinedIncrements(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{errPanics, errGoexit} {
		synctest.Test(t, func(t *testing.T) {
			g, logged := newGated(t), &strings.Builder{}
			s := sealed(t, g, keyring(t), middleware.WithLogger(slog.New(slog.NewTextHandler(logged, nil))))
			require.NoError(t, s.Set(t.Context(), "n", 0))
			first := increment(t.Context(), s, 1)
			<-g.enter
			others := []<-chan sum{increment(t.Context(), s, 10), increment(t.Context(), s, 20)}
			synctest.Wait() // both are queued
			g.leave <- nil
			require.Equal(t, sum{1, nil}, <-first)
			<-g.enter
			waits := increment(t.Context(), s, 1000)
			synctest.Wait()
			g.leave <- failure
			for _, other := range others {
				require.ErrorContains(t, (<-other).err, "panicked (the counter may have changed)")
			}
			require.Contains(t, logged.String(), "CompareAndSwap", "the log shows the stack")
			require.NotContains(t, logged.String(), "secret")
			<-g.enter
			g.leave <- nil
			require.Equal(t, sum{1001, nil}, <-waits)
			last := increment(t.Context(), s, 100)
			<-g.enter
			g.leave <- nil
			require.Equal(t, sum{1101, nil}, <-last)
		})
	}
}

func TestCallersOfACombinedIncrementMayLeave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t)
		s := sealed(t, g, keyring(t))
		require.NoError(t, s.Set(t.Context(), "n", 0))
		first := increment(t.Context(), s, 1)
		<-g.enter

		// One leaves before its swap: nothing is added for it.
		ctx, cancel := context.WithCancel(t.Context())
		waits := increment(ctx, s, 1000)
		stays := increment(t.Context(), s, 10)
		leaving, leave := context.WithCancel(t.Context())
		leaves := increment(leaving, s, 100)
		synctest.Wait()
		cancel()
		require.ErrorIs(t, (<-waits).err, context.Canceled)
		g.leave <- nil
		require.Equal(t, sum{1, nil}, <-first)

		// Another leaves during its swap, which the rest still need.
		swap := <-g.enter
		leave()
		require.ErrorIs(t, (<-leaves).err, context.Canceled)
		require.NoError(t, swap.Err())
		g.leave <- nil
		require.NoError(t, (<-stays).err)
		got, err := s.Get(t.Context(), "n")
		require.NoError(t, err)
		require.Equal(t, 111, got)

		// If all leave, the swap ends.
		first = increment(t.Context(), s, 1)
		<-g.enter
		ctx, cancel = context.WithCancel(t.Context())
		a, b := increment(ctx, s, 1), increment(ctx, s, 1)
		synctest.Wait()
		g.leave <- nil
		require.NoError(t, (<-first).err)
		swap = <-g.enter
		cancel()
		require.ErrorIs(t, (<-a).err, context.Canceled)
		require.ErrorIs(t, (<-b).err, context.Canceled)
		synctest.Wait()
		require.ErrorIs(t, swap.Err(), context.Canceled)
		g.leave <- swap.Err()
	})
}

func TestAFailedSwapFailsItsIncrements(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGated(t)
		s := sealed(t, g, keyring(t))
		require.NoError(t, s.Set(t.Context(), "n", 0))
		first := increment(t.Context(), s, 1)
		<-g.enter
		a, b := increment(t.Context(), s, 1), increment(t.Context(), s, 1)
		synctest.Wait()
		g.leave <- nil
		require.NoError(t, (<-first).err)
		<-g.enter
		down := errors.New("down")
		g.leave <- down
		require.ErrorIs(t, (<-a).err, down)
		require.ErrorIs(t, (<-b).err, down)
		next := increment(t.Context(), s, 1)
		<-g.enter
		g.leave <- nil
		require.Equal(t, sum{2, nil}, <-next, "the counter goes on")
	})
}

// interferer changes an entry in the middle of each attempt, as another process may.
func TestConflicts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, k := memory(t), keyring(t)
		s, other := sealed(t, m, k), sealed(t, m, k)
		require.NoError(t, s.Set(t.Context(), "n", 1))
		calls := 0
		err := s.Update(t.Context(), "n", func(old any, _ bool) (any, error) {
			if calls++; calls < 5 {
				_, err := other.Increment(t.Context(), "n", 1)
				require.NoError(t, err)
			}
			return old.(int) * 10, nil
		})
		require.NoError(t, err)
		require.Equal(t, 5, calls)
		got, err := s.Get(t.Context(), "n")
		require.NoError(t, err)
		require.Equal(t, 50, got)

		// The attempts are bounded, and end with the context.
		calls = 0
		interfere := func(any, bool) (any, error) {
			calls++
			return 0, other.Set(t.Context(), "n", calls)
		}
		err = s.Update(t.Context(), "n", interfere)
		require.ErrorIs(t, err, middleware.ErrConflict)
		require.Equal(t, 100, calls)
		got, err = s.Get(t.Context(), "n")
		require.NoError(t, err)
		require.Equal(t, 100, got)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = s.Update(ctx, "n", interfere)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		// So is a function that changes its own key.
		err = s.Update(t.Context(), "n", func(any, bool) (any, error) {
			_, err := s.Increment(t.Context(), "n", 1)
			return 0, err
		})
		require.ErrorIs(t, err, middleware.ErrConflict)

		// An entry that comes and goes between reading and writing.
		for range 3 {
			err = s.Update(t.Context(), "new", func(old any, found bool) (any, error) {
				if !found {
					require.Nil(t, old)
					require.NoError(t, other.Set(t.Context(), "new", "theirs"))
					return "mine", nil
				}
				return old.(string) + "+", nil
			})
			require.NoError(t, err)
			got, err = s.GetAndDelete(t.Context(), "new")
			require.NoError(t, err)
			require.Equal(t, "theirs+", got)
		}
	})
}

// A function may call its store for other keys, in any order.
func TestUpdatesWithinUpdates(t *testing.T) {
	t.Parallel()
	m := memory(t)
	s := sealed(t, m, keyring(t))
	var both, wg sync.WaitGroup
	both.Add(2)
	for _, keys := range [][2]string{{"a", "b"}, {"b", "a"}} {
		wg.Go(func() {
			var once sync.Once
			err := s.Update(t.Context(), keys[0], func(any, bool) (any, error) {
				once.Do(func() { both.Done(); both.Wait() })
				return "outer", s.Update(t.Context(), keys[1]+" of the other", func(any, bool) (any, error) {
					return "inner", s.Touch(t.Context(), "c", 0)
				})
			})
			if !errors.Is(err, store.NotFound{}) {
				t.Errorf("Update: %v", err)
			}
			// Each holds its own key and needs the other's.
			err = s.Update(t.Context(), keys[0], func(any, bool) (any, error) {
				n, err := s.Increment(t.Context(), keys[1]+" counter", 1)
				return n, err
			})
			if err != nil {
				t.Errorf("Update: %v", err)
			}
		})
	}
	wg.Wait()
	var inner sync.WaitGroup
	both.Add(2)
	for _, keys := range [][2]string{{"x", "y"}, {"y", "x"}} {
		inner.Go(func() {
			var once sync.Once
			err := s.Update(t.Context(), keys[0], func(old any, _ bool) (any, error) {
				once.Do(func() {
					both.Done()
					both.Wait()
					if err := s.Update(t.Context(), keys[1], func(any, bool) (any, error) { return "theirs", nil }); err != nil {
						t.Errorf("Update: %v", err)
					}
				})
				return "mine", nil
			})
			if err != nil {
				t.Errorf("Update: %v", err)
			}
		})
	}
	inner.Wait()
}

func TestUpdateFailures(t *testing.T) {
	t.Parallel()
	m := memory(t)
	s := sealed(t, m, keyring(t))
	require.NoError(t, s.Set(t.Context(), "k", "v"))
	stored := raw(t, m, "k")
	mine := errors.New("mine")
	err := s.Update(t.Context(), "k", func(any, bool) (any, error) { return nil, mine })
	require.Same(t, mine, err, "the caller's error comes back as it is")
	require.Error(t, s.Update(t.Context(), "k", nil))
	require.ErrorIs(t, s.Update(t.Context(), 1, func(any, bool) (any, error) { return 1, nil }), middleware.ErrUnsupportedType)
	require.ErrorIs(t, s.Update(t.Context(), "k", func(any, bool) (any, error) { return struct{}{}, nil }), middleware.ErrUnsupportedType)
	require.ErrorIs(t, s.Update(t.Context(), "k", func(any, bool) (any, error) { return nil, nil }), middleware.ErrUnsupportedType)
	require.Error(t, s.Update(t.Context(), "k", func(any, bool) (any, error) { return 1, nil }, nil))
	require.Error(t, s.Update(t.Context(), "k", func(any, bool) (any, error) { return 1, nil }, store.WithExpiration(-time.Second)))
	_, err = s.Increment(t.Context(), "k", 1, nil)
	require.Error(t, err)
	require.PanicsWithValue(t, "mine", func() {
		_ = s.Update(t.Context(), "k", func(any, bool) (any, error) { panic("mine") })
	})
	require.Equal(t, stored, raw(t, m, "k"))
	// Nothing is held after the panic: this would wait, and then be too late for its context.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, s.Update(ctx, "k", func(old any, _ bool) (any, error) { return append([]byte(nil), old.(string)...), nil }))
	got, err := s.GetAndDelete(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, []byte("v"), got)

	// The function may change the old value and return it.
	require.NoError(t, s.Set(t.Context(), "b", []byte("old")))
	require.NoError(t, s.Update(t.Context(), "b", func(old any, _ bool) (any, error) {
		b := old.([]byte)
		for i := range b {
			b[i] = 'x'
		}
		return append(b, make([]byte, 100)...), nil
	}))
	got, err = s.Get(t.Context(), "b")
	require.NoError(t, err)
	require.Equal(t, append([]byte("xxx"), make([]byte, 100)...), got)
}

// A store without the capabilities is refused before anything is read or written.
func TestAtomicOperationsAreUnsupported(t *testing.T) {
	t.Parallel()
	p := newPlain("plain")
	m := memory(t)
	type embeds struct{ *memorystore.Store } // may override Set
	for name, backing := range map[string]store.StoreInterface{"plain": p, "embedded": &embeds{m}} {
		s := sealed(t, backing, keyring(t))
		for operation, call := range calls(s) {
			err := call(t.Context())
			require.ErrorIs(t, err, middleware.ErrUnsupported, "%s over %s", operation, name)
			require.ErrorIs(t, err, store.ErrNotSupported)
		}
	}
	require.Empty(t, p.values)
	require.Zero(t, m.Len())
}

// Neither an outage of the key service nor an envelope's gate changes an entry.
func TestAtomicOperationsInAnOutage(t *testing.T) {
	t.Parallel()
	k := keyring(t)
	for _, outage := range []error{middleware.ErrTooManyDataKeys, middleware.ErrKeyServiceUnavailable, errors.New("no reason")} {
		var openFails, sealFails bool
		a := aeadFuncs{
			func(b, ad []byte) ([]byte, error) {
				if sealFails {
					return nil, outage
				}
				return k.Encrypt(b, ad)
			},
			func(b, ad []byte) ([]byte, error) {
				if openFails {
					return nil, outage
				}
				return k.Decrypt(b, ad)
			},
		}
		m := memory(t)
		s := sealed(t, m, a, middleware.WithMissOnOpenFailure())
		require.NoError(t, s.Set(t.Context(), "k", 1))
		stored := raw(t, m, "k")
		for operation, call := range calls(s) {
			openFails = true
			err := call(t.Context())
			require.Error(t, err, operation)
			require.NotErrorIs(t, err, store.NotFound{}, operation)
			require.Equal(t, stored, raw(t, m, "k"), operation)
			openFails = false
			if operation != "Increment" && operation != "Update" {
				continue
			}
			sealFails = true
			require.Error(t, call(t.Context()), operation)
			require.Equal(t, stored, raw(t, m, "k"), operation)
			sealFails = false
		}
		require.Zero(t, ttlOf(t, m, "k"))
	}
}

// vanishing is a memorystore whose refused entry expires just before it is replaced.
type vanishing struct {
	*memorystore.Store
	swaps int
}

func (v *vanishing) Capabilities() (owner any, names []string) {
	_, names = v.Store.Capabilities()
	return v, names
}

func (v *vanishing) CompareAndSet(ctx context.Context, key string, old []byte, tail int, next []byte, options ...store.Option) (bool, error) {
	v.swaps++
	if err := v.Delete(ctx, key); err != nil {
		return false, err
	}
	return v.Store.CompareAndSet(ctx, key, old, tail, next, options...)
}

// The answer is about the entry that is there at the end: a lock that no caller holds is not refused.
func TestSetIfNotExistsAfterARefusedEntryHasGone(t *testing.T) {
	t.Parallel()
	v := &vanishing{Store: memory(t)}
	s := sealed(t, v, keyring(t), middleware.WithMissOnOpenFailure())
	require.NoError(t, v.SetBytes(t.Context(), "lock", []byte("planted")))
	written, err := s.SetIfNotExists(t.Context(), "lock", "mine")
	require.NoError(t, err)
	require.True(t, written)
	require.Equal(t, 1, v.swaps)
	written, err = s.SetIfNotExists(t.Context(), "lock", "theirs")
	require.NoError(t, err)
	require.False(t, written)
}
