package storetest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

func ownedBytes(t *testing.T, s *subject) {
	b := s.Store.(BytesStore)
	_, err := b.GetBytes(t.Context(), "absent")
	_, _, err2 := b.GetBytesWithTTL(t.Context(), "absent")
	if !errors.Is(err, store.NotFound{}) || !errors.Is(err2, store.NotFound{}) {
		t.Errorf("absent key: GetBytes failed with %v, GetBytesWithTTL with %v, want store.NotFound", err, err2)
	}
	given := []byte("0123456789")
	const d = time.Hour + 345*time.Millisecond
	start := time.Now()
	if err := b.SetBytes(t.Context(), "k", given, store.WithExpiration(d), store.WithTags([]string{"tag"})); err != nil {
		t.Fatalf("SetBytes: %v", err)
	}
	if string(given) != "0123456789" {
		t.Error("SetBytes changed the bytes that the caller gave it")
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
			t.Errorf("GetBytesWithTTL returned the TTL %v, %v after an expiration of %v was set (the TTL must be exact to 1 ms)", ttl, elapsed, d)
		}
		clear(got[:cap(got)])
	}
	s.holds(t, "k", "0123456789")
	s.set(t, "k", "set", store.WithExpiration(0))
	got, ttl, err := b.GetBytesWithTTL(t.Context(), "k")
	if err != nil || string(got) != "set" || ttl != 0 {
		t.Errorf("GetBytesWithTTL returned %q, TTL %v, error %v, want \"set\" and no TTL", got, ttl, err)
	}
	if s.Can.Strings.taken() {
		if err := s.Store.Set(t.Context(), "k", "a string"); err != nil {
			t.Fatalf("Set: %v", err)
		}
		if got, err := b.GetBytes(t.Context(), "k"); err != nil || string(got) != "a string" {
			t.Errorf("GetBytes of a string returned %q, error %v", got, err)
		}
	}
	s.invalidate(t, "tag")
	s.lacks(t, "k")
	if err := b.SetBytes(t.Context(), "k", nil); err != nil {
		t.Fatalf("SetBytes of nil: %v", err)
	}
	if got, err := b.GetBytes(t.Context(), "k"); err != nil || len(got) != 0 {
		t.Errorf("GetBytes of an empty value returned %q, error %v", got, err)
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
				t.Errorf("%s of %d bytes with a limit of %d: error %v, want one whose TooLarge() is true", name, size, limit, err)
			case size > limit && errors.Is(err, store.NotFound{}):
				t.Errorf("%s returned store.NotFound for a value over the limit", name)
			case size <= limit && (err != nil || len(value) != size):
				t.Errorf("%s of %d bytes with a limit of %d returned %d bytes, error %v, want all bytes and nil", name, size, limit, len(value), err)
			case err == nil && s.Can.TTL.Reported && (ttl <= 59*time.Minute || ttl > time.Hour):
				t.Errorf("%s returned the TTL %v, want one hour", name, ttl)
			}
			if value, _, err := get(0); size == 0 && (err != nil || value == nil || len(value) != 0) {
				t.Errorf("%s of an empty value with a limit of 0 returned %v, error %v, want []byte{}", name, value, err)
			}
		}
	}
	if _, err := b.GetBytesMax(t.Context(), "absent", limit); !errors.Is(err, store.NotFound{}) {
		t.Errorf("GetBytesMax of an absent key: error %v, want store.NotFound", err)
	}
	if _, _, err := b.GetBytesWithTTLMax(t.Context(), "absent", limit); !errors.Is(err, store.NotFound{}) {
		t.Errorf("GetBytesWithTTLMax of an absent key: error %v, want store.NotFound", err)
	}
}
