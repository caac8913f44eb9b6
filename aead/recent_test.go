package aead

import (
	"maps"
	"testing"
)

// Entries go in the order in which they came, also if one was replaced or deleted.
func TestRecentDropsTheOldest(t *testing.T) {
	t.Parallel()
	var r recent[string, int]
	want := func(want map[string]int) {
		t.Helper()
		if !maps.Equal(r.m, want) || len(r.order) > 3 {
			t.Errorf("%v in the order %q, want %v", r.m, r.order, want)
		}
	}
	for i, key := range []string{"a", "b", "c"} {
		r.set(key, i, 3)
	}
	r.set("a", 9, 3)
	want(map[string]int{"a": 9, "b": 1, "c": 2})
	r.set("d", 3, 3)
	want(map[string]int{"b": 1, "c": 2, "d": 3})
	delete(r.m, "b")
	r.set("e", 4, 3)
	want(map[string]int{"c": 2, "d": 3, "e": 4})
	for range 10000 {
		r.set("x", 0, 3)
		r.set("y", 0, 3)
		r.set("z", 0, 3)
	}
	want(map[string]int{"x": 0, "y": 0, "z": 0})
}
