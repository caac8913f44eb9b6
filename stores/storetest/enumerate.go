package storetest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
)

func trickyPrefixes() []tricky {
	return []tricky{
		{"plain:", []string{"plain", "plain;", "Plain:a", "xplain:a"}},
		{"a*:", []string{"ab:1", "a:1", "a\\*:1"}},
		{"a?:", []string{"ab:1", "a\\?:1"}},
		{"a[bc]:", []string{"ab:1", "ac:1"}},
		{"a\\:", []string{"a:1", "a\\\\:1"}},
		{"a^-]:", []string{"a^:1"}},
		{"\x00\n", []string{"\x00", "\n"}},
	}
}

func enumerate(t *testing.T, s *subject) {
	e := s.Store.(Enumerator)
	for _, c := range trickyPrefixes() {
		prefix, neighbours := c.prefix, c.neighbours
		noError(t, "Clear", s.Store.Clear(t.Context()))
		want := map[string]bool{}
		for i := range 300 {
			want[prefix+strconv.Itoa(i)] = true
		}
		want[prefix] = true
		for key := range want {
			s.set(t, key, "v", store.WithTags([]string{prefix + "tag"}))
		}
		for _, key := range neighbours {
			s.set(t, key, "v")
		}
		got := map[string]bool{}
		for key, err := range e.Keys(t.Context(), prefix) {
			noError(t, "Keys", err)
			got[key] = true
		}
		for key := range got {
			switch {
			case !strings.HasPrefix(key, prefix):
				t.Errorf("Keys(%q) returned the key %q, which does not start with that prefix", prefix, key)
			case !want[key]:
				t.Errorf("Keys(%q) returned the key %q, which was not set", prefix, key)
			}
		}
		if len(got) < len(want) {
			t.Errorf("Keys(%q) returned only %d of %d keys", prefix, len(got), len(want))
		}
		n := 0
		for range e.Keys(t.Context(), "") {
			n++
		}
		if all := len(want) + len(neighbours); n < all || n > all+all/10 {
			t.Errorf("Keys(\"\") returned %d keys, want about %d (are names of tags or repeated keys among the results?)", n, all)
		}
	}
	n := 0
	for range e.Keys(t.Context(), "") {
		if n++; n == 2 {
			break
		}
	}
	for key, err := range e.Keys(t.Context(), "absent") {
		noError(t, "Keys(\"absent\")", err)
		t.Errorf("Keys(\"absent\") returned the key %q, although no key starts with that prefix", key)
	}
	errs := 0
	for _, err := range e.Keys(cancelled(t.Context()), "") {
		errs++
		heeded(t, "Keys", err)
	}
	if errs != 1 {
		t.Errorf("Keys with a cancelled context yielded %d times, want once, with the error", errs)
	}
}

func clearPrefix(t *testing.T, s *subject) {
	e := s.Store.(Enumerator)
	for _, c := range trickyPrefixes() {
		prefix, neighbours := c.prefix, c.neighbours
		noError(t, "Clear", s.Store.Clear(t.Context()))
		for i := range 300 {
			s.set(t, fmt.Sprint(prefix, i), "v", store.WithTags([]string{prefix + "tag"}))
		}
		s.set(t, prefix, "v")
		s.set(t, "elsewhere", "v", store.WithTags([]string{prefix + "tag", "tag"}))
		for _, key := range neighbours {
			s.set(t, key, "v", store.WithTags([]string{"tag"}))
		}
		noError(t, "ClearPrefix", e.ClearPrefix(t.Context(), prefix))
		for key, err := range e.Keys(t.Context(), prefix) {
			noError(t, "Keys", err)
			if strings.HasPrefix(key, prefix) {
				t.Fatalf("ClearPrefix(%q) left an entry whose key starts with that prefix", prefix)
			}
		}
		s.invalidate(t, prefix+"tag") // the tag is gone: this finds nothing
		for _, key := range append(neighbours, "elsewhere") {
			s.holds(t, fmt.Sprintf("ClearPrefix(%q) and Invalidate of a tag with that prefix", prefix), key, "v")
		}
		s.invalidate(t, "tag") // this one is not
		for _, key := range append(neighbours, "elsewhere") {
			s.lacks(t, fmt.Sprintf("ClearPrefix(%q) and Invalidate of a tag without that prefix", prefix), key)
		}
	}
}

func invalidatePrefix(t *testing.T, s *subject) {
	for _, key := range []string{"p*:1", "p*:2", "p*", "px:1", "other", "p*:untagged"} {
		if key == "p*:untagged" {
			s.set(t, key, "v")
			continue
		}
		s.set(t, key, "v", store.WithTags([]string{"t", "u"}))
	}
	p := s.Store.(PrefixInvalidator)
	noError(t, "InvalidatePrefix", p.InvalidatePrefix(t.Context(), "p*:", store.WithInvalidateTags([]string{"t", "unknown"})))
	s.lacks(t, "InvalidatePrefix with the prefix \"p*:\" and a tag of the entry", "p*:1")
	s.lacks(t, "InvalidatePrefix with the prefix \"p*:\" and a tag of the entry", "p*:2")
	s.invalidate(t, "t")
	for _, key := range []string{"p*", "px:1", "other", "p*:untagged"} {
		s.holds(t, "InvalidatePrefix with the prefix \"p*:\", and Invalidate of the same tag", key, "v")
	}
	s.invalidate(t, "u")
	s.lacks(t, "InvalidatePrefix with another prefix, and Invalidate of another tag of the entry", "other")
	s.set(t, "other", "v", store.WithTags([]string{"t"}))
	noError(t, "InvalidatePrefix", p.InvalidatePrefix(t.Context(), "", store.WithInvalidateTags([]string{"t"})))
	s.lacks(t, "InvalidatePrefix with an empty prefix and the tag of the entry", "other")
	s.holds(t, "InvalidatePrefix with a tag of another entry", "p*:untagged", "v")
}
