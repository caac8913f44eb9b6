package storetest

import (
	"cmp"
	"fmt"
	"sync"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
)

func tagCases() []testCase {
	tags := func(c Capabilities) string { return needs(c.Tags, "Tags") }
	return []testCase{
		{
			name: "invalidate",
			rule: "Invalidate removes the entries that have one of the tags, and no other",
			why:  tags,
			run: func(t *testing.T, s *subject) {
				s.set(t, "x", "v", store.WithTags([]string{"X"}))
				s.set(t, "xy", "v", store.WithTags([]string{"X", "Y"}))
				s.set(t, "y", "v", store.WithTags([]string{"Y"}))
				s.set(t, "z", "v", store.WithTags([]string{"Z"}))
				s.set(t, "none", "v")
				s.invalidate(t)
				s.invalidate(t, "unknown")
				for _, key := range []string{"x", "xy", "y", "z", "none"} {
					s.holds(t, "Invalidate without tags and of an unknown tag", key, "v")
				}
				s.invalidate(t, "X")
				s.lacks(t, "Set with the tag X and Invalidate of X", "x")
				s.lacks(t, "Set with the tags X and Y, and Invalidate of X", "xy")
				s.holds(t, "Set with the tag Y and Invalidate of X", "y", "v")
				s.set(t, "x", "w", store.WithTags([]string{"X"}))
				s.invalidate(t, "Y", "Z")
				s.lacks(t, "Set with the tag Y and Invalidate of Y and Z", "y")
				s.lacks(t, "Set with the tag Z and Invalidate of Y and Z", "z")
				s.holds(t, "Invalidate of X, Set with the tag X, and Invalidate of Y and Z", "x", "w")
				s.holds(t, "Set without tags, and Invalidate of X, Y and Z", "none", "v")
				s.invalidate(t, "X")
				s.lacks(t, "Invalidate of X, Set with the tag X, and Invalidate of X", "x")
			},
		},
		{
			name: "an overwrite keeps former tags",
			rule: "an entry that is overwritten keeps the tags of former writes",
			why:  tags,
			run: func(t *testing.T, s *subject) {
				for i, options := range [][]store.Option{nil, {store.WithTags([]string{"new"})}} {
					key := fmt.Sprint("k", i)
					s.set(t, key, "1", store.WithTags([]string{"old"}))
					s.set(t, key, "2", options...)
					s.holds(t, "a second Set", key, "2")
					s.invalidate(t, "old")
					s.lacks(t, "Set with a tag, a second Set without that tag, and Invalidate of the tag", key)
				}
			},
		},
		{
			name: "many entries under a tag",
			rule: "Invalidate removes all entries of a tag, however many",
			why:  tags,
			run: func(t *testing.T, s *subject) {
				const n = 1200
				for i := range n {
					s.set(t, fmt.Sprint("k", i), "v", store.WithTags([]string{"many"}))
				}
				s.invalidate(t, "many")
				for i := range n {
					s.lacks(t, "Invalidate of the tag that 1200 entries have", fmt.Sprint("k", i))
				}
			},
		},
		{
			name: "tags under concurrency",
			rule: "with concurrent calls of Set and Invalidate, no call fails and no entry loses its tag",
			why: func(c Capabilities) string {
				return cmp.Or(tags(c), unless(c.ConcurrentTags, "Subject.Can does not declare ConcurrentTags, so concurrent calls may lose tags"))
			},
			run: concurrentTags,
		},
	}
}

func (s *subject) invalidate(t *testing.T, tags ...string) {
	t.Helper()
	noError(t, "Invalidate", s.Store.Invalidate(t.Context(), store.WithInvalidateTags(tags)))
}

func concurrentTags(t *testing.T, s *subject) {
	const workers, each = 8, 100
	var writers, invalidator sync.WaitGroup
	for w := range workers {
		writers.Go(func() {
			for i := range each {
				key := fmt.Sprintf("k%d-%d", w, i)
				if err := s.Store.Set(t.Context(), key, s.value("v"), store.WithTags([]string{"hot"})); err != nil {
					t.Errorf("Set failed in concurrent calls: %v", err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	invalidator.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				if err := s.Store.Invalidate(t.Context(), store.WithInvalidateTags([]string{"hot"})); err != nil {
					t.Errorf("Invalidate failed in concurrent calls: %v", err)
					return
				}
			}
		}
	})
	writers.Wait()
	close(done)
	invalidator.Wait()
	s.invalidate(t, "hot")
	left := 0
	for w := range workers {
		for i := range each {
			if there, err := s.present(t.Context(), fmt.Sprintf("k%d-%d", w, i)); err != nil {
				t.Fatalf("after concurrent calls of Set and Invalidate, Get failed with an error other than store.NotFound: %v", err)
			} else if there {
				left++
			}
		}
	}
	if left > 0 {
		t.Errorf("%d of %d entries, set in concurrent calls of Set and Invalidate, are still there\n(a last Invalidate did not remove them, so they lost the tag)", left, workers*each)
	}
}
