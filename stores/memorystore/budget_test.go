package memorystore

import (
	"math"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
)

// heap returns the number of bytes in use after a collection.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Tests that measure the heap are not parallel.
func TestMemoryStaysNearTheBudget(t *testing.T) {
	const budget = 16 << 20
	for name, size := range map[string]int{"100 bytes": 100, "4 KiB": 4 << 10, "300 KiB": 300 << 10} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			s := open(t, WithMaxBytes(budget))
			var writers sync.WaitGroup
			for w := range 8 {
				writers.Go(func() {
					for i := range budget / 2 / (size + entryOverhead) { // four times the budget in all
						key := strconv.Itoa(w) + "-" + strconv.Itoa(i)
						require.NoError(t, s.SetBytes(t.Context(), key, make([]byte, size)))
						if i%50 == 0 {
							// No drain has been requested: the writers alone keep the bound.
							require.Less(t, s.Bytes(), int64(budget+16*(size+entryOverhead)))
						}
					}
				})
			}
			writers.Wait()
			require.LessOrEqual(t, s.Bytes(), int64(budget))
			require.Greater(t, s.Bytes(), int64(budget)*8/10, "the budget is not used")
			used := heap() - before
			require.Less(t, used, int64(budget)*12/10, "%d entries", s.Len())
			runtime.KeepAlive(s)
		})
	}
}

// A stored key or tag does not share the memory of the text that it was cut from, such as a whole request body.
func TestStringsCutOutOfLargeOnesAreCopied(t *testing.T) {
	const n, size = 64, 1 << 20
	cut := func(i int) string { return (strings.Repeat("x", size) + "-" + strconv.Itoa(i))[size:] }
	for name, set := range map[string]func(s *Store, i int) error{
		"value": func(s *Store, i int) error { return s.Set(t.Context(), strconv.Itoa(i), cut(i)) },
		"pointer": func(s *Store, i int) error {
			text := cut(i)
			return s.Set(t.Context(), strconv.Itoa(i), &text)
		},
		"key": func(s *Store, i int) error { return s.Set(t.Context(), cut(i), "v") },
		"key of SetIfNotExists": func(s *Store, i int) error {
			_, err := s.SetIfNotExists(t.Context(), cut(i), "v")
			return err
		},
		"key of a swap": func(s *Store, i int) error {
			if err := s.Set(t.Context(), "-"+strconv.Itoa(i), "v", tagged("t")); err != nil { // the tag holds the key, too
				return err
			}
			_, err := s.CompareAndSwap(t.Context(), cut(i), []byte("v"), 0, []byte("w"), -1)
			return err
		},
		"tag": func(s *Store, i int) error {
			return s.Set(t.Context(), strconv.Itoa(i), "v", store.WithTags([]string{cut(i)}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			s := open(t)
			for i := range n {
				require.NoError(t, set(s, i))
			}
			require.Equal(t, n, s.Len())
			require.Less(t, heap()-before, int64(n*size/8))
			runtime.KeepAlive(s)
		})
	}
}

// The two overheads are at least the memory that the runtime reports.
func TestOverheadsCoverTheMemoryOfAnEntry(t *testing.T) {
	const n = 50_000
	for name, options := range map[string]func(i int) []store.Option{
		"no tags":      func(int) []store.Option { return nil },
		"a shared tag": func(int) []store.Option { return []store.Option{store.WithTags([]string{"shared"})} },
		"its own tag":  func(i int) []store.Option { return []store.Option{store.WithTags([]string{strconv.Itoa(i)})} },
	} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			s := open(t, WithMaxBytes(1<<30))
			for i := range n {
				require.NoError(t, s.Set(t.Context(), "key"+strconv.Itoa(1e7+i), make([]byte, 64), options(i)...))
			}
			per := (heap() - before) / n
			counted := s.Bytes() / n
			t.Logf("%d bytes each, counted as %d", per, counted)
			require.Less(t, per, counted)
			require.Greater(t, per, counted/2, "the budget counts twice what there is")
			runtime.KeepAlive(s)
		})
	}
}

func TestAnEntryOverTheBudgetIsAnError(t *testing.T) {
	t.Parallel()
	s := open(t, WithMaxBytes(10_000))
	ctx := t.Context()
	largest := make([]byte, 10_000-entryOverhead-len("k"))
	require.NoError(t, s.Set(ctx, "k", largest))
	assertHolds(t, s, "k", largest)
	require.Equal(t, int64(10_000), s.Bytes())

	larger := append(largest, 0)
	require.ErrorIs(t, s.Set(ctx, "k", larger), ErrTooLarge)
	require.ErrorIs(t, second(s.SetIfNotExists(ctx, "l", append(larger, 0))), ErrTooLarge)
	require.ErrorIs(t, second(s.CompareAndSwap(ctx, "k", largest, 0, larger, -1)), ErrTooLarge)
	require.ErrorIs(t, s.Set(ctx, "k", largest, store.WithTags([]string{"t"})), ErrTooLarge)
	assertHolds(t, s, "k", largest)
}

func TestBudgetsBeyondFourGiB(t *testing.T) {
	t.Parallel()
	for _, max := range []int64{1, math.MaxUint32, math.MaxUint32 + 1, 5 << 30, 1 << 40, math.MaxInt64} {
		b := newBudget(max)
		require.LessOrEqual(t, b.maximum, uint64(math.MaxUint32))
		require.LessOrEqual(t, b.bytes(b.maximum), max)
		require.Greater(t, b.bytes(b.maximum), max-max>>31-1, "the budget lost more than rounding")
		require.True(t, b.holds(b.bytes(b.maximum)))
		require.False(t, max < math.MaxInt64 && b.holds(max+1))
		require.EqualValues(t, 1, b.units(1), "an entry is free")
	}
	s := open(t, WithMaxBytes(1<<40))
	require.NoError(t, s.Set(t.Context(), "k", "v"))
	require.Positive(t, s.Bytes())
}

func TestNothingIsEvictedUnderTheBudget(t *testing.T) {
	t.Parallel()
	s := open(t, WithMaxBytes(1<<20))
	n := 0
	for ; s.Bytes() < 1<<20-1000; n++ {
		require.NoError(t, s.Set(t.Context(), strconv.Itoa(n), make([]byte, 500)))
	}
	for i := range n {
		assertHolds(t, s, strconv.Itoa(i), make([]byte, 500))
	}
	require.Greater(t, n, 1000)
}
