package storetest

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
)

// conditionalCases returns the cases of the writes that depend on the stored value.
func conditionalCases() []testCase {
	return []testCase{
		{
			name: "set if not exists",
			rule: "SetIfNotExists writes only if there is no entry, and reports whether it wrote. Of concurrent calls, none fails and one writes",
			why:  func(c Capabilities) string { return needs(c.SetIfNotExists, "SetIfNotExists") },
			run:  setIfNotExists,
		},
		{
			name: "swap",
			rule: "CompareAndSwap replaces a value if it has the length and the last tail bytes of old (tail below 1: all bytes)",
			why:  func(c Capabilities) string { return needs(c.Swap, "Swap") },
			run:  swap,
		},
		{
			name: "swap keeps TTL and tags",
			rule: "CompareAndSwap keeps the tags of the entry. A negative ttl keeps the TTL, 0 removes it, and a positive one replaces it",
			why:  func(c Capabilities) string { return needs(c.Swap, "Swap") },
			run:  swapKeeps,
		},
		{
			name: "swap loses no update",
			rule: "of concurrent calls of CompareAndSwap for one value, none fails and exactly one replaces it, so that no update is lost",
			why:  func(c Capabilities) string { return needs(c.Swap, "Swap") },
			run:  swapConcurrently,
		},
	}
}

// enumerationCases returns the cases of the calls that list or clear a prefix.
func enumerationCases() []testCase {
	return []testCase{
		{
			name: "enumerate",
			rule: "Keys returns each key that starts with the literal prefix once, without names of tags. It returns only an error if the context has ended",
			why:  func(c Capabilities) string { return needs(c.Enumerate, "Enumerate") },
			run:  enumerate,
		},
		{
			name: "clear a prefix",
			rule: "ClearPrefix removes the entries and tags that start with the literal prefix, and nothing else",
			why:  func(c Capabilities) string { return needs(c.Enumerate, "Enumerate") },
			run:  clearPrefix,
		},
		{
			name: "invalidate within a prefix",
			rule: "InvalidatePrefix removes the tagged entries whose keys start with the literal prefix. Other entries only lose the tag",
			why: func(c Capabilities) string {
				return needs(c.InvalidatePrefix && c.Tags, "both InvalidatePrefix and Tags")
			},
			run: invalidatePrefix,
		},
	}
}

// byteCases returns the cases of the calls that take and return bytes.
func byteCases() []testCase {
	return []testCase{
		{
			name: "owned bytes",
			rule: "GetBytes, GetBytesWithTTL and SetBytes do what Get, GetWithTTL and Set do. The caller may change bytes that it got, or that SetBytes has stored",
			why:  func(c Capabilities) string { return needs(c.OwnedBytes, "OwnedBytes") },
			run:  ownedBytes,
		},
		{
			name:  "set with a TTL",
			rule:  "SetBytesWithTTL does what SetBytes does with this TTL (0: no expiration) and without new tags. It fails if the TTL is negative or the context has ended",
			lacks: without[TTLSetter]("the store does not implement middleware.TTLSetter"),
			run:   setsTTL,
		},
		{
			name: "bounded reads",
			rule: "GetBytesMax and GetBytesWithTTLMax do what GetBytes and GetBytesWithTTL do. For a value over the limit, TooLarge() of the error returns true",
			why:  func(c Capabilities) string { return needs(c.BoundedRead, "BoundedRead") },
			run:  boundedReads,
		},
	}
}

// reportCases returns the cases of the calls that report on the store.
func reportCases() []testCase {
	return []testCase{
		{
			name: "declarations",
			rule: "Subject.Can and the method Capabilities declare exactly the optional interfaces that the store implements. The owner is the store itself",
			run:  declarations,
		},
		{
			name:  "counts",
			rule:  "Counts returns numbers that are not negative, always under the same names, in a map that the caller owns",
			lacks: without[Counter]("the store does not implement middleware.Counter"),
			run:   counts,
		},
		{
			name:  "keeps tags",
			rule:  "KeepsTags returns the same answer while the settings of the server stay the same. If it is true, Invalidate finds every tagged entry",
			why:   func(c Capabilities) string { return needs(c.Tags, "Tags") },
			lacks: without[TagKeeper]("the store does not implement middleware.TagKeeper"),
			run:   keepsTags,
		},
		{
			name: "ping",
			rule: "Ping returns nil if the store answers, and the error of the context if the context has ended",
			why:  func(c Capabilities) string { return needs(c.Ping, "Ping") },
			run:  pings,
		},
	}
}

func pings(t *testing.T, s *subject) {
	p := s.Store.(Pinger)
	if err := p.Ping(t.Context()); err != nil {
		t.Errorf("Ping failed, although the store should answer: %v", err)
	}
	heeded(t, "Ping", p.Ping(cancelled(t.Context())))
}

func counts(t *testing.T, s *subject) {
	c := s.Store.(Counter)
	first := c.Counts()
	for name, n := range first {
		if name == "" || n < 0 {
			t.Errorf("Counts returned the count %d under the name %q, want a name and a count of 0 or more", n, name)
		}
	}
	names := slices.Sorted(maps.Keys(first))
	clear(first)
	s.set(t, "k", "v")
	s.holds(t, "Counts and Set", "k", "v")
	if again := slices.Sorted(maps.Keys(c.Counts())); !slices.Equal(names, again) {
		t.Errorf("Counts returned the names %q, then %q after the caller cleared the map, want the same names (return a copy)", names, again)
	}
}

func keepsTags(t *testing.T, s *subject) {
	k := s.Store.(TagKeeper)
	first, err := k.KeepsTags(t.Context())
	noError(t, "KeepsTags", err)
	s.set(t, "k", "v", store.WithTags([]string{"tag"}))
	if again, err := k.KeepsTags(t.Context()); err != nil || again != first {
		t.Errorf("the second call of KeepsTags %s, want %v, which the first call returned", outcome(fmt.Sprint(again), err), first)
	}
	if !first {
		return
	}
	s.invalidate(t, "tag")
	s.lacks(t, "KeepsTags, which returned true, and Invalidate of the tag that Set gave", "k")
}

// tricky is a prefix that a store which matches patterns must take literally, with neighbours that it would match.
type tricky struct {
	prefix     string
	neighbours []string
}
