package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

func atomicCases() []testCase {
	atomicStore := without[AtomicStore]("the store does not implement middleware.AtomicStore")
	batchStore := without[BatchStore]("the store does not implement middleware.BatchStore")
	return []testCase{
		{
			name:  "compare and delete",
			rule:  "CompareAndDelete deletes a value if it has the length and the last tail bytes of old (tail below 1: all bytes). It reports whether it deleted",
			lacks: atomicStore,
			run:   compareAndDelete,
		},
		{
			name:  "compare and expire",
			rule:  "CompareAndExpire sets only the TTL, if the value has the length and the last tail bytes of old (tail below 1: all bytes)",
			why:   func(c Capabilities) string { return needs(c.TTL.Reported, "TTL.Reported") },
			lacks: atomicStore,
			run:   compareAndExpire,
		},
		{
			name:  "compare and set",
			rule:  "CompareAndSet does what Set does, if the value has the length and the last tail bytes of old (tail below 1: all bytes)",
			lacks: atomicStore,
			run:   compareAndSet,
		},
		{
			name:  "delete once",
			rule:  "of concurrent calls of CompareAndDelete for one value, none fails and exactly one deletes the value",
			lacks: atomicStore,
			run:   deleteOnce,
		},
		{
			name:  "read to swap",
			rule:  "GetBytesToSwap does what GetBytesWithTTL does. For a value over the limit, the method TooLarge() of the error returns true",
			lacks: atomicStore,
			run:   readToSwap,
		},
		{
			name:  "extend tags",
			rule:  "ExtendTags adds an entry to tags, and does not change the entry",
			why:   func(c Capabilities) string { return needs(c.Tags, "Tags") },
			lacks: without[TagExtender]("the store does not implement middleware.TagExtender"),
			run: func(t *testing.T, s *subject) {
				s.set(t, "k", "v")
				noError(t, "ExtendTags", s.Store.(TagExtender).ExtendTags(t.Context(), "k", []string{"a", "b"}, time.Hour))
				s.holds(t, "ExtendTags", "k", "v")
				s.invalidate(t, "b")
				s.lacks(t, "ExtendTags and Invalidate of the second tag", "k")
			},
		},
		{
			name:  "batches",
			rule:  "a batch does for each key what the call for one key does. GetBytesMany returns nil for absent entries only",
			lacks: batchStore,
			run:   batches,
		},
		{
			name:  "large batches",
			rule:  "GetBytesMany, SetBytesMany and DeleteMany process the whole batch, even with thousands of entries or large values",
			lacks: batchStore,
			run:   largeBatches,
		},
		{
			name:  "failing batches",
			rule:  "a batch returns an error for each key that failed, in the order of keys, and writes nothing under these keys",
			lacks: batchStore,
			run:   failingBatches,
		},
	}
}

func compareAndDelete(t *testing.T, s *subject) {
	a := s.Store.(AtomicStore)
	for _, c := range comparisons() {
		s.set(t, "k", "head\x00tail")
		call := fmt.Sprintf("CompareAndDelete with old %q and tail %d", c.old, c.tail)
		deleted, err := a.CompareAndDelete(t.Context(), "k", []byte(c.old), c.tail)
		if err != nil || deleted != c.want {
			t.Errorf("%s %s, want %v, because the value is \"head\\x00tail\"", call, outcome(fmt.Sprint(deleted), err), c.want)
		}
		if c.want {
			s.lacks(t, call, "k")
		} else {
			s.holds(t, call, "k", "head\x00tail")
		}
	}
	if deleted, err := a.CompareAndDelete(t.Context(), "absent", nil, 0); deleted || err != nil {
		t.Errorf("CompareAndDelete of an absent entry %s, want false and no error", outcome(fmt.Sprint(deleted), err))
	}
	s.set(t, "k", "")
	if deleted, err := a.CompareAndDelete(t.Context(), "k", nil, 16); !deleted || err != nil {
		t.Errorf("CompareAndDelete with old \"\" and tail 16 %s, want true, because the value is empty", outcome(fmt.Sprint(deleted), err))
	}
}

func compareAndExpire(t *testing.T, s *subject) {
	a := s.Store.(AtomicStore)
	left := func() time.Duration {
		t.Helper()
		_, ttl, err := s.Store.GetWithTTL(t.Context(), "k")
		noError(t, "GetWithTTL", err)
		return ttl
	}
	expire := func(stored, old string, tail int, ttl time.Duration, want bool) {
		t.Helper()
		if done, err := a.CompareAndExpire(t.Context(), "k", []byte(old), tail, ttl); err != nil || done != want {
			t.Fatalf("CompareAndExpire with old %q and tail %d %s, want %v, because the value is %s", old, tail, outcome(fmt.Sprint(done), err), want, stored)
		}
	}
	near := func(want time.Duration, source string) {
		t.Helper()
		if got := left(); got > want || got <= want-time.Minute {
			t.Fatalf("after CompareAndExpire, GetWithTTL returned the TTL %v, want %v, which %s", got, want, source)
		}
	}
	expire("absent", "value", 0, time.Hour, false)
	s.lacks(t, "CompareAndExpire of an absent key", "k")
	s.set(t, "k", "value", store.WithExpiration(time.Hour), store.WithTags([]string{"tag"}))
	expire(`"value"`, "Value", 0, 2*time.Hour, false)
	near(time.Hour, "Set was given, because CompareAndExpire returned false")
	expire(`"value"`, "Value", 4, 2*time.Hour, true)
	near(2*time.Hour, "CompareAndExpire was given")
	expire(`"value"`, "value", 0, 0, true)
	if got := left(); got > 0 {
		t.Fatalf("CompareAndExpire with a TTL of 0 left the TTL %v, want none", got)
	}
	expire(`"value"`, "value", 0, 3*time.Hour, true)
	near(3*time.Hour, "CompareAndExpire was given")
	s.holds(t, "several calls of CompareAndExpire", "k", "value")
	if s.Can.Tags {
		s.invalidate(t, "tag")
		s.lacks(t, "CompareAndExpire and Invalidate of the tag that Set gave", "k")
	}
}

func compareAndSet(t *testing.T, s *subject) {
	a := s.Store.(AtomicStore)
	set := func(stored, old string, tail int, want bool, options ...store.Option) {
		const next = "second"
		t.Helper()
		done, err := a.CompareAndSet(t.Context(), "k", []byte(old), tail, []byte(next), options...)
		if err != nil || done != want {
			t.Fatalf("CompareAndSet with old %q and tail %d %s, want %v, because the value is %s", old, tail, outcome(fmt.Sprint(done), err), want, stored)
		}
	}
	tagged := store.WithTags([]string{"a", "b"})
	if !s.Can.Tags {
		tagged = store.WithTags(nil)
	}
	set("absent", "head\x00tail", 0, false, tagged)
	set("absent", "", 0, false)
	s.lacks(t, "CompareAndSet of an absent key", "k")
	for _, c := range comparisons() {
		s.set(t, "k", "head\x00tail")
		set(`"head\x00tail"`, c.old, c.tail, c.want, tagged, store.WithExpiration(time.Hour))
		want := "head\x00tail"
		if c.want {
			want = "second"
		}
		call := fmt.Sprintf("CompareAndSet with old %q and tail %d", c.old, c.tail)
		s.holds(t, call, "k", want)
		if _, ttl, err := s.Store.GetWithTTL(t.Context(), "k"); s.Can.TTL.Reported && (err != nil || (ttl > 0) != c.want || ttl > time.Hour) {
			ttlWanted := "no TTL, because the value was not replaced"
			if c.want {
				ttlWanted = "the TTL of the call, an hour"
			}
			t.Errorf("after %s, GetWithTTL %s, want %s", call, outcome("the TTL "+ttl.String(), err), ttlWanted)
		}
		if !s.Can.Tags {
			continue
		}
		s.invalidate(t, "b")
		if c.want {
			s.lacks(t, call+" (with a tag), and Invalidate of the tag", "k")
		} else {
			s.holds(t, call+" (with a tag; returned false), and Invalidate of the tag", "k", want)
		}
	}
	s.set(t, "k", "", store.WithExpiration(time.Hour))
	set("empty", "", 16, true)
	if _, ttl, err := s.Store.GetWithTTL(t.Context(), "k"); s.Can.TTL.Reported && (err != nil || ttl > 0) {
		t.Errorf("after CompareAndSet without expiration of an entry with TTL 1h, GetWithTTL %s, want no TTL", outcome("the TTL "+ttl.String(), err))
	}
	if s.Can.TTL.NegativeIsError {
		done, err := a.CompareAndSet(t.Context(), "k", []byte("second"), 0, nil, store.WithExpiration(-time.Second))
		if err == nil {
			t.Error("CompareAndSet with a negative expiration returned no error, want one")
		} else if done {
			t.Error("CompareAndSet with a negative expiration returned true beside its error, want false")
		}
		s.holds(t, "CompareAndSet with a negative expiration", "k", "second")
	}
	s.holds(t, "CompareAndSet of an empty value", "k", "second")
}

func deleteOnce(t *testing.T, s *subject) {
	a := s.Store.(AtomicStore)
	for range 20 {
		s.set(t, "k", "token")
		var deleted atomic.Int32
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 16 {
			wg.Go(func() {
				<-start
				done, err := a.CompareAndDelete(t.Context(), "k", []byte("token"), 0)
				if err != nil {
					t.Errorf("CompareAndDelete failed in concurrent calls: %v", err)
				}
				if done {
					deleted.Add(1)
				}
			})
		}
		close(start)
		wg.Wait()
		if n := deleted.Load(); n != 1 {
			t.Errorf("of 16 concurrent calls of CompareAndDelete, %d deleted the entry, want 1", n)
			return
		}
	}
}

func readToSwap(t *testing.T, s *subject) {
	a := s.Store.(AtomicStore)
	_, _, err := a.GetBytesToSwap(t.Context(), "absent", 10)
	notFound(t, "GetBytesToSwap", err)
	for _, text := range []string{"", "head\x00tail", "0123456789"} {
		s.set(t, "k", text, store.WithExpiration(time.Hour))
		value, ttl, err := a.GetBytesToSwap(t.Context(), "k", 10)
		if err != nil || value == nil || string(value) != text {
			t.Errorf("GetBytesToSwap with a limit of 10 bytes %s, want %q, which was set (never a nil slice)", outcome(bytesText(value), err), text)
		}
		if err == nil && s.Can.TTL.Reported && (ttl > time.Hour || ttl < 59*time.Minute) {
			t.Errorf("GetBytesToSwap returned the TTL %v for an entry that was set with a TTL of one hour", ttl)
		}
	}
	s.set(t, "k", "0123456789x")
	_, _, err = a.GetBytesToSwap(t.Context(), "k", 10)
	switch {
	case !tooLarge(err):
		t.Errorf("GetBytesToSwap of 11 bytes with a limit of 10 returned %s, want an error whose TooLarge() is true", errorText(err))
	case errors.Is(err, store.NotFound{}):
		t.Error("GetBytesToSwap of 11 bytes with a limit of 10 returned an error that wraps store.NotFound, want another error")
	}
	if _, ttl, err := a.GetBytesToSwap(t.Context(), "k", math.MaxInt); err != nil || ttl != 0 {
		t.Errorf("GetBytesToSwap with the limit math.MaxInt %s, want the TTL 0, because Set gave no expiration", outcome("the TTL "+ttl.String(), err))
	}
}

func batches(t *testing.T, s *subject) {
	b := s.Store.(BatchStore)
	keys := []string{"a", "b", "empty", "c"}
	values := [][]byte{[]byte("1"), []byte("2\x00"), {}, []byte("3")}
	options := []store.Option{store.WithExpiration(time.Hour)}
	if s.Can.Tags {
		options = append(options, store.WithTags([]string{"tag", "other"}))
	}
	noErrors(t, "SetBytesMany of 4 entries", b.SetBytesMany(t.Context(), keys, values, options...))
	for _, v := range values {
		for i := range v {
			v[i] = 'x' // the store no longer uses it
		}
	}
	s.holds(t, "SetBytesMany (the caller has since changed the values that it gave)", "a", "1")
	asked := []string{"c", "absent", "empty", "a", "a", "b"}
	for _, limit := range []int{math.MaxInt, 2} {
		got := getMany(t, b, asked, limit)
		for i, want := range []any{"3", nil, "", "1", "1", "2\x00"} {
			switch {
			case want == nil && got[i] != nil:
				t.Errorf("GetBytesMany returned %q for a key that is absent, want a nil slice", got[i])
			case want != nil && (got[i] == nil || string(got[i]) != want):
				t.Errorf("after SetBytesMany, GetBytesMany returned %s for the key %q, want %q (never a nil slice)", bytesText(got[i]), asked[i], want)
			}
		}
		got[3][0] = 'y' // the caller owns it
		s.holds(t, "GetBytesMany (the caller has since changed a value that it got)", "a", "1")
	}
	limitedBatch(t, b)
	if s.Can.TTL.Reported {
		if _, ttl, err := s.Store.GetWithTTL(t.Context(), "b"); err != nil || ttl > time.Hour || ttl < 59*time.Minute {
			t.Errorf("after SetBytesMany with an expiration of one hour, GetWithTTL %s, want one hour", outcome("the TTL "+ttl.String(), err))
		}
	}
	gone := []string{"a", "absent", "a", "empty"}
	noErrors(t, fmt.Sprintf("DeleteMany of the keys %q", gone), b.DeleteMany(t.Context(), gone))
	s.lacks(t, "DeleteMany", "a")
	s.lacks(t, "DeleteMany", "empty")
	s.holds(t, "DeleteMany of other keys", "c", "3")
	if s.Can.Tags {
		s.invalidate(t, "other")
		s.lacks(t, "Invalidate of a tag that SetBytesMany gave", "b")
		s.lacks(t, "Invalidate of a tag that SetBytesMany gave", "c")
	}
	getMany(t, b, nil, math.MaxInt)
	noErrors(t, "SetBytesMany without keys", b.SetBytesMany(t.Context(), nil, nil))
	noErrors(t, "DeleteMany without keys", b.DeleteMany(t.Context(), nil))
}

// getMany returns one value for each key.
func getMany(t *testing.T, b BatchStore, keys []string, limit int) [][]byte {
	t.Helper()
	got, errs := b.GetBytesMany(t.Context(), keys, limit)
	noErrors(t, fmt.Sprintf("GetBytesMany of %d keys with a limit of %d bytes", len(keys), limit), errs)
	if len(got) != len(keys) {
		t.Fatalf("GetBytesMany of %d keys returned %d values, want one for each key", len(keys), len(got))
	}
	return got
}

// limitedBatch checks GetBytesMany with a limit that one of the values exceeds.
func limitedBatch(t *testing.T, b BatchStore) {
	t.Helper()
	const call = "GetBytesMany with a limit of 1 byte"
	got, errs := b.GetBytesMany(t.Context(), []string{"a", "b", "empty", "absent"}, 1)
	switch {
	case len(got) != 4:
		t.Errorf("%s returned %d values for 4 keys, want 4", call, len(got))
		return
	case len(errs) != 4:
		t.Errorf("%s returned %d errors for 4 keys, want 4, because one value has 2 bytes", call, len(errs))
		return
	}
	for i, key := range []string{"a value of 1 byte", "a value of 2 bytes", "an empty value", "an absent key"} {
		switch {
		case i == 1 && !tooLarge(errs[i]):
			t.Errorf("%s returned %s for %s, want an error whose TooLarge() is true", call, errorText(errs[i]), key)
		case i == 1:
		case errs[i] != nil:
			t.Errorf("%s returned the error %q for %s, want no error", call, errs[i], key)
		case i == 0 && string(got[i]) != "1":
			t.Errorf("%s returned %s for %s, want \"1\"", call, bytesText(got[i]), key)
		case i == 2 && got[i] == nil:
			t.Errorf("%s returned a nil slice for %s, want an empty slice that is not nil", call, key)
		case i == 3 && got[i] != nil:
			t.Errorf("%s returned %s for %s, want a nil slice", call, bytesText(got[i]), key)
		}
	}
}

// noErrors ends the test if a batch returned errors.
func noErrors(t *testing.T, call string, errs []error) {
	t.Helper()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%s returned the error %q\n(for the key at position %d, want no error)", call, err, i)
		}
	}
	if errs != nil {
		t.Fatalf("%s returned a slice of %d nil errors, want a nil slice, because no key failed", call, len(errs))
	}
}

func largeBatches(t *testing.T, s *subject) {
	b := s.Store.(BatchStore)
	for _, c := range []struct{ entries, size int }{{2500, 10}, {6, 1 << 20}} {
		keys, values := make([]string, c.entries), make([][]byte, c.entries)
		for i := range keys {
			keys[i] = fmt.Sprintf("k%d", i)
			values[i] = []byte(strings.Repeat(fmt.Sprint(i%10), min(c.size, s.maxValue())))
		}
		noErrors(t, fmt.Sprintf("SetBytesMany of %d entries", c.entries), b.SetBytesMany(t.Context(), keys, values))
		got := getMany(t, b, keys, math.MaxInt)
		for i := range got {
			if !bytes.Equal(got[i], values[i]) {
				t.Fatalf("for the key at position %d of %d, GetBytesMany %s", i, c.entries, difference(string(got[i]), string(values[i])))
			}
		}
		noErrors(t, fmt.Sprintf("DeleteMany of %d keys", c.entries), b.DeleteMany(t.Context(), keys))
		s.lacks(t, fmt.Sprintf("DeleteMany of %d keys", c.entries), keys[c.entries-1])
	}
}

func failingBatches(t *testing.T, s *subject) {
	b := s.Store.(BatchStore)
	ctx := cancelled(t.Context())
	keys, values := []string{"a", "b"}, [][]byte{[]byte("1"), []byte("2")}
	eachFails := func(call string, errs []error) {
		t.Helper()
		if len(errs) != len(keys) {
			t.Errorf("%s returned %d errors for %d keys, want one for each key", call, len(errs), len(keys))
		}
		for i, err := range errs {
			if err == nil {
				t.Errorf("%s returned no error for the key at position %d, want one for each key", call, i)
			}
		}
	}
	_, got := b.GetBytesMany(ctx, keys, math.MaxInt)
	for name, errs := range map[string][]error{
		"GetBytesMany": got,
		"SetBytesMany": b.SetBytesMany(ctx, keys, values),
		"DeleteMany":   b.DeleteMany(ctx, keys),
	} {
		if !s.Can.HeedsContext {
			continue
		}
		eachFails(name+" with a cancelled context", errs)
		for _, err := range errs {
			if err != nil {
				heeded(t, name, err)
			}
		}
	}
	eachFails("SetBytesMany with a nil option", b.SetBytesMany(t.Context(), keys, values, nil))
	if s.Can.TTL.NegativeIsError {
		eachFails("SetBytesMany with a negative expiration", b.SetBytesMany(t.Context(), keys, values, store.WithExpiration(-time.Second)))
	}
	for _, key := range keys {
		s.lacks(t, "calls of SetBytesMany that failed", key)
	}
}
