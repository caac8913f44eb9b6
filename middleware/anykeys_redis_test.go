package middleware_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
)

// oddKeys returns names that a layer might misread.
func oddKeys() map[string]string {
	keys := map[string]string{
		"empty":                 "",
		"blank":                 " ",
		"zero byte":             "\x00",
		"every byte":            allBytes(),
		"not UTF-8":             "\xff\xfe\xc1\x5c",
		"Redis pattern":         "*[a-z]?{x}\\",
		"hash tags":             "{}{a}",
		"protocol":              "k\r\n$3\r\nSET\r\n",
		"a namespace":           "other:key",
		"a tag's set":           "gocache_tag_x",
		"64 KiB":                strings.Repeat("k", 64<<10),
		"1 MiB":                 strings.Repeat("\xc1", 1<<20),
		"a sealed value":        "\xc1\x5c\x01\x01\x02",
		"as a number":           "42",
		"looks like an option":  "--save",
		"decomposed é":          "e\u0301",
		"composed é":            "\u00e9",
		"prefix of the other":   "ab",
		"the other with prefix": "ab:c",
	}
	for i := range 256 {
		keys[fmt.Sprintf("byte %#02x", i)] = string([]byte{byte(i)})
	}
	delete(keys, "byte 0x00") // the same as "zero byte"
	delete(keys, "byte 0x20") // the same as "blank"
	return keys
}

func allBytes() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}

func TestKeysOfAnyBytesOverRedis(t *testing.T) {
	t.Parallel()
	for _, ns := range []string{"", "odd"} {
		t.Run("namespace "+ns, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			backings := overBoth(t, server)
			backings["memorystore"] = memory(t)
			for name, backing := range backings {
				var opts []middleware.Option
				if ns != "" {
					opts = append(opts, middleware.WithNamespace(ns))
				}
				s := sealed(t, backing, envelope(t), opts...)
				if name != "memorystore" {
					require.NoError(t, server.Client(t).FlushDB(t.Context()).Err())
				}
				keys := oddKeys()
				if name == "gocache redis" && ns == "" {
					delete(keys, "a tag's set") // refused: it may be the list of a tag
				}
				for what, key := range keys {
					require.NoError(t, s.Set(t.Context(), key, what), "%s: %s", name, what)
				}
				for what, key := range keys {
					got, err := s.Get(t.Context(), key)
					require.NoError(t, err, "%s: %s", name, what)
					require.Equal(t, what, got, "%s: every key has its own value", name)
					_, _, err = s.GetWithTTL(t.Context(), key)
					require.NoError(t, err, "%s: %s", name, what)
					written, err := s.SetIfNotExists(t.Context(), key, "another")
					require.NoError(t, err)
					require.False(t, written, "%s: %s", name, what)
				}
				if _, ok := backing.(middleware.Enumerator); ok {
					requireListed(t, s, keys)
				}
				for what, key := range keys {
					require.NoError(t, s.Delete(t.Context(), key))
					_, err := s.Get(t.Context(), key)
					require.ErrorIs(t, err, store.NotFound{}, "%s: %s", name, what)
				}
			}
		})
	}
}

func requireListed(t *testing.T, s *middleware.Store, want map[string]string) {
	t.Helper()
	listed := map[string]bool{}
	for key, err := range s.Keys(t.Context()) {
		require.NoError(t, err)
		listed[key] = true
	}
	for what, key := range want {
		require.True(t, listed[key], "not listed: %s", what)
	}
	require.Len(t, listed, len(want))
}

// Tags may have any bytes as well.
func TestTagsOfAnyBytesOverRedis(t *testing.T) {
	t.Parallel()
	s := sealed(t, overRedis(t, redistest.Start(t)), envelope(t), middleware.WithNamespace("tags"))
	for what, tag := range oddKeys() {
		require.NoError(t, s.Set(t.Context(), what, what, store.WithTags([]string{tag})))
	}
	for what, tag := range oddKeys() {
		require.NoError(t, s.Invalidate(t.Context(), store.WithInvalidateTags([]string{tag})))
		_, err := s.Get(t.Context(), what)
		require.ErrorIs(t, err, store.NotFound{}, what)
		for key := range s.Keys(t.Context()) {
			_, err := s.Get(t.Context(), key)
			require.NoError(t, err)
			break
		}
	}
	for key := range s.Keys(t.Context()) {
		require.Fail(t, "left", key)
	}
}
