package memorystore

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
)

func tagged(tags ...string) store.Option { return store.WithTags(tags) }

func invalidate(t testing.TB, s *Store, tags ...string) {
	t.Helper()
	require.NoError(t, s.Invalidate(t.Context(), store.WithInvalidateTags(tags)))
}

func TestInvalidateRemovesTaggedEntries(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	require.NoError(t, s.Set(ctx, "a", "v", tagged("x", "x", "y")))
	require.NoError(t, s.Set(ctx, "b", "v", tagged("y")))
	require.NoError(t, s.Set(ctx, "c", "v"))
	invalidate(t, s)
	invalidate(t, s, "", "unknown")
	require.Equal(t, 3, s.Len())
	invalidate(t, s, "x")
	assertMissing(t, s, "a")
	assertHolds(t, s, "b", "v")
	invalidate(t, s, "z", "y")
	assertMissing(t, s, "b")
	assertHolds(t, s, "c", "v")
	require.Empty(t, s.tags.sets)
}

func TestInvalidatePrefixLeavesForeignEntriesAlone(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	for _, key := range []string{"shop:a", "shop:b", "sho", "other:a", ""} {
		require.NoError(t, s.Set(ctx, key, "v", tagged("shop:t", "u")))
	}
	require.NoError(t, s.Set(ctx, "shop:c", "v"))
	require.NoError(t, s.InvalidatePrefix(ctx, "shop:", store.WithInvalidateTags([]string{"shop:t", "unknown"})))
	assertMissing(t, s, "shop:a")
	assertMissing(t, s, "shop:b")
	for _, key := range []string{"sho", "other:a", "", "shop:c"} {
		assertHolds(t, s, key, "v")
	}
	invalidate(t, s, "shop:t") // they have lost the tag
	assertHolds(t, s, "other:a", "v")
	invalidate(t, s, "u") // and nothing else
	assertMissing(t, s, "other:a")
	require.Empty(t, s.tags.sets)
	require.Equal(t, 1, s.Len())
}

func TestNilOptionsAreErrors(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	require.ErrorContains(t, s.Set(ctx, "k", "v", nil), "is nil")
	_, err := s.SetIfNotExists(ctx, "k", "v", tagged("t"), nil)
	require.ErrorContains(t, err, "is nil")
	require.ErrorContains(t, s.Invalidate(ctx, nil), "is nil")
	_, err = New(WithDefaults(nil, store.WithExpiration(time.Second)))
	require.ErrorContains(t, err, "is nil")
	require.Zero(t, s.Len())
}

func TestAnOverwriteKeepsFormerTags(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	for name, overwrite := range map[string]func(key string) error{
		"without tags": func(key string) error { return s.Set(ctx, key, "w") },
		"other tags":   func(key string) error { return s.Set(ctx, key, "w", tagged("other")) },
		"swap": func(key string) error {
			return second(s.CompareAndSwap(ctx, key, []byte("v"), 0, []byte("w"), -1))
		},
		"sooner": func(key string) error { return s.Set(ctx, key, "w", store.WithExpiration(time.Hour)) },
	} {
		require.NoError(t, s.Set(ctx, name, "v", tagged("former")))
		require.NoError(t, overwrite(name))
		invalidate(t, s, "former")
		assertMissing(t, s, name)
	}
	require.Empty(t, s.tags.sets)
}

func TestTagsDieWithTheirEntry(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	require.NoError(t, s.Set(ctx, "k", "v", tagged("t")))
	require.NoError(t, s.Delete(ctx, "k"))
	require.Empty(t, s.tags.sets)
	require.NoError(t, s.Set(ctx, "k", "w"))
	invalidate(t, s, "t")
	assertHolds(t, s, "k", "w")
}

func TestEvictionFreesTags(t *testing.T) {
	t.Parallel()
	s := open(t, WithMaxBytes(100_000))
	for i := range 5_000 {
		require.NoError(t, s.Set(t.Context(), strconv.Itoa(i), "v", tagged("all", "own"+strconv.Itoa(i))))
	}
	members := 0
	for key := range s.Keys(t.Context(), "") {
		members++
		require.NotNil(t, s.tags.sets["all"].of(key))
	}
	require.Equal(t, members, s.tags.sets["all"].size())
	require.Len(t, s.tags.sets, members+1)
	require.Less(t, members, 300, "tags are not counted against the budget")
	invalidate(t, s, "all")
	require.Zero(t, s.Len())
	require.Empty(t, s.tags.sets)
}

func TestFormerTagsAreBounded(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i := range 3 * maxFormerTags {
		require.NoError(t, s.Set(t.Context(), "k", "v", tagged(fmt.Sprint("version", i))))
	}
	require.Len(t, s.tags.sets, maxFormerTags+1)
	invalidate(t, s, "version0")
	assertHolds(t, s, "k", "v")
	invalidate(t, s, fmt.Sprint("version", 2*maxFormerTags))
	assertMissing(t, s, "k")
	require.Empty(t, s.tags.sets)
}

func TestFormerTagsNeverMakeAnEntryTooLarge(t *testing.T) {
	t.Parallel()
	s := open(t, WithMaxBytes(2000))
	for i := range 100 {
		require.NoError(t, s.Set(t.Context(), "k", "v", tagged(fmt.Sprint("version", i))))
		assertHolds(t, s, "k", "v")
	}
	require.LessOrEqual(t, s.Bytes(), int64(2000))
}

func TestATagsMapShrinks(t *testing.T) {
	t.Parallel()
	var x tagIndex
	e := &entry{tags: []string{"t"}}
	for i := range 10_000 {
		x.link(strconv.Itoa(i), nil, e, 0)
	}
	for i := range 9_990 {
		x.unlink(strconv.Itoa(i), e)
	}
	require.Len(t, x.sets["t"].keys(), 10)
	for i := range 10 {
		require.Same(t, e, x.sets["t"].of(strconv.Itoa(9_990+i)))
	}
	require.Less(t, x.sets["t"].peak, 64)
}

// After invalidations under load, every entry is either gone or has its tag: a last invalidation leaves no entry.
// gocache's own Redis store left 2,800 of 4,000.
func TestNoMembershipIsLostUnderConcurrency(t *testing.T) {
	t.Parallel()
	s := open(t, WithMaxBytes(1<<20)) // small, so that evictions run at the same time
	var writers, others sync.WaitGroup
	stop := make(chan struct{})
	for w := range 8 {
		writers.Go(func() {
			for i := range 500 {
				key := strconv.Itoa((w*500 + i) % 1500)
				switch i % 5 {
				case 0:
					_, err := s.SetIfNotExists(t.Context(), key, "v", tagged("t"))
					require.NoError(t, err)
				case 1:
					_, err := s.CompareAndSwap(t.Context(), key, []byte("v"), 0, []byte("v"), -1)
					require.NoError(t, err)
				case 2:
					require.NoError(t, s.Set(t.Context(), key, make([]byte, 3000), tagged("t"), store.WithExpiration(time.Millisecond)))
				default:
					require.NoError(t, s.Set(t.Context(), key, "v", tagged("t")))
				}
			}
		})
	}
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				invalidate(t, s, "t")
			}
		}
	})
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				require.NoError(t, s.Delete(t.Context(), strconv.Itoa(i%1500)))
			}
		}
	})
	writers.Wait()
	close(stop)
	others.Wait()
	for key := range s.Keys(t.Context(), "") {
		if !linked(s, "t", key) {
			_, err := s.Get(t.Context(), key)
			require.ErrorIs(t, err, store.NotFound{}, "it has expired since then, or has lost its tag")
		}
	}
	invalidate(t, s, "t")
	for range s.Keys(t.Context(), "") {
		t.Fatal("an entry had lost its tag")
	}
	s.cache.CleanUp()
	s.tags.mu.Lock() // against the goroutine that removes expired entries
	defer s.tags.mu.Unlock()
	require.Empty(t, s.tags.sets, "a tag had lost its entry")
}

// linked reports whether an entry has a tag. Expired entries may be removed at the same time.
func linked(s *Store, tag, key string) bool {
	s.tags.mu.Lock()
	defer s.tags.mu.Unlock()
	set := s.tags.sets[tag]
	return set != nil && set.of(key) != nil
}
