package storetest

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
)

func sealedCases() []testCase {
	sealed := func(c Capabilities) string { return needs(c.Sealed, "Sealed") }
	return []testCase{
		{
			name: "no plaintext in the store",
			rule: "the stored bytes show neither the value nor whether two values are equal",
			why:  sealed,
			run:  nothingInPlaintext,
		},
		{
			name: "magnitude",
			rule: "the length of a sealed number does not depend on how large the number is",
			why:  sealed,
			run: func(t *testing.T, s *subject) {
				for _, pair := range [][2]any{
					{int64(0), int64(math.MinInt64)},
					{0, math.MaxInt},
					{uint64(0), uint64(math.MaxUint64)},
					{0.0, math.SmallestNonzeroFloat64},
					{false, true},
				} {
					a, b := len(s.sealed(t, pair[0])), len(s.sealed(t, pair[1]))
					if a != b {
						t.Errorf("the %T values %v and %v have %d and %d bytes when sealed, want the same size", pair[0], pair[0], pair[1], a, b)
					}
				}
			},
		},
		{
			name: "a moved value does not open",
			rule: "a sealed value that was moved to another key is an error, never a value and never a miss",
			why:  sealed,
			run: func(t *testing.T, s *subject) {
				s.set(t, "a", "value of a")
				s.set(t, "b", "value of b")
				s.refuses(t, "b", s.raw(t, "a"), "a value that was moved from key \"a\" to key \"b\"")
				s.refuses(t, "new", s.raw(t, "a"), "a value that was moved from key \"a\" to a new key")
				s.holds(t, "Subject.Plant of the same bytes under other keys", "a", "value of a")
			},
		},
		{
			name: "an altered value does not open",
			rule: "a sealed value with any byte altered, cut or added is an error, never a value and never a miss",
			why:  sealed,
			run:  alteredValues,
		},
		{
			name: "planted plaintext",
			rule: "a plaintext value planted in the backing store is an error, never a value and never a miss",
			why:  sealed,
			run: func(t *testing.T, s *subject) {
				for _, text := range []string{"42", "0", "true", "plain", "{\"json\":1}", "\x00", ""} {
					s.refuses(t, "k", []byte(text), fmt.Sprintf("the planted plaintext %q", text))
				}
			},
		},
	}
}

// sealed returns the bytes that the backing store holds for value.
func (s *subject) sealed(t *testing.T, value any) []byte {
	t.Helper()
	if err := s.Store.Set(t.Context(), "k", value); err != nil {
		t.Fatalf("Set of a %T failed: %v", value, err)
	}
	return s.raw(t, "k")
}

func (s *subject) raw(t *testing.T, key string) []byte {
	t.Helper()
	b, err := s.Raw(t.Context(), key)
	noError(t, fmt.Sprintf("Subject.Raw(%q)", key), err)
	if len(b) == 0 {
		t.Fatalf("Subject.Raw(%q) returned no bytes and no error, although Set has stored a value under this key", key)
	}
	return bytes.Clone(b)
}

func (s *subject) plant(t *testing.T, key string, value []byte) {
	t.Helper()
	noError(t, fmt.Sprintf("Subject.Plant(%q)", key), s.Plant(t.Context(), key, value))
}

// refuses puts bytes under key into the backing store, and checks that reading key is an error other than a miss.
func (s *subject) refuses(t *testing.T, key string, stored []byte, what string) {
	t.Helper()
	s.plant(t, key, stored)
	check := func(method string, value any, err error) {
		t.Helper()
		switch {
		case err == nil:
			t.Fatalf("%s of %s returned no error, want one", method, what)
		case errors.Is(err, store.NotFound{}):
			t.Fatalf("%s of %s returned an error that wraps store.NotFound, want another error: %v", method, what, err)
		case value != nil:
			t.Fatalf("%s of %s returned a value of type %T beside its error, want nil", method, what, value)
		}
	}
	value, err := s.Store.Get(t.Context(), key)
	check("Get", value, err)
	value, _, err = s.Store.GetWithTTL(t.Context(), key)
	check("GetWithTTL", value, err)
}

const canary = "canary-4111111111111111-canary"

func nothingInPlaintext(t *testing.T, s *subject) {
	for _, value := range []any{canary, []byte(canary), strings.Repeat(canary, 100)} {
		first, again := s.sealed(t, value), s.sealed(t, value)
		for _, b := range [][]byte{first, again} {
			for form, text := range map[string]string{
				"plaintext": canary[:14],
				"base64":    base64.StdEncoding.EncodeToString([]byte(canary))[:16],
				"hex":       hex.EncodeToString([]byte(canary))[:16],
			} {
				if bytes.Contains(b, []byte(text)) {
					t.Errorf("after Set of a value of type %T, the backing store holds the value in %s", value, form)
				}
			}
		}
		if bytes.Equal(first, again) {
			t.Errorf("sealing the same value of type %T twice gave the same bytes, want different bytes", value)
		}
	}
	for _, c := range scalars() {
		b := s.sealed(t, c.value)
		if string(b) == c.text || (len(c.text) > 6 && bytes.Contains(b, []byte(c.text))) {
			t.Errorf("the backing store holds a value of type %T in plaintext", c.value)
		}
	}
}

func alteredValues(t *testing.T, s *subject) {
	s.set(t, "k", "a value")
	whole := s.raw(t, "k")
	for i := range whole {
		altered := bytes.Clone(whole)
		altered[i] ^= 1 << (i % 8)
		s.refuses(t, "k", altered, fmt.Sprintf("a value with byte %d of %d altered", i, len(whole)))
	}
	for _, n := range []int{0, 1, 2, 3, 8, len(whole) / 2, len(whole) - 1} {
		s.refuses(t, "k", whole[:n], fmt.Sprintf("only the first %d of the %d bytes of a value", n, len(whole)))
	}
	s.refuses(t, "k", append(bytes.Clone(whole), 0), "a value with a byte appended")
	s.refuses(t, "k", append([]byte{whole[0]}, whole...), "a value with a byte put before it")
	// The original bytes open again, so the values above were refused because they were altered.
	s.plant(t, "k", whole)
	s.holds(t, "Subject.Plant of the unaltered bytes", "k", "a value")
}
