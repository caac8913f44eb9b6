package storetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

func optionalCases() []testCase {
	return []testCase{
		{
			name: "declarations",
			rule: "what a store offers beyond gocache's interface is what is declared, neither less nor more",
			run:  declarations,
		},
		{
			name: "set if not exists",
			rule: "SetIfNotExists writes only where there is no entry, says whether it did, and of many one wins",
			why: func(c Capabilities) string {
				return unless(c.SetIfNotExists, "the store has no SetIfNotExists")
			},
			run: setIfNotExists,
		},
		{
			name: "swap",
			rule: "CompareAndSwap writes if and only if length and tail are those of the stored value",
			why:  func(c Capabilities) string { return unless(c.Swap, "the store has no CompareAndSwap") },
			run:  swap,
		},
		{
			name: "swap keeps TTL and tags",
			rule: "CompareAndSwap keeps the entry's tags, and its TTL when asked to",
			why:  func(c Capabilities) string { return unless(c.Swap, "the store has no CompareAndSwap") },
			run:  swapKeeps,
		},
		{
			name: "swap loses no update",
			rule: "of concurrent swaps from one value one succeeds: no update is lost",
			why:  func(c Capabilities) string { return unless(c.Swap, "the store has no CompareAndSwap") },
			run:  swapConcurrently,
		},
		{
			name: "enumerate",
			rule: "Keys names every entry that starts with the literal prefix once, and no tag set",
			why:  func(c Capabilities) string { return unless(c.Enumerate, "the store cannot enumerate") },
			run:  enumerate,
		},
		{
			name: "clear a prefix",
			rule: "ClearPrefix removes the entries and tags that start with the literal prefix, and nothing else",
			why:  func(c Capabilities) string { return unless(c.Enumerate, "the store cannot enumerate") },
			run:  clearPrefix,
		},
		{
			name: "invalidate within a prefix",
			rule: "InvalidatePrefix removes the tagged entries that start with the literal prefix; others lose the tag only",
			why: func(c Capabilities) string {
				return unless(c.InvalidatePrefix && c.Tags, "the store has no InvalidatePrefix")
			},
			run: invalidatePrefix,
		},
		{
			name: "owned bytes",
			rule: "GetBytes hands out the caller's own bytes, SetBytes is Set and has done with them when it returns",
			why:  func(c Capabilities) string { return unless(c.OwnedBytes, "the store does not hand out its bytes") },
			run:  ownedBytes,
		},
		{
			name: "bounded reads",
			rule: "GetBytesMax is GetBytes up to the limit; above it, an error has TooLarge() bool",
			why:  func(c Capabilities) string { return unless(c.BoundedRead, "the store has no GetBytesMax") },
			run:  boundedReads,
		},
		{
			name: "ping",
			rule: "Ping returns nil while the store answers, and its context's error",
			why:  func(c Capabilities) string { return unless(c.Ping, "the store has no Ping") },
			run: func(t *testing.T, s *subject) {
				p := s.Store.(Pinger)
				if err := p.Ping(t.Context()); err != nil {
					t.Errorf("Ping: %v", err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				if err := p.Ping(ctx); !errors.Is(err, context.Canceled) {
					t.Errorf("Ping with a cancelled context: %v", err)
				}
			},
		},
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
	if err := p.InvalidatePrefix(t.Context(), "p*:", store.WithInvalidateTags([]string{"t", "unknown"})); err != nil {
		t.Fatalf("InvalidatePrefix: %v", err)
	}
	s.lacks(t, "p*:1")
	s.lacks(t, "p*:2")
	s.invalidate(t, "t")
	for _, key := range []string{"p*", "px:1", "other", "p*:untagged"} {
		s.holds(t, key, "v")
	}
	s.invalidate(t, "u")
	s.lacks(t, "other")
	s.set(t, "other", "v", store.WithTags([]string{"t"}))
	if err := p.InvalidatePrefix(t.Context(), "", store.WithInvalidateTags([]string{"t"})); err != nil {
		t.Fatalf("InvalidatePrefix: %v", err)
	}
	s.lacks(t, "other")
	s.holds(t, "p*:untagged", "v")
}

func setIfNotExists(t *testing.T, s *subject) {
	nx := s.Store.(store.SetIfNotExistsStore)
	try := func(key, text string, options ...store.Option) bool {
		t.Helper()
		written, err := nx.SetIfNotExists(t.Context(), key, s.value(text), options...)
		if err != nil {
			t.Fatalf("SetIfNotExists: %v", err)
		}
		return written
	}
	if !try("k", "1") || try("k", "2") {
		t.Error("SetIfNotExists did not say what it did")
	}
	s.holds(t, "k", "1")
	if err := s.Store.Delete(t.Context(), "k"); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	if !try("k", "3") {
		t.Error("SetIfNotExists did not write after Delete")
	}
	s.holds(t, "k", "3")

	if s.Can.TTL.PerEntry {
		d := s.lifetime()
		if !try("short", "1", store.WithExpiration(d)) {
			t.Error("SetIfNotExists did not write")
		}
		eventually(t, d+s.Can.TTL.Resolution+5*time.Second, "SetIfNotExists writes over an expired entry", func() bool {
			return try("short", "2")
		})
		s.holds(t, "short", "2")
	}
	if s.Can.Tags {
		try("tagged", "1", store.WithTags([]string{"tag"}))
		try("k", "4", store.WithTags([]string{"tag"})) // not written: not tagged
		s.invalidate(t, "tag")
		s.lacks(t, "tagged")
		s.holds(t, "k", "3")
	}

	var won atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			written, err := nx.SetIfNotExists(t.Context(), "contended", s.value("v"))
			if err != nil {
				t.Errorf("SetIfNotExists: %v", err)
			}
			if written {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if n := won.Load(); n != 1 {
		t.Errorf("of 16 concurrent calls %d wrote", n)
	}
}

func swap(t *testing.T, s *subject) {
	sw := s.Store.(Swapper)
	try := func(old string, tail int, next string) bool {
		t.Helper()
		ok, err := sw.CompareAndSwap(t.Context(), "k", []byte(old), tail, []byte(next), -1)
		if err != nil {
			t.Fatalf("CompareAndSwap: %v", err)
		}
		return ok
	}
	if try("", 0, "new") || try("old", 0, "new") {
		t.Error("an absent entry was swapped")
	}
	s.lacks(t, "k")
	for _, c := range []struct {
		old  string
		tail int
		want bool
	}{
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
	} {
		s.set(t, "k", "head\x00tail")
		if got := try(c.old, c.tail, "new"); got != c.want {
			t.Errorf("CompareAndSwap of %q with tail %d over \"head\\x00tail\": %v, want %v", c.old, c.tail, got, c.want)
		}
		if c.want {
			s.holds(t, "k", "new")
		} else {
			s.holds(t, "k", "head\x00tail")
		}
	}
	s.set(t, "k", "")
	if !try("", 16, "not empty") {
		t.Error("an empty value was not swapped")
	}
	s.holds(t, "k", "not empty")
	if !try("not empty", 16, "") {
		t.Error("a value was not swapped for an empty one")
	}
	s.holds(t, "k", "")
}

func swapKeeps(t *testing.T, s *subject) {
	sw := s.Store.(Swapper)
	ttlAfter := func(set, asked time.Duration) time.Duration {
		t.Helper()
		s.set(t, "k", "old", store.WithTags([]string{"tag"}), store.WithExpiration(set))
		if ok, err := sw.CompareAndSwap(t.Context(), "k", []byte("old"), 0, []byte("new"), asked); err != nil || !ok {
			t.Fatalf("CompareAndSwap: %v, %v", ok, err)
		}
		_, ttl, err := s.Store.GetWithTTL(t.Context(), "k")
		if err != nil {
			t.Fatalf("GetWithTTL: %v", err)
		}
		s.invalidate(t, "tag")
		s.lacks(t, "k")
		return ttl
	}
	near := func(got, want time.Duration) bool { return got <= want && got > want-time.Minute }
	if got := ttlAfter(time.Hour, -1); !near(got, time.Hour) {
		t.Errorf("a TTL that was to be kept is %v, was an hour", got)
	}
	if got := ttlAfter(0, -1); got > 0 {
		t.Errorf("no TTL was to be kept, and it is %v", got)
	}
	if got := ttlAfter(time.Hour, 0); got > 0 {
		t.Errorf("the TTL was to go, and is %v", got)
	}
	if got := ttlAfter(time.Hour, 2*time.Hour); !near(got, 2*time.Hour) {
		t.Errorf("the TTL was to be two hours, and is %v", got)
	}
	if got := ttlAfter(0, 2*time.Hour); !near(got, 2*time.Hour) {
		t.Errorf("the TTL was to be two hours, and is %v", got)
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
					t.Errorf("Get: %v", err)
					return
				}
				n, err := strconv.Atoi(textOf(value))
				if err != nil {
					t.Errorf("the counter is not a number")
					return
				}
				ok, err := sw.CompareAndSwap(t.Context(), "n", []byte(textOf(value)), 16, []byte(strconv.Itoa(n+1)), -1)
				if err != nil {
					t.Errorf("CompareAndSwap: %v", err)
					return
				}
				if ok {
					done++
				}
			}
		})
	}
	wg.Wait()
	s.holds(t, "n", strconv.Itoa(workers*each))
}

// tricky is a prefix that a store which matches patterns must take literally, with neighbours that it would match.
type tricky struct {
	prefix     string
	neighbours []string
}

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
		if err := s.Store.Clear(t.Context()); err != nil {
			t.Fatalf("Clear: %v", err)
		}
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
			if err != nil {
				t.Fatalf("Keys: %v", err)
			}
			got[key] = true
		}
		for key := range got {
			if !want[key] {
				t.Errorf("Keys(%q) named %q", prefix, key)
			}
		}
		if len(got) < len(want) {
			t.Errorf("Keys(%q) named %d of %d entries", prefix, len(got), len(want))
		}
		n := 0
		for range e.Keys(t.Context(), "") {
			n++
		}
		if all := len(want) + len(neighbours); n < all || n > all+all/10 {
			t.Errorf("Keys(\"\") named %d entries, want %d: tag sets are none, and names are rarely given twice", n, all)
		}
	}
	n := 0
	for range e.Keys(t.Context(), "") {
		if n++; n == 2 {
			break
		}
	}
	for range e.Keys(t.Context(), "absent") {
		t.Error("Keys named an entry that is not there")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	errs := 0
	for _, err := range e.Keys(ctx, "") {
		if errs++; !errors.Is(err, context.Canceled) {
			t.Errorf("Keys with a cancelled context: %v", err)
		}
	}
	if errs != 1 {
		t.Errorf("Keys with a cancelled context yielded %d times, want its error once", errs)
	}
}

func clearPrefix(t *testing.T, s *subject) {
	e := s.Store.(Enumerator)
	for _, c := range trickyPrefixes() {
		prefix, neighbours := c.prefix, c.neighbours
		if err := s.Store.Clear(t.Context()); err != nil {
			t.Fatalf("Clear: %v", err)
		}
		for i := range 300 {
			s.set(t, fmt.Sprint(prefix, i), "v", store.WithTags([]string{prefix + "tag"}))
		}
		s.set(t, prefix, "v")
		s.set(t, "elsewhere", "v", store.WithTags([]string{prefix + "tag", "tag"}))
		for _, key := range neighbours {
			s.set(t, key, "v", store.WithTags([]string{"tag"}))
		}
		if err := e.ClearPrefix(t.Context(), prefix); err != nil {
			t.Fatalf("ClearPrefix: %v", err)
		}
		for key, err := range e.Keys(t.Context(), prefix) {
			if err != nil {
				t.Fatalf("Keys: %v", err)
			}
			if strings.HasPrefix(key, prefix) {
				t.Fatalf("ClearPrefix(%q) left an entry", prefix)
			}
		}
		s.invalidate(t, prefix+"tag") // the tag is gone: this finds nothing
		for _, key := range append(neighbours, "elsewhere") {
			s.holds(t, key, "v")
		}
		s.invalidate(t, "tag") // this one is not
		for _, key := range append(neighbours, "elsewhere") {
			s.lacks(t, key)
		}
	}
}

func ownedBytes(t *testing.T, s *subject) {
	b := s.Store.(BytesStore)
	_, err := b.GetBytes(t.Context(), "absent")
	_, _, err2 := b.GetBytesWithTTL(t.Context(), "absent")
	if !errors.Is(err, store.NotFound{}) || !errors.Is(err2, store.NotFound{}) {
		t.Errorf("of an absent key: %v, %v; want store.NotFound", err, err2)
	}
	given := []byte("0123456789")
	const d = time.Hour + 345*time.Millisecond
	start := time.Now()
	if err := b.SetBytes(t.Context(), "k", given, store.WithExpiration(d), store.WithTags([]string{"tag"})); err != nil {
		t.Fatalf("SetBytes: %v", err)
	}
	if string(given) != "0123456789" {
		t.Error("SetBytes changed what it was given")
	}
	clear(given)
	for range 2 {
		got, err := b.GetBytes(t.Context(), "k")
		if err != nil || string(got) != "0123456789" {
			t.Fatalf("GetBytes: %q, %v", got, err)
		}
		clear(got[:cap(got)])
		got, ttl, err := b.GetBytesWithTTL(t.Context(), "k")
		if err != nil || string(got) != "0123456789" {
			t.Fatalf("GetBytesWithTTL: %q, %v", got, err)
		}
		if elapsed := time.Since(start); ttl > d || ttl < d-elapsed-time.Millisecond {
			t.Errorf("GetBytesWithTTL reports %v, %v after %v was set; it should be exact to the millisecond", ttl, elapsed, d)
		}
		clear(got[:cap(got)])
	}
	s.holds(t, "k", "0123456789")
	s.set(t, "k", "set", store.WithExpiration(0))
	got, ttl, err := b.GetBytesWithTTL(t.Context(), "k")
	if err != nil || string(got) != "set" || ttl != 0 {
		t.Errorf("GetBytesWithTTL: %q, %v, %v", got, ttl, err)
	}
	if s.Can.Strings.taken() {
		if err := s.Store.Set(t.Context(), "k", "a string"); err != nil {
			t.Fatalf("Set: %v", err)
		}
		if got, err := b.GetBytes(t.Context(), "k"); err != nil || string(got) != "a string" {
			t.Errorf("GetBytes of a string: %q, %v", got, err)
		}
	}
	s.invalidate(t, "tag")
	s.lacks(t, "k")
	if err := b.SetBytes(t.Context(), "k", nil); err != nil {
		t.Fatalf("SetBytes of nil: %v", err)
	}
	if got, err := b.GetBytes(t.Context(), "k"); err != nil || len(got) != 0 {
		t.Errorf("GetBytes of an empty value: %q, %v", got, err)
	}
}

func boundedReads(t *testing.T, s *subject) {
	b := s.Store.(BoundedReader)
	const limit = 100
	for _, size := range []int{0, 1, limit - 1, limit, limit + 1, 10 * limit} {
		s.set(t, "k", strings.Repeat("x", size), store.WithExpiration(time.Hour))
		read := map[string]func(limit int) ([]byte, time.Duration, error){
			"GetBytesMax": func(limit int) ([]byte, time.Duration, error) {
				value, err := b.GetBytesMax(t.Context(), "k", limit)
				return value, time.Hour, err
			},
			"GetBytesWithTTLMax": func(limit int) ([]byte, time.Duration, error) {
				return b.GetBytesWithTTLMax(t.Context(), "k", limit)
			},
		}
		for name, get := range read {
			value, ttl, err := get(limit)
			var large interface{ TooLarge() bool }
			switch {
			case size > limit && (!errors.As(err, &large) || !large.TooLarge()):
				t.Errorf("%s of %d bytes with a limit of %d: %v, want an error with TooLarge", name, size, limit, err)
			case size > limit && errors.Is(err, store.NotFound{}):
				t.Errorf("%s: a value that is too large is not a miss", name)
			case size <= limit && (err != nil || len(value) != size):
				t.Errorf("%s of %d bytes with a limit of %d: %d bytes, %v", name, size, limit, len(value), err)
			case err == nil && s.Can.TTL.Reported && (ttl <= 59*time.Minute || ttl > time.Hour):
				t.Errorf("%s: the TTL is %v, want an hour", name, ttl)
			}
			if value, _, err := get(0); size == 0 && (err != nil || value == nil || len(value) != 0) {
				t.Errorf("%s of an empty value with a limit of 0: %v, %v", name, value, err)
			}
		}
	}
	if _, err := b.GetBytesMax(t.Context(), "absent", limit); !errors.Is(err, store.NotFound{}) {
		t.Errorf("GetBytesMax of an absent key: %v, want store.NotFound", err)
	}
	if _, _, err := b.GetBytesWithTTLMax(t.Context(), "absent", limit); !errors.Is(err, store.NotFound{}) {
		t.Errorf("GetBytesWithTTLMax of an absent key: %v, want store.NotFound", err)
	}
}
