package middleware_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// interleaved is a memorystore in which another process acts once at a given moment.
type interleaved struct {
	*memorystore.Store
	once         sync.Once
	beforeCreate func()
	beforeSet    func()                 // before an entry is replaced with its options
	afterRead    func(name string) bool // reports whether the other process acted
}

func (i *interleaved) Capabilities() (owner any, names []string) {
	_, names = i.Store.Capabilities()
	return i, names
}

func (i *interleaved) SetIfNotExists(ctx context.Context, key, value any, options ...store.Option) (bool, error) {
	if i.beforeCreate != nil {
		i.once.Do(i.beforeCreate)
	}
	return i.Store.SetIfNotExists(ctx, key, value, options...)
}

func (i *interleaved) CompareAndSet(ctx context.Context, key string, old []byte, tail int, next []byte, options ...store.Option) (bool, error) {
	if i.beforeSet != nil {
		i.once.Do(i.beforeSet)
	}
	return i.Store.CompareAndSet(ctx, key, old, tail, next, options...)
}

func (i *interleaved) GetBytesToSwap(ctx context.Context, key string, limit int) ([]byte, time.Duration, error) {
	value, ttl, err := i.Store.GetBytesToSwap(ctx, key, limit)
	if i.afterRead != nil && i.afterRead(key) {
		i.afterRead = nil
	}
	return value, ttl, err
}

// Between its two looks at the other PRF keys, SetIfNotExists creates an entry. If the second look fails, the entry goes
// again: it would be a lock that no process holds.
func TestSetIfNotExistsLeavesNothingAfterAnError(t *testing.T) {
	t.Parallel()
	r := newRotating(t, 2)
	backing := &interleaved{Store: r.memory, beforeCreate: func() {
		// Another process, which has loaded a newer encryption key, writes under the primary PRF key.
		one := &prf.Set{PrimaryID: r.keys.ids[1], PRFs: map[uint32]prf.PRF{r.keys.ids[1]: r.sets[1].PRFs[r.keys.ids[1]]}}
		newer := sealed(t, r.memory, keyring(t), middleware.WithNamespace("ns"), middleware.WithHiddenKeys(one))
		require.NoError(t, newer.Set(t.Context(), "lock", "theirs"))
	}}
	s := sealed(t, backing, r.aead, middleware.WithNamespace("ns"), middleware.WithHiddenKeys(r.sets[1]), middleware.WithMissOnOpenFailure())
	written, err := s.SetIfNotExists(t.Context(), "lock", "mine")
	require.ErrorIs(t, err, middleware.ErrUnknownKey)
	require.False(t, written)
	require.Equal(t, []int{1}, r.under(t, "lock"))
}

// While GetAndDelete reads an entry under one PRF key, other processes take that entry and create the next one under
// another PRF key. GetAndDelete does not delete what it has not read.
func TestGetAndDeleteKeepsWhatItHasNotRead(t *testing.T) {
	t.Parallel()
	r := newRotating(t, 2)
	r.set(t, 1, "token", "first")
	reads := 0
	backing := &interleaved{Store: r.memory}
	backing.afterRead = func(name string) bool {
		if name != r.name(t, 1, "token") {
			return false
		}
		if reads++; reads < 2 { // the first read is of the bytes alone
			return false
		}
		require.NoError(t, r.memory.Delete(t.Context(), name))
		r.set(t, 0, "token", "second")
		return true
	}
	s := sealed(t, backing, r.aead, middleware.WithNamespace("ns"), middleware.WithHiddenKeys(r.sets[1]))
	value, err := s.GetAndDelete(t.Context(), "token")
	require.NoError(t, err, "it takes the entry that it finds after the first")
	require.Equal(t, "second", value)
	require.Equal(t, 2, reads)
	require.Empty(t, r.under(t, "token"))
}

// Between the looks of Touch or GetAndDelete at two names, another process moves the entry to the name that was looked at
// first. There is an entry at every moment, so neither may report a miss.
func TestAnEntryMovesToTheFirstName(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reads   int // of the first name before the entry moves there
		planted bool
		operate func(s *middleware.Store) error
	}{
		"Touch":                       {1, false, func(s *middleware.Store) error { return s.Touch(t.Context(), "k", time.Hour) }},
		"Touch, over a refused entry": {1, true, func(s *middleware.Store) error { return s.Touch(t.Context(), "k", time.Hour) }},
		"GetAndDelete":                {2, false, takeMoved(t)},
		"GetAndDelete, refused entry": {2, true, takeMoved(t)},
	} {
		r := newRotating(t, 2)
		r.set(t, 1, "k", "before")
		if c.planted {
			r.plant(t, 0, "k")
		}
		reads := 0
		backing := &interleaved{Store: r.memory}
		backing.afterRead = func(stored string) bool {
			if stored != r.name(t, 0, "k") {
				return false
			}
			if reads++; reads < c.reads {
				return false
			}
			require.NoError(t, r.open(t, 0).Set(t.Context(), "k", "moved"))
			return true
		}
		s := sealed(t, backing, r.aead, middleware.WithNamespace("ns"), middleware.WithHiddenKeys(r.sets[1]), middleware.WithMissOnOpenFailure())
		require.NoError(t, c.operate(s), name)
	}
}

func takeMoved(t *testing.T) func(s *middleware.Store) error {
	return func(s *middleware.Store) error {
		value, err := s.GetAndDelete(t.Context(), "k")
		if err == nil {
			require.Equal(t, "moved", value)
		}
		return err
	}
}

// While an atomic operation replaces a refused entry, another process sets the key under another PRF key. Its value stays,
// and is the only entry.
func TestAReplacedEntryIsTakenBack(t *testing.T) {
	t.Parallel()
	for name, operate := range map[string]func(s *middleware.Store) error{
		"SetIfNotExists": func(s *middleware.Store) error {
			written, err := s.SetIfNotExists(t.Context(), "k", "mine")
			require.False(t, written, "another process has set it")
			return err
		},
		"Update": func(s *middleware.Store) error {
			return s.Update(t.Context(), "k", func(old any, found bool) (any, error) {
				if !found {
					return "mine", nil
				}
				return old, nil
			})
		},
	} {
		r := newRotating(t, 2)
		r.plant(t, 0, "k")
		backing := &interleaved{Store: r.memory, beforeSet: func() { r.set(t, 1, "k", "theirs") }}
		s := sealed(t, backing, r.aead, middleware.WithNamespace("ns"), middleware.WithHiddenKeys(r.sets[1]), middleware.WithMissOnOpenFailure())
		require.NoError(t, operate(s), name)
		require.Equal(t, []int{1}, r.under(t, "k"), name)
		got, err := s.Get(t.Context(), "k")
		require.NoError(t, err, name)
		require.Equal(t, "theirs", got, name)
	}
}
