package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
)

func basicCases() []testCase {
	return []testCase{
		{
			name: "set, get, delete",
			rule: "Get returns what the last Set stored under the same key, and nothing after Delete",
			run:  setGetDelete,
		},
		{
			name: "miss",
			rule: "Get and GetWithTTL of an absent key return an error and no TTL. The error is store.NotFound if MissIsNotFound is declared",
			run:  miss,
		},
		{
			name: "delete an absent key",
			rule: "Delete of an absent key fails if and only if DeleteMissing is not declared",
			run: func(t *testing.T, s *subject) {
				declared(t, "DeleteMissing", "Delete of an absent key succeeds", s.Store.Delete(t.Context(), "absent") == nil, s.Can.DeleteMissing)
			},
		},
		{
			name: "types",
			rule: "Set, Get and GetWithTTL treat each type of value as Subject.Can declares it in Bytes, Strings and Scalars",
			run:  types,
		},
		{
			name: "sizes",
			rule: "Get returns exactly the bytes that were set, for every byte value and every size up to MaxValueBytes",
			run:  sizes,
		},
		{
			name: "copies",
			rule: "Set does not change its slice. A stored value stays the same if the caller changes a slice given to Set or returned by Get",
			why:  takesBytes,
			run:  copies,
		},
		{
			name: "clear",
			rule: "Clear removes every entry and leaves the store usable",
			why: func(c Capabilities) string {
				return unless(c.Clear, "Subject.Can does not declare Clear, so Clear may leave entries")
			},
			run: func(t *testing.T, s *subject) {
				for i := range 20 {
					s.set(t, fmt.Sprint(i), "1", store.WithTags([]string{fmt.Sprint("tag", i)}))
				}
				noError(t, "Clear", s.Store.Clear(t.Context()))
				for i := range 20 {
					s.lacks(t, "Clear", fmt.Sprint(i))
				}
				s.set(t, "1", "2")
				s.holds(t, "Clear and a new Set", "1", "2")
			},
		},
		{
			name: "clear leaves others alone",
			rule: "Clear removes the entries of Subject.Store, and leaves those of Subject.Beside",
			why: func(c Capabilities) string {
				return unless(c.ScopedClear, "Subject.Can does not declare ScopedClear, so Clear may remove entries of other stores")
			},
			run: scopedClear,
		},
		{
			name: "type",
			rule: "GetType returns a text that is not empty and stays the same, because dashboards use it as a label",
			run: func(t *testing.T, s *subject) {
				before := s.Store.GetType()
				s.set(t, "k", "v")
				if after := s.Store.GetType(); before == "" || before != after {
					t.Errorf("GetType returned %q before Set and %q after it, want equal texts that are not empty", before, after)
				}
			},
		},
		{
			name: "context",
			rule: "a call with a cancelled context returns the error of the context, and does nothing else",
			why:  func(c Capabilities) string { return needs(c.HeedsContext, "HeedsContext") },
			run:  heedsContext,
		},
		{
			name: "concurrency",
			rule: "with concurrent callers, no call fails. Get returns a whole value that was set under its key, never an outdated one",
			run:  concurrency,
		},
	}
}

// takesBytes returns the reason against a case that sets a []byte, or nothing.
func takesBytes(c Capabilities) string {
	return unless(c.Bytes.taken(), fmt.Sprintf("Subject.Can.Bytes is %v", c.Bytes))
}

func setGetDelete(t *testing.T, s *subject) {
	s.set(t, "k", "one")
	s.set(t, "other", "else")
	s.holds(t, "Set of this key and of another one", "k", "one")
	s.set(t, "k", "two, which is longer")
	s.holds(t, "a second Set with a longer value", "k", "two, which is longer")
	s.set(t, "k", "3")
	s.holds(t, "a third Set with a shorter value", "k", "3")
	noError(t, "Delete", s.Store.Delete(t.Context(), "k"))
	s.lacks(t, "Delete", "k")
	s.holds(t, "Delete of another key", "other", "else")
	s.set(t, "k", "four")
	s.holds(t, "Delete and a new Set", "k", "four")
}

func miss(t *testing.T, s *subject) {
	_, err := s.Store.Get(t.Context(), "absent")
	if err == nil {
		t.Fatal("Get of an absent key returned no error, want one")
	}
	declared(t, "MissIsNotFound", "Get of an absent key returns store.NotFound", errors.Is(err, store.NotFound{}), s.Can.MissIsNotFound)
	_, ttl, err := s.Store.GetWithTTL(t.Context(), "absent")
	if err == nil {
		t.Fatal("GetWithTTL of an absent key returned no error, want one")
	}
	if !s.Can.MissIsNotFound {
		return
	}
	notFound(t, "GetWithTTL", err)
	if ttl > 0 || (s.Can.Sealed && ttl != 0) {
		t.Errorf("GetWithTTL of an absent key returned the TTL %v beside its error, want 0", ttl)
	}
}

// scalar is a value with the text that go-redis makes of it.
type scalar struct {
	value any
	text  string
}

func scalars() []scalar {
	return []scalar{
		{true, "1"},
		{false, "0"},
		{0, "0"},
		{-42, "-42"},
		{int8(math.MinInt8), "-128"},
		{int16(math.MinInt16), "-32768"},
		{int32(math.MinInt32), "-2147483648"},
		{int64(math.MinInt64), "-9223372036854775808"},
		{int64(math.MaxInt64), "9223372036854775807"},
		{uint(7), "7"},
		{uint8(math.MaxUint8), "255"},
		{uint16(math.MaxUint16), "65535"},
		{uint32(math.MaxUint32), "4294967295"},
		{uint64(math.MaxUint64), "18446744073709551615"},
		{uintptr(9), "9"},
		{float32(0.5), "0.5"},
		{-1.25, "-1.25"},
		{1e300, "1" + strings.Repeat("0", 300)},
	}
}

func types(t *testing.T, s *subject) {
	comesBack(t, s, "Bytes", s.Can.Bytes, []byte("\x00bytes\xff"), "\x00bytes\xff")
	comesBack(t, s, "Strings", s.Can.Strings, "a string", "a string")
	for _, c := range scalars() {
		comesBack(t, s, "Scalars", s.Can.Scalars, c.value, c.text)
	}
	if s.Can.Sealed {
		for _, f := range []float64{math.Inf(1), math.Copysign(0, -1), math.SmallestNonzeroFloat64} {
			comesBack(t, s, "Scalars", AsGiven, f, "")
		}
	}
}

// comesBack checks that the store gives a value the form that a field of Subject.Can declares.
func comesBack(t *testing.T, s *subject, field string, form Form, value any, text string) {
	t.Helper()
	var err error
	reason := panicking(func() { err = s.Store.Set(t.Context(), "k", value) })
	switch {
	case form == Panics:
		if reason == nil {
			t.Errorf("Subject.Can.%s is Panics, but Set of a value of type %T did not panic", field, value)
		}
		return
	case reason != nil:
		t.Errorf("Set of a value of type %T panicked: %v", value, reason)
		return
	case form == Refused:
		if err == nil {
			t.Errorf("Subject.Can.%s is Refused, but Set of a value of type %T returned no error", field, value)
		}
		return
	case err != nil:
		t.Errorf("Set of a value of type %T failed: %v", value, err)
		return
	}
	want := value
	switch form {
	case AsBytes:
		want = []byte(text)
	case AsString:
		want = text
	}
	check := func(method string, got any, err error) {
		t.Helper()
		if err != nil || !same(got, want) {
			t.Errorf("after Set of a value of type %T, %s %s, want %s (Subject.Can.%s is %v)", value, method, outcome(typed(got), err), typed(want), field, form)
		}
	}
	got, err := s.Store.Get(t.Context(), "k")
	check("Get", got, err)
	got, _, err = s.Store.GetWithTTL(t.Context(), "k")
	check("GetWithTTL", got, err)
}

// typed returns the type and the text of a value.
func typed(value any) string {
	if value == nil {
		return "nil and no error"
	}
	if b, ok := value.([]byte); ok {
		return "[]byte " + shown(string(b))
	}
	return fmt.Sprintf("%T %s", value, shown(fmt.Sprint(value)))
}

// same reports whether two values are of one type and equal, the sign of zero included.
func same(a, b any) bool {
	switch a := a.(type) {
	case []byte:
		b, ok := b.([]byte)
		return ok && bytes.Equal(a, b)
	case float64:
		b, ok := b.(float64)
		return ok && math.Float64bits(a) == math.Float64bits(b)
	}
	return a == b
}

func sizes(t *testing.T, s *subject) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, text := range []string{
		"", "\x00", string(all), "1", "42",
		strings.Repeat("0123456789abcdef", 1<<10/16),
		strings.Repeat("x", min(64<<10, s.maxValue())),
		strings.Repeat("y", s.maxValue()),
	} {
		s.set(t, "k", text)
		s.holds(t, "Set", "k", text)
	}
}

func copies(t *testing.T, s *subject) {
	const text = "0123456789abcdef"
	given := []byte(text)
	noError(t, "Set", s.Store.Set(t.Context(), "k", given))
	if string(given) != text {
		t.Error("Set changed the bytes that the caller gave it")
	}
	copy(given, "CHANGED")
	kept, err := s.Store.Get(t.Context(), "k")
	noError(t, "Get", err)
	isolated := textOf(kept) == text
	if b, ok := kept.([]byte); ok && isolated {
		copy(b, "CHANGED")
		again, err := s.Store.Get(t.Context(), "k")
		noError(t, "Get", err)
		isolated = textOf(again) == text
	}
	declared(t, "CopiesBytes", "the store copies slices that Set gets and that Get returns", isolated, s.Can.CopiesBytes)
}

func scopedClear(t *testing.T, s *subject) {
	beside := &subject{Subject: Subject{Store: s.Beside, Can: s.Can}}
	s.set(t, "own", "1", store.WithTags([]string{"tag"}))
	s.set(t, "both", "1")
	beside.set(t, "both", "2", store.WithTags([]string{"tag"}))
	beside.set(t, "theirs", "2")
	s.holds(t, "Set of the same key in Subject.Beside", "both", "1")
	noError(t, "Clear", s.Store.Clear(t.Context()))
	s.lacks(t, "Clear", "own")
	s.lacks(t, "Clear", "both")
	beside.holds(t, "Clear of Subject.Store, in Subject.Beside", "both", "2")
	beside.holds(t, "Clear of Subject.Store, in Subject.Beside", "theirs", "2")
	if !s.Can.Tags {
		return
	}
	noError(t, "Invalidate", s.Store.Invalidate(t.Context(), store.WithInvalidateTags([]string{"tag"})))
	beside.holds(t, "Invalidate of the tag in Subject.Store, in Subject.Beside", "both", "2")
	noError(t, "Invalidate", beside.Store.Invalidate(t.Context(), store.WithInvalidateTags([]string{"tag"})))
	beside.lacks(t, "Invalidate of the tag in Subject.Beside", "both")
	beside.holds(t, "Set without the tag and Invalidate of the tag, in Subject.Beside", "theirs", "2")
}

func heedsContext(t *testing.T, s *subject) {
	s.set(t, "k", "v", store.WithTags([]string{"tag"}))
	ctx := cancelled(t.Context())
	_, getErr := s.Store.Get(ctx, "k")
	_, _, ttlErr := s.Store.GetWithTTL(ctx, "k")
	for name, err := range map[string]error{
		"Get":        getErr,
		"GetWithTTL": ttlErr,
		"Set":        s.Store.Set(ctx, "k", s.value("w")),
		"Delete":     s.Store.Delete(ctx, "k"),
		"Clear":      s.Store.Clear(ctx),
		"Invalidate": s.Store.Invalidate(ctx, store.WithInvalidateTags([]string{"tag"})),
	} {
		if name == "Invalidate" && !s.Can.ConcurrentTags {
			continue // gocache's stores drop the errors of Invalidate
		}
		heeded(t, name, err)
	}
	s.holds(t, "calls with a cancelled context", "k", "v")
}

func concurrency(t *testing.T, s *subject) {
	const workers, rounds, keys = 8, 100, 5
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				shared := fmt.Sprintf("shared-%d", i%keys)
				own := fmt.Sprintf("own-%d", w)
				// A value contains its key and its length, so that the test notices a mixture of two values.
				for _, key := range []string{shared, own} {
					text := fmt.Sprintf("%s=%s", key, strings.Repeat(string(rune('a'+w)), 1+(w*37+i)%300))
					if err := s.Store.Set(t.Context(), key, s.value(text)); err != nil {
						t.Errorf("Set failed in concurrent calls: %v", err)
						return
					}
					got, err := s.Store.Get(t.Context(), key)
					if err != nil {
						t.Errorf("Get failed in concurrent calls: %v", err)
						return
					}
					name, rest, _ := strings.Cut(textOf(got), "=")
					if name != key || rest == "" || strings.Trim(rest, rest[:1]) != "" {
						t.Errorf("in concurrent calls of Set and Get, Get returned a value that no caller set under this key")
						return
					}
					if key == own && textOf(got) != text {
						t.Errorf("in concurrent calls, Get did not return the value of the last Set, although only one goroutine uses the key")
						return
					}
				}
			}
		})
	}
	wg.Wait()
}
