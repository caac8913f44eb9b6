package storetest

import (
	"strings"
	"testing"
)

func keyCases() []testCase {
	return []testCase{
		{
			name: "keys",
			rule: "each key has a separate entry, even if two keys differ only in one byte, up to a length of MaxKeyBytes",
			run: func(t *testing.T, s *subject) {
				long := strings.Repeat("k", s.maxKey()-1)
				distinct(t, s, "a", "A", "a:b", "a:b:c", "{a}b", "{a}c", "k*", "k?", "[k]", "\\k", "gocache", long+"1", long+"2")
			},
		},
		{
			name: "any key",
			rule: "a key may be empty and have any bytes",
			why: func(c Capabilities) string {
				return unless(c.AnyKey, "Subject.Can does not declare AnyKey, so the store may refuse some keys")
			},
			run: func(t *testing.T, s *subject) {
				distinct(t, s, "", " ", "a b", "a\r\nb", "\x00", "\x00\x00", "\xff\xfe", "käse", "k\u00e4se\x00")
			},
		},
		{
			name: "other keys",
			rule: "a key that is not a string is an error, never a panic",
			run:  otherKeys,
		},
	}
}

func distinct(t *testing.T, s *subject, keys ...string) {
	t.Helper()
	for _, key := range keys {
		s.set(t, key, "value of "+key)
	}
	for _, key := range keys {
		s.holds(t, "Set of this key and of other keys", key, "value of "+key)
	}
	for i, key := range keys {
		noError(t, "Delete", s.Store.Delete(t.Context(), key))
		s.lacks(t, "Delete", key)
		if i+1 < len(keys) {
			s.holds(t, "Delete of key "+shown(key), keys[i+1], "value of "+keys[i+1])
		}
	}
}

func otherKeys(t *testing.T, s *subject) {
	ok := true
	for kind, key := range map[string]any{"nil": nil, "an int": 1, "a struct": struct{ A int }{1}} {
		for name, call := range map[string]func() error{
			"Get":        func() error { _, err := s.Store.Get(t.Context(), key); return err },
			"GetWithTTL": func() error { _, _, err := s.Store.GetWithTTL(t.Context(), key); return err },
			"Set":        func() error { return s.Store.Set(t.Context(), key, s.value("v")) },
			"Delete":     func() error { return s.Store.Delete(t.Context(), key) },
		} {
			var err error
			if reason := panicking(func() { err = call() }); reason != nil {
				ok = false
				if s.Can.KeyErrors {
					t.Errorf("%s with %s as key panicked, want an error: %v", name, kind, reason)
				}
			} else if err == nil {
				ok = false
				if s.Can.KeyErrors {
					t.Errorf("%s with %s as key returned no error, want one", name, kind)
				}
			}
		}
	}
	declared(t, "KeyErrors", "every call with a key that is not a string returns an error", ok, s.Can.KeyErrors)
}
