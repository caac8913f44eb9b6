package middleware_test

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// rotating is one cache in a rotation of PRF keys. The oldest key is the first.
type rotating struct {
	memory *memorystore.Store
	aead   *aead.Keyring
	keys   *prfKeys
	sets   []*prf.Set // by their primary key
}

func newRotating(t *testing.T, keys int) *rotating {
	t.Helper()
	r := &rotating{memory(t), keyring(t), newPRFKeys(t, keys), nil}
	for i := range keys {
		r.sets = append(r.sets, r.keys.set(t, i))
	}
	return r
}

// open returns the store of a process whose primary key is key i.
func (r *rotating) open(t *testing.T, primary int, opts ...middleware.Option) *middleware.Store {
	t.Helper()
	return sealed(t, r.memory, r.aead, append(opts, middleware.WithNamespace("ns"), middleware.WithHiddenKeys(r.sets[primary]))...)
}

// lenient returns open's store with WithMissOnOpenFailure.
func (r *rotating) lenient(t *testing.T, primary int) *middleware.Store {
	t.Helper()
	return r.open(t, primary, middleware.WithMissOnOpenFailure())
}

// name returns where the entry of key is under PRF key i.
func (r *rotating) name(t *testing.T, i int, key string) string {
	t.Helper()
	names, err := audit.Pseudonyms("ns", key, r.sets[i])
	require.NoError(t, err)
	return "ns:" + names[0]
}

// plant stores bytes that every process refuses under PRF key i.
func (r *rotating) plant(t *testing.T, i int, key string) {
	t.Helper()
	require.NoError(t, r.memory.SetBytes(t.Context(), r.name(t, i, key), []byte("planted")))
}

// set stores a sound entry under PRF key i. Entries under other keys stay.
func (r *rotating) set(t *testing.T, i int, key string, value any) {
	t.Helper()
	one := &prf.Set{PrimaryID: r.keys.ids[i], PRFs: map[uint32]prf.PRF{r.keys.ids[i]: r.sets[i].PRFs[r.keys.ids[i]]}}
	s := sealed(t, r.memory, r.aead, middleware.WithNamespace("ns"), middleware.WithHiddenKeys(one))
	require.NoError(t, s.Set(t.Context(), key, value))
}

// under returns the PRF keys under which key has an entry.
func (r *rotating) under(t *testing.T, key string) (found []int) {
	t.Helper()
	all := names(t, r.memory)
	for i := range r.sets {
		if slices.Contains(all, r.name(t, i, key)) {
			found = append(found, i)
		}
	}
	return found
}

// A lock under any PRF key has one holder, although an attacker plants values under the others.
func TestARefusedEntryDoesNotHideALock(t *testing.T) {
	t.Parallel()
	for lock := range 3 {
		for primary := range 3 {
			r := newRotating(t, 3)
			r.set(t, lock, "k", "held")
			for i := range 3 {
				if i != lock {
					r.plant(t, i, "k")
				}
			}
			written, err := r.lenient(t, primary).SetIfNotExists(t.Context(), "k", "stolen")
			require.NoError(t, err)
			require.False(t, written, "lock under key %d, primary key %d: two holders", lock, primary)
		}
	}
}

// SetIfNotExists creates a lock under the oldest key and removes refused entries under the others.
func TestALockIsCreatedUnderTheOldestKey(t *testing.T) {
	t.Parallel()
	for primary := range 3 {
		r := newRotating(t, 3)
		for i := range 3 {
			r.plant(t, i, "k")
		}
		written, err := r.open(t, primary).SetIfNotExists(t.Context(), "k", "strict")
		require.NoError(t, err)
		require.False(t, written)
		require.Len(t, r.under(t, "k"), 3, "a strict process removes nothing")
		for _, want := range []bool{true, false} {
			written, err = r.lenient(t, primary).SetIfNotExists(t.Context(), "k", "lock", store.WithTags([]string{"tag"}))
			require.NoError(t, err)
			require.Equal(t, want, written)
		}
		require.Equal(t, []int{0}, r.under(t, "k"))
		for other := range 3 {
			got, err := r.open(t, other).Get(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, "lock", got)
		}
		require.NoError(t, r.lenient(t, primary).Invalidate(t.Context(), store.WithInvalidateTags([]string{"tag"})))
		require.Empty(t, r.under(t, "k"))
	}
}

// A sound entry under any PRF key is the one that atomic operations change, although values under the others are refused.
func TestARefusedEntryDoesNotHideACounter(t *testing.T) {
	t.Parallel()
	for sound := range 3 {
		r := newRotating(t, 3)
		r.set(t, sound, "k", int64(41))
		for i := range 3 {
			if i != sound {
				r.plant(t, i, "k")
			}
		}
		for primary := range 3 {
			n, err := r.lenient(t, primary).Increment(t.Context(), "k", 1)
			require.NoError(t, err)
			require.EqualValues(t, 42+primary, n, "sound under key %d, primary key %d: an update is lost", sound, primary)
			require.NoError(t, r.lenient(t, primary).Touch(t.Context(), "k", patience))
			_, ttl, err := r.memory.GetWithTTL(t.Context(), r.name(t, sound, "k"))
			require.NoError(t, err)
			require.Positive(t, ttl)
		}
		require.NoError(t, r.lenient(t, 2).Update(t.Context(), "k", func(old any, found bool) (any, error) {
			require.True(t, found)
			return old, nil
		}))
		got, err := r.lenient(t, 1).GetAndDelete(t.Context(), "k")
		require.NoError(t, err)
		require.EqualValues(t, 44, got)
		require.Empty(t, r.under(t, "k"))
	}
}

// If all entries are refused, Increment and Update create one under the oldest key and remove the others. Touch and
// GetAndDelete change nothing.
func TestAtomicOperationsOnRefusedEntriesOnly(t *testing.T) {
	t.Parallel()
	for _, planted := range [][]int{{0}, {1}, {1, 2}, {0, 1, 2}} {
		r := newRotating(t, 3)
		for _, i := range planted {
			r.plant(t, i, "k")
		}
		s := r.lenient(t, 2)
		err := s.Touch(t.Context(), "k", patience)
		require.ErrorIs(t, err, store.NotFound{})
		require.ErrorIs(t, err, middleware.ErrNotSealed)
		_, err = s.GetAndDelete(t.Context(), "k")
		require.ErrorIs(t, err, store.NotFound{})
		require.ErrorIs(t, err, middleware.ErrNotSealed)
		require.Equal(t, planted, r.under(t, "k"))
		for n := range 3 {
			sum, err := r.lenient(t, n).Increment(t.Context(), "k", 1)
			require.NoError(t, err)
			require.EqualValues(t, n+1, sum)
		}
		require.Equal(t, []int{0}, r.under(t, "k"))
	}
}

// A read finds the sound entry that the atomic operations find. If there is none, the refusal is a miss, or an error.
func TestARefusedEntryDoesNotHideAValue(t *testing.T) {
	t.Parallel()
	for at := range 3 {
		r := newRotating(t, 3)
		r.set(t, at, "k", "sound")
		for i := range 3 {
			if i != at {
				r.plant(t, i, "k")
			}
		}
		r.plant(t, at, "refused")
		for primary := range 3 {
			s := r.lenient(t, primary)
			got, err := s.Get(t.Context(), "k")
			require.NoError(t, err, "sound under key %d, primary key %d", at, primary)
			require.Equal(t, "sound", got)
			got, _, err = s.GetWithTTL(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, "sound", got)
			many, err := s.GetMany(t.Context(), []string{"k", "refused", "absent"})
			require.NoError(t, err)
			require.Equal(t, map[string]any{"k": "sound"}, many)
			_, err = s.Get(t.Context(), "refused")
			require.ErrorIs(t, err, store.NotFound{})
			require.ErrorIs(t, err, middleware.ErrNotSealed)
			_, err = r.open(t, primary).Get(t.Context(), "refused")
			require.ErrorIs(t, err, middleware.ErrNotSealed)
			_, err = r.open(t, primary).GetMany(t.Context(), []string{"refused"})
			require.ErrorIs(t, err, middleware.ErrNotSealed)
		}
	}
}

// Processes with different primary keys meet at the same refused entries. One gets the lock, and no increment is lost.
func TestProcessesMeetAtRefusedEntries(t *testing.T) {
	t.Parallel()
	const rounds, calls = 20, 9
	r := newRotating(t, 3)
	stores := []*middleware.Store{r.lenient(t, 0), r.lenient(t, 1), r.lenient(t, 2)}
	for round := range rounds {
		lock, counter := fmt.Sprint("lock ", round), fmt.Sprint("counter ", round)
		for i := range 3 {
			if round>>i&1 == 1 {
				r.plant(t, i, lock)
				r.plant(t, i, counter)
			}
		}
		var holders atomic.Int32
		var all sync.WaitGroup
		errs := make([]error, 2*calls)
		for n := range calls {
			s := stores[n%3]
			all.Go(func() {
				var written bool
				if written, errs[2*n] = s.SetIfNotExists(t.Context(), lock, "mine"); written {
					holders.Add(1)
				}
			})
			all.Go(func() { _, errs[2*n+1] = s.Increment(t.Context(), counter, 1) })
		}
		all.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		require.EqualValues(t, 1, holders.Load(), "round %d", round)
		sum, err := stores[2].Increment(t.Context(), counter, 0)
		require.NoError(t, err)
		require.EqualValues(t, calls, sum, "round %d", round)
		require.Equal(t, []int{0}, r.under(t, lock))
		require.Equal(t, []int{0}, r.under(t, counter))
	}
}
