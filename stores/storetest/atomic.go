package storetest

import (
	"bytes"
	"context"
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
				s.holds(t, "k", "v")
				s.invalidate(t, "b")
				s.lacks(t, "k")
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
		deleted, err := a.CompareAndDelete(t.Context(), "k", []byte(c.old), c.tail)
		if err != nil || deleted != c.want {
			t.Errorf("CompareAndDelete with old %q and tail %d returned %v, error %v, want %v, because the value is \"head\\x00tail\"", c.old, c.tail, deleted, err, c.want)
		}
		if c.want {
			s.lacks(t, "k")
		} else {
			s.holds(t, "k", "head\x00tail")
		}
	}
	if deleted, err := a.CompareAndDelete(t.Context(), "absent", nil, 0); deleted || err != nil {
		t.Errorf("CompareAndDelete of an absent entry returned %v, error %v, want false and no error", deleted, err)
	}
	s.set(t, "k", "")
	if deleted, err := a.CompareAndDelete(t.Context(), "k", nil, 16); !deleted || err != nil {
		t.Errorf("CompareAndDelete with old \"\" and tail 16 returned %v, error %v, want true and no error, because the value is empty", deleted, err)
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
			t.Fatalf("CompareAndExpire(old %q, tail %d) returned %v, error %v, want %v, because the value is %s", old, tail, done, err, want, stored)
		}
	}
	near := func(want time.Duration, source string) {
		t.Helper()
		if got := left(); got > want || got <= want-time.Minute {
			t.Fatalf("after CompareAndExpire, GetWithTTL returned the TTL %v, want %v, which %s", got, want, source)
		}
	}
	expire("absent", "value", 0, time.Hour, false)
	s.lacks(t, "k")
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
	s.holds(t, "k", "value")
	if s.Can.Tags {
		s.invalidate(t, "tag")
		s.lacks(t, "k")
	}
}

func compareAndSet(t *testing.T, s *subject) {
	a := s.Store.(AtomicStore)
	set := func(stored, old string, tail int, want bool, options ...store.Option) {
		const next = "second"
		t.Helper()
		done, err := a.CompareAndSet(t.Context(), "k", []byte(old), tail, []byte(next), options...)
		if err != nil || done != want {
			t.Fatalf("CompareAndSet(old %q, tail %d) returned %v, error %v, want %v, because the value is %s", old, tail, done, err, want, stored)
		}
	}
	tagged := store.WithTags([]string{"a", "b"})
	if !s.Can.Tags {
		tagged = store.WithTags(nil)
	}
	set("absent", "head\x00tail", 0, false, tagged)
	set("absent", "", 0, false)
	s.lacks(t, "k")
	for _, c := range comparisons() {
		s.set(t, "k", "head\x00tail")
		set(`"head\x00tail"`, c.old, c.tail, c.want, tagged, store.WithExpiration(time.Hour))
		want := "head\x00tail"
		if c.want {
			want = "second"
		}
		s.holds(t, "k", want)
		if _, ttl, err := s.Store.GetWithTTL(t.Context(), "k"); s.Can.TTL.Reported && (err != nil || (ttl > 0) != c.want || ttl > time.Hour) {
			ttlWanted := "no TTL, because the value was not replaced"
			if c.want {
				ttlWanted = "the TTL of the call, an hour"
			}
			t.Errorf("after CompareAndSet(old %q, tail %d), GetWithTTL returned TTL %v and error %v, want %s", c.old, c.tail, ttl, err, ttlWanted)
		}
		if !s.Can.Tags {
			continue
		}
		s.invalidate(t, "b")
		if c.want {
			s.lacks(t, "k")
		} else {
			s.holds(t, "k", want) // it was not set with the tag
		}
	}
	s.set(t, "k", "", store.WithExpiration(time.Hour))
	set("empty", "", 16, true)
	if _, ttl, err := s.Store.GetWithTTL(t.Context(), "k"); s.Can.TTL.Reported && (err != nil || ttl > 0) {
		t.Errorf("after CompareAndSet without expiration of an entry with TTL 1h, GetWithTTL returned TTL %v, error %v, want none", ttl, err)
	}
	if s.Can.TTL.NegativeIsError {
		if done, err := a.CompareAndSet(t.Context(), "k", []byte("second"), 0, nil, store.WithExpiration(-time.Second)); done || err == nil {
			t.Errorf("CompareAndSet with a negative expiration returned %v, error %v, want false and an error", done, err)
		}
	}
	s.holds(t, "k", "second")
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
	if _, _, err := a.GetBytesToSwap(t.Context(), "absent", 10); !errors.Is(err, store.NotFound{}) {
		t.Errorf("GetBytesToSwap of an absent entry returned error %v, want store.NotFound", err)
	}
	for _, text := range []string{"", "head\x00tail", "0123456789"} {
		s.set(t, "k", text, store.WithExpiration(time.Hour))
		value, ttl, err := a.GetBytesToSwap(t.Context(), "k", 10)
		if err != nil || value == nil || string(value) != text {
			t.Errorf("GetBytesToSwap with a limit of 10 bytes returned %q, error %v, want %q, which was set, and not a nil slice", value, err, text)
		}
		if s.Can.TTL.Reported && (ttl > time.Hour || ttl < 59*time.Minute) {
			t.Errorf("GetBytesToSwap returned the TTL %v for an entry that was set with a TTL of one hour", ttl)
		}
	}
	s.set(t, "k", "0123456789x")
	_, _, err := a.GetBytesToSwap(t.Context(), "k", 10)
	if !tooLarge(err) || errors.Is(err, store.NotFound{}) {
		t.Errorf("GetBytesToSwap of a value over the limit returned error %v, want one whose TooLarge() is true\n(and that does not wrap store.NotFound)", err)
	}
	if _, ttl, err := a.GetBytesToSwap(t.Context(), "k", math.MaxInt); err != nil || ttl != 0 {
		t.Errorf("GetBytesToSwap with the limit math.MaxInt returned TTL %v, error %v, want 0, because the entry has no TTL", ttl, err)
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
	if errs := b.SetBytesMany(t.Context(), keys, values, options...); errs != nil {
		t.Fatalf("SetBytesMany returned the errors %v, want none", errs)
	}
	for _, v := range values {
		for i := range v {
			v[i] = 'x' // the store no longer uses it
		}
	}
	s.holds(t, "a", "1")
	for _, limit := range []int{math.MaxInt, 2} {
		got, errs := b.GetBytesMany(t.Context(), []string{"c", "absent", "empty", "a", "a", "b"}, limit)
		if errs != nil {
			t.Fatalf("GetBytesMany with a limit of %d bytes, for keys of which one is absent and one is given twice, returned the errors %v, want none", limit, errs)
		}
		for i, want := range []any{"3", nil, "", "1", "1", "2\x00"} {
			switch {
			case want == nil && got[i] != nil:
				t.Errorf("GetBytesMany returned %q for an absent entry, want nil", got[i])
			case want != nil && (got[i] == nil || string(got[i]) != want):
				t.Errorf("for the key at position %d, GetBytesMany returned the value %q, want %q and not a nil slice", i, got[i], want)
			}
		}
		got[3][0] = 'y' // the caller owns it
		s.holds(t, "a", "1")
	}
	got, errs := b.GetBytesMany(t.Context(), []string{"a", "b", "empty", "absent"}, 1)
	if len(errs) != 4 || errs[0] != nil || errs[2] != nil || errs[3] != nil || !tooLarge(errs[1]) {
		t.Errorf("GetBytesMany with a limit of 1 byte, for values of 1, 2 and 0 bytes and an absent key, returned the errors %v\n(want 4, all nil except [1], whose TooLarge() is true)", errs)
	} else if string(got[0]) != "1" || got[2] == nil || got[3] != nil {
		t.Errorf("GetBytesMany with a limit of 1 byte, for values of 1, 2 and 0 bytes and an absent key, returned the values %#v\n(want \"1\", any value, an empty slice, nil)", got)
	}
	if s.Can.TTL.Reported {
		if _, ttl, err := s.Store.GetWithTTL(t.Context(), "b"); err != nil || ttl > time.Hour || ttl < 59*time.Minute {
			t.Errorf("after SetBytesMany with an expiration of one hour, GetWithTTL returned the TTL %v, error %v, want one hour", ttl, err)
		}
	}
	if errs := b.DeleteMany(t.Context(), []string{"a", "absent", "a", "empty"}); errs != nil {
		t.Errorf("DeleteMany of keys of which one is absent and one is given twice returned the errors %v, want none", errs)
	}
	s.lacks(t, "a")
	s.lacks(t, "empty")
	s.holds(t, "c", "3")
	if s.Can.Tags {
		s.invalidate(t, "other")
		s.lacks(t, "b")
		s.lacks(t, "c")
	}
	if got, errs := b.GetBytesMany(t.Context(), nil, math.MaxInt); len(got) != 0 || errs != nil {
		t.Errorf("GetBytesMany without keys returned the values %v, errors %v, want none", got, errs)
	}
	if errs := b.SetBytesMany(t.Context(), nil, nil); errs != nil {
		t.Errorf("SetBytesMany without keys returned the errors %v, want none", errs)
	}
	if errs := b.DeleteMany(t.Context(), nil); errs != nil {
		t.Errorf("DeleteMany without keys returned the errors %v, want none", errs)
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
		if errs := b.SetBytesMany(t.Context(), keys, values); errs != nil {
			t.Fatalf("SetBytesMany of %d entries failed, want no error: %v", c.entries, errors.Join(errs...))
		}
		got, errs := b.GetBytesMany(t.Context(), keys, math.MaxInt)
		if errs != nil {
			t.Fatalf("GetBytesMany of %d keys failed, want no error: %v", c.entries, errors.Join(errs...))
		}
		for i := range got {
			if !bytes.Equal(got[i], values[i]) {
				t.Fatalf("GetBytesMany of %d keys returned the value %s at position %d, want %s", c.entries, shown(string(got[i])), i, shown(string(values[i])))
			}
		}
		if errs := b.DeleteMany(t.Context(), keys); errs != nil {
			t.Fatalf("DeleteMany of %d keys failed, want no error: %v", c.entries, errors.Join(errs...))
		}
		s.lacks(t, keys[c.entries-1])
	}
}

func failingBatches(t *testing.T, s *subject) {
	b := s.Store.(BatchStore)
	ctx := cancelled(t.Context())
	keys, values := []string{"a", "b"}, [][]byte{[]byte("1"), []byte("2")}
	_, got := b.GetBytesMany(ctx, keys, math.MaxInt)
	for name, errs := range map[string][]error{
		"GetBytesMany": got,
		"SetBytesMany": b.SetBytesMany(ctx, keys, values),
		"DeleteMany":   b.DeleteMany(ctx, keys),
	} {
		if s.Can.HeedsContext && (len(errs) != 2 || !errors.Is(errs[0], context.Canceled) || !errors.Is(errs[1], context.Canceled)) {
			t.Errorf("%s of 2 keys with a cancelled context returned %d errors, %q, want 2 errors that wrap context.Canceled", name, len(errs), errs)
		}
	}
	if errs := b.SetBytesMany(t.Context(), keys, values, nil); len(errs) != 2 || errs[0] == nil || errs[1] == nil {
		t.Errorf("SetBytesMany with a nil option returned the errors %v, want one for each key", errs)
	}
	if s.Can.TTL.NegativeIsError {
		if errs := b.SetBytesMany(t.Context(), keys, values, store.WithExpiration(-time.Second)); len(errs) != 2 || errs[0] == nil || errs[1] == nil {
			t.Errorf("SetBytesMany with a negative expiration returned the errors %v, want one for each key", errs)
		}
	}
	s.lacks(t, "a")
	s.lacks(t, "b")
}
