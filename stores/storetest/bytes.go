package storetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

func ownedBytes(t *testing.T, s *subject) {
	b := s.Store.(BytesStore)
	_, err := b.GetBytes(t.Context(), "absent")
	_, _, err2 := b.GetBytesWithTTL(t.Context(), "absent")
	notFound(t, "GetBytes", err)
	notFound(t, "GetBytesWithTTL", err2)
	given := []byte("0123456789")
	const d = time.Hour + 345*time.Millisecond
	start := time.Now()
	noError(t, "SetBytes", b.SetBytes(t.Context(), "k", given, store.WithExpiration(d), store.WithTags([]string{"tag"})))
	if string(given) != "0123456789" {
		t.Error("SetBytes changed the bytes that the caller gave it")
	}
	clear(given)
	for range 2 {
		got, err := b.GetBytes(t.Context(), "k")
		noError(t, "GetBytes after SetBytes", err)
		if string(got) != "0123456789" {
			t.Fatalf("after SetBytes, GetBytes returned %q, want \"0123456789\"\n(the caller has since changed slices that it gave or got, which the store must not share)", got)
		}
		clear(got[:cap(got)])
		got, ttl, err := b.GetBytesWithTTL(t.Context(), "k")
		noError(t, "GetBytesWithTTL after SetBytes", err)
		if string(got) != "0123456789" {
			t.Fatalf("after SetBytes, GetBytesWithTTL returned %q, want \"0123456789\"\n(the caller has since changed slices that it gave or got, which the store must not share)", got)
		}
		if elapsed := time.Since(start); ttl > d || ttl < d-elapsed-time.Millisecond {
			t.Errorf("GetBytesWithTTL returned the TTL %v, want between %v and %v, the expiration that SetBytes was given", ttl, d-elapsed-time.Millisecond, d)
		}
		clear(got[:cap(got)])
	}
	s.holds(t, "SetBytes (the caller has since changed slices that it gave or got)", "k", "0123456789")
	s.set(t, "k", "set", store.WithExpiration(0))
	got, ttl, err := b.GetBytesWithTTL(t.Context(), "k")
	switch {
	case err != nil:
		t.Errorf("GetBytesWithTTL failed after Set, want no error: %v", err)
	case string(got) != "set":
		t.Errorf("after Set of a key that had another value, GetBytesWithTTL returned %q, want \"set\"", got)
	case ttl != 0:
		t.Errorf("after Set without expiration of a key that had one, GetBytesWithTTL returned the TTL %v, want 0", ttl)
	}
	if s.Can.Strings.taken() {
		noError(t, "Set", s.Store.Set(t.Context(), "k", "a string"))
		if got, err := b.GetBytes(t.Context(), "k"); err != nil || string(got) != "a string" {
			t.Errorf("GetBytes of an entry that was set as a string %s, want \"a string\"", outcome(bytesText(got), err))
		}
	}
	s.invalidate(t, "tag")
	s.lacks(t, "Invalidate of the tag that SetBytes gave", "k")
	noError(t, "SetBytes of a nil slice", b.SetBytes(t.Context(), "k", nil))
	if got, err := b.GetBytes(t.Context(), "k"); err != nil || len(got) != 0 {
		t.Errorf("after SetBytes of a nil slice, GetBytes %s, want an empty value", outcome(bytesText(got), err))
	}
}

func setsTTL(t *testing.T, s *subject) {
	b, ok := s.Store.(interface {
		BytesStore
		TTLSetter
	})
	if !ok {
		t.Fatal("the store implements TTLSetter, but not BytesStore, which TTLSetter extends")
	}
	for _, want := range []time.Duration{time.Hour, 0, 2 * time.Hour} {
		given := []byte("0123456789")
		noError(t, "SetBytesWithTTL", b.SetBytesWithTTL(t.Context(), "k", given, want))
		if string(given) != "0123456789" {
			t.Error("SetBytesWithTTL changed the bytes that the caller gave it")
		}
		clear(given)
		got, ttl, err := b.GetBytesWithTTL(t.Context(), "k")
		noError(t, "GetBytesWithTTL after SetBytesWithTTL", err)
		if string(got) != "0123456789" {
			t.Fatalf("after SetBytesWithTTL, GetBytesWithTTL returned %q, want \"0123456789\"\n(the caller has since changed the slice that it gave, which the store must not share)", got)
		}
		if ttl > want || ttl < want-time.Minute || want == 0 && ttl != 0 {
			t.Errorf("after SetBytesWithTTL with the TTL %v, GetBytesWithTTL returned the TTL %v, want the same", want, ttl)
		}
	}
	noError(t, "SetBytesWithTTL of a nil slice with a TTL below 1ms", b.SetBytesWithTTL(t.Context(), "k", nil, time.Millisecond-1))
	if _, ttl, err := b.GetBytesWithTTL(t.Context(), "k"); err == nil && (ttl <= 0 || ttl > time.Millisecond) {
		t.Errorf("SetBytesWithTTL with a TTL below 1ms made an entry with the TTL %v, want more than 0 and at most 1ms", ttl)
	}
	if s.Can.Tags {
		s.set(t, "tagged", "1", store.WithTags([]string{"former"}))
		noError(t, "SetBytesWithTTL", b.SetBytesWithTTL(t.Context(), "tagged", []byte("2"), time.Hour))
		s.invalidate(t, "former")
		s.lacks(t, "Set with a tag, SetBytesWithTTL, and Invalidate of the tag", "tagged")
	}
	if s.Can.TTL.NegativeIsError {
		if err := b.SetBytesWithTTL(t.Context(), "k", nil, -time.Second); err == nil {
			t.Error("SetBytesWithTTL with a negative TTL returned no error, want one")
		}
	}
	if s.Can.HeedsContext {
		heeded(t, "SetBytesWithTTL", b.SetBytesWithTTL(cancelled(t.Context()), "k", nil, 0))
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
			switch {
			case size > limit && !tooLarge(err):
				t.Errorf("%s of %d bytes with a limit of %d returned %s, want an error whose TooLarge() is true", name, size, limit, errorText(err))
			case size > limit && errors.Is(err, store.NotFound{}):
				t.Errorf("%s of %d bytes with a limit of %d returned an error that wraps store.NotFound, want another error", name, size, limit)
			case size <= limit && (err != nil || len(value) != size):
				t.Errorf("%s of %d bytes with a limit of %d %s, want all bytes", name, size, limit, outcome(fmt.Sprintf("%d bytes", len(value)), err))
			case err == nil && s.Can.TTL.Reported && (ttl <= 59*time.Minute || ttl > time.Hour):
				t.Errorf("%s returned the TTL %v, want one hour", name, ttl)
			}
			if value, _, err := get(0); size == 0 && (err != nil || value == nil || len(value) != 0) {
				t.Errorf("%s of an empty value with a limit of 0 %s, want []byte{}", name, outcome(fmt.Sprintf("%#v", value), err))
			}
		}
	}
	_, err := b.GetBytesMax(t.Context(), "absent", limit)
	notFound(t, "GetBytesMax", err)
	_, _, err = b.GetBytesWithTTLMax(t.Context(), "absent", limit)
	notFound(t, "GetBytesWithTTLMax", err)
}
