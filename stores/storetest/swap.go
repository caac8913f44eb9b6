package storetest

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

func setIfNotExists(t *testing.T, s *subject) {
	nx := s.Store.(store.SetIfNotExistsStore)
	try := func(key, text string, options ...store.Option) bool {
		t.Helper()
		written, err := nx.SetIfNotExists(t.Context(), key, s.value(text), options...)
		noError(t, "SetIfNotExists", err)
		return written
	}
	if !try("k", "1") {
		t.Error("SetIfNotExists of an absent key returned false, want true")
	} else if try("k", "2") {
		t.Error("SetIfNotExists of a key that has an entry returned true, want false")
	}
	s.holds(t, "SetIfNotExists of an absent key, and again of the same key", "k", "1")
	noError(t, "Delete", s.Store.Delete(t.Context(), "k"))
	if !try("k", "3") {
		t.Error("SetIfNotExists did not write a key that was deleted before")
	}
	s.holds(t, "Delete and SetIfNotExists", "k", "3")

	if s.Can.TTL.PerEntry {
		d := s.lifetime()
		if !try("short", "1", store.WithExpiration(d)) {
			t.Error("SetIfNotExists with an expiration did not write an absent key")
		}
		eventually(t, d+s.Can.TTL.Resolution+patience, "SetIfNotExists has replaced the expired entry", func() bool {
			return try("short", "2")
		})
		s.holds(t, "SetIfNotExists of a key whose entry has expired", "short", "2")
	}
	if s.Can.Tags {
		try("tagged", "1", store.WithTags([]string{"tag"}))
		try("k", "4", store.WithTags([]string{"tag"})) // not written: not tagged
		s.invalidate(t, "tag")
		s.lacks(t, "SetIfNotExists with a tag, and Invalidate of the tag", "tagged")
		s.holds(t, "SetIfNotExists with a tag, which wrote nothing, and Invalidate of the tag", "k", "3")
	}

	var won atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			written, err := nx.SetIfNotExists(t.Context(), "contended", s.value("v"))
			if err != nil {
				t.Errorf("SetIfNotExists failed in concurrent calls: %v", err)
			}
			if written {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("of 16 concurrent calls of SetIfNotExists, %d wrote, want 1", n)
	}
}

// comparison is a call of a method that compares, and whether the value "head\x00tail" matches.
type comparison struct {
	old  string
	tail int
	want bool
}

func comparisons() []comparison {
	return []comparison{
		{"head\x00tail", 0, true},
		{"head\x00tail", -1, true},
		{"head\x00tail", 4, true},
		{"head\x00tail", 9, true},
		{"head\x00tail", 100, true},
		{"HEAD\x00tail", 4, true},
		{"HEAD\x00tail", 0, false},
		{"HEAD\x00tail", 9, false},
		{"HEAD\x00tail", 100, false},
		{"head\x00taiL", 1, false},
		{"ead\x00tail", 4, false},
		{"xhead\x00tail", 4, false},
		{"", 0, false},
	}
}

func swap(t *testing.T, s *subject) {
	sw := s.Store.(Swapper)
	try := func(old string, tail int, next string) bool {
		t.Helper()
		ok, err := sw.CompareAndSwap(t.Context(), "k", []byte(old), tail, []byte(next), -1)
		noError(t, "CompareAndSwap", err)
		return ok
	}
	if try("", 0, "new") || try("old", 0, "new") {
		t.Error("CompareAndSwap of an absent entry returned true, want false")
	}
	s.lacks(t, "CompareAndSwap of an absent key", "k")
	for _, c := range comparisons() {
		s.set(t, "k", "head\x00tail")
		call := fmt.Sprintf("CompareAndSwap with old %q and tail %d", c.old, c.tail)
		if got := try(c.old, c.tail, "new"); got != c.want {
			t.Errorf("%s returned %v, want %v, because the value is \"head\\x00tail\"", call, got, c.want)
		}
		if c.want {
			s.holds(t, call, "k", "new")
		} else {
			s.holds(t, call, "k", "head\x00tail")
		}
	}
	s.set(t, "k", "")
	if !try("", 16, "not empty") {
		t.Error("CompareAndSwap with old \"\" and tail 16 returned false, want true, because the value is empty")
	}
	s.holds(t, "CompareAndSwap of an empty value", "k", "not empty")
	if !try("not empty", 16, "") {
		t.Error("CompareAndSwap with old \"not empty\", which is stored, tail 16 and next \"\" returned false, want true")
	}
	s.holds(t, "CompareAndSwap with an empty next", "k", "")
}

func swapKeeps(t *testing.T, s *subject) {
	sw := s.Store.(Swapper)
	ttlAfter := func(set, asked time.Duration) time.Duration {
		t.Helper()
		s.set(t, "k", "old", store.WithTags([]string{"tag"}), store.WithExpiration(set))
		if ok, err := sw.CompareAndSwap(t.Context(), "k", []byte("old"), 0, []byte("new"), asked); err != nil || !ok {
			t.Fatalf("CompareAndSwap with old \"old\" %s, want true, because the value is \"old\"", outcome(fmt.Sprint(ok), err))
		}
		_, ttl, err := s.Store.GetWithTTL(t.Context(), "k")
		noError(t, "GetWithTTL", err)
		s.invalidate(t, "tag")
		s.lacks(t, "CompareAndSwap and Invalidate of the tag that Set gave", "k")
		return ttl
	}
	near := func(got, want time.Duration) bool { return got <= want && got > want-time.Minute }
	if got := ttlAfter(time.Hour, -1); !near(got, time.Hour) {
		t.Errorf("after a CompareAndSwap that keeps the TTL, the TTL is %v, want one hour", got)
	}
	if got := ttlAfter(0, -1); got > 0 {
		t.Errorf("a CompareAndSwap that keeps the TTL gave the TTL %v to an entry that had none, want none", got)
	}
	if got := ttlAfter(time.Hour, 0); got > 0 {
		t.Errorf("after a CompareAndSwap with the TTL 0, the TTL is %v, want none", got)
	}
	if got := ttlAfter(time.Hour, 2*time.Hour); !near(got, 2*time.Hour) {
		t.Errorf("after a CompareAndSwap with a TTL of two hours, the TTL is %v, want two hours", got)
	}
	if got := ttlAfter(0, 2*time.Hour); !near(got, 2*time.Hour) {
		t.Errorf("after a CompareAndSwap with a TTL of two hours (the entry had no TTL), the TTL is %v, want two hours", got)
	}
}

func swapConcurrently(t *testing.T, s *subject) {
	sw := s.Store.(Swapper)
	const workers, each = 8, 25
	s.set(t, "n", "0")
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for done := 0; done < each; {
				value, err := s.Store.Get(t.Context(), "n")
				if err != nil {
					t.Errorf("Get failed in concurrent calls: %v", err)
					return
				}
				n, err := strconv.Atoi(textOf(value))
				if err != nil {
					t.Errorf("after concurrent calls of CompareAndSwap, Get returned %q, want a decimal number", textOf(value))
					return
				}
				ok, err := sw.CompareAndSwap(t.Context(), "n", []byte(textOf(value)), 16, []byte(strconv.Itoa(n+1)), -1)
				if err != nil {
					t.Errorf("CompareAndSwap failed in concurrent calls: %v", err)
					return
				}
				if ok {
					done++
				}
			}
		})
	}
	wg.Wait()
	s.holds(t, "concurrent calls of CompareAndSwap, of which 200 added 1 each", "n", strconv.Itoa(workers*each))
}
