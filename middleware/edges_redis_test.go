package middleware_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	gocacheredis "github.com/eko/gocache/store/redis/v4"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
)

func TestEmptyValuesOverRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, backing := range overBoth(t, server) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyAEAD(t, func(t *testing.T, a tink.AEADWithContext) {
				t.Helper()
				s := sealed(t, backing, a, middleware.WithNamespace("empty"), middleware.WithCodec(middleware.JSON[[]int]()))
				for _, v := range []any{[]byte{}, "", false, 0, 0.0, []int(nil)} {
					key := fmt.Sprintf("%s/%T", t.Name(), v)
					require.NoError(t, s.Set(t.Context(), key, v))
					got, err := s.Get(t.Context(), key)
					require.NoError(t, err)
					require.Equal(t, v, got, "%T", v)
					got, ttl, err := s.GetWithTTL(t.Context(), key)
					require.NoError(t, err)
					require.Equal(t, v, got)
					require.Zero(t, ttl)
					stored, err := server.Client(t).Get(t.Context(), "empty:"+key).Bytes()
					require.NoError(t, err)
					require.Greater(t, len(stored), 30, "nothing is sealed too")
				}
				require.NoError(t, s.Set(t.Context(), t.Name(), []byte(nil)))
				got, err := s.Get(t.Context(), t.Name())
				require.NoError(t, err)
				require.Equal(t, []byte{}, got, "a nil slice is an empty one")
				require.ErrorIs(t, s.Set(t.Context(), t.Name(), nil), middleware.ErrUnsupportedType)
			})
		})
	}
}

// An empty plaintext string is a plaintext value, not an empty sealed one.
func TestEmptyPlaintextIsRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	require.NoError(t, server.Client(t).Set(t.Context(), "k", "", 0).Err())
	for name, backing := range overBoth(t, server) {
		s := sealed(t, backing, envelope(t))
		_, err := s.Get(t.Context(), "k")
		require.ErrorIs(t, err, middleware.ErrNotSealed, name)
		_, _, err = s.GetWithTTL(t.Context(), "k")
		require.ErrorIs(t, err, middleware.ErrNotSealed, name)
	}
}

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
				for what, key := range oddKeys() {
					require.NoError(t, s.Set(t.Context(), key, what), "%s: %s", name, what)
				}
				for what, key := range oddKeys() {
					got, err := s.Get(t.Context(), key)
					require.NoError(t, err, "%s: %s", name, what)
					require.Equal(t, what, got, "%s: every key has a value of its own", name)
					_, _, err = s.GetWithTTL(t.Context(), key)
					require.NoError(t, err, "%s: %s", name, what)
					written, err := s.SetIfNotExists(t.Context(), key, "another")
					require.NoError(t, err)
					require.False(t, written, "%s: %s", name, what)
				}
				if _, ok := backing.(middleware.Enumerator); ok {
					requireListed(t, s, oddKeys())
				}
				for what, key := range oddKeys() {
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

// Not parallel, because it holds several hundred MiB for a moment.
func TestHundredMebibytesOverRedis(t *testing.T) { //nolint:paralleltest // see above
	const size = 100 << 20
	server := redistest.Start(t)
	value := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
	digest := sha256.Sum256(value)
	backing := overRedis(t, server, "read_timeout=1m", "write_timeout=1m")
	s := sealed(t, backing, envelope(t))
	require.NoError(t, s.Set(within(t, 2*time.Minute), "big", value))
	require.Equal(t, digest, sha256.Sum256(value), "the caller's value is not changed")
	got, ttl, err := s.GetWithTTL(within(t, 2*time.Minute), "big")
	require.NoError(t, err)
	require.Zero(t, ttl)
	require.Equal(t, digest, sha256.Sum256(got.([]byte)))
	n, err := server.Client(t).StrLen(t.Context(), "big").Result()
	require.NoError(t, err)
	require.LessOrEqual(t, n, int64(size+107))

	// A value is altered in Redis. gocache's own store, which returns strings, refuses it, too.
	at, err := server.Client(t).GetRange(t.Context(), "big", size/2, size/2).Bytes()
	require.NoError(t, err)
	require.NoError(t, server.Client(t).SetRange(t.Context(), "big", size/2, string([]byte{at[0] ^ 1})).Err())
	options := server.ClientOptions()
	options.ReadTimeout, options.WriteTimeout = time.Minute, time.Minute
	patient := redis.NewClient(options)
	t.Cleanup(func() { _ = patient.Close() })
	other := sealed(t, gocacheredis.NewRedis(patient), envelope(t))
	_, err = s.Get(within(t, time.Minute), "big")
	require.ErrorIs(t, err, middleware.ErrUnauthentic, "one byte of a hundred million")
	require.NoError(t, other.Set(within(t, time.Minute), "big", value))
	got, err = other.Get(within(t, time.Minute), "big")
	require.NoError(t, err)
	require.Equal(t, digest, sha256.Sum256(got.([]byte)))

	limited := sealed(t, backing, envelope(t), middleware.WithMaxValueBytes(size-1))
	require.ErrorIs(t, limited.Set(t.Context(), "big", value), middleware.ErrTooLarge)
	require.NoError(t, s.Delete(t.Context(), "big"))
	runtime.GC()
}

func TestTTLsOverRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	admin := server.Client(t)
	for name, backing := range overBoth(t, server) {
		s := sealed(t, backing, envelope(t), middleware.WithNamespace("ttl"))
		ours := name == "redisstore"
		set := func(ttl time.Duration) error {
			require.NoError(t, admin.Del(t.Context(), "ttl:k").Err())
			return s.Set(t.Context(), "k", "value", store.WithExpiration(ttl))
		}
		for _, ttl := range []time.Duration{0, -1} { // go-redis reports -1 ns for "no expiry", and Chain passes it on
			require.NoError(t, set(ttl))
			require.Equal(t, time.Duration(-1), admin.PTTL(t.Context(), "ttl:k").Val(), "%s: no expiry", name)
			_, left, err := s.GetWithTTL(t.Context(), "k")
			require.NoError(t, err)
			require.Zero(t, left, "%s: no expiry", name)
		}
		for _, ttl := range []time.Duration{-2, -time.Millisecond, -time.Second, -time.Hour, -1 << 63} {
			require.ErrorContains(t, set(ttl), "negative", "%s: %v", name, ttl)
			written, err := s.SetIfNotExists(t.Context(), "k", "value", store.WithExpiration(ttl))
			require.ErrorContains(t, err, "negative")
			require.False(t, written)
			require.Zero(t, admin.Exists(t.Context(), "ttl:k").Val(), "%s: an entry that has expired is not stored for ever", name)
		}
		for _, ttl := range []time.Duration{1, 500 * time.Nanosecond, time.Microsecond, 999 * time.Microsecond, time.Millisecond, 1500 * time.Microsecond, 20 * time.Millisecond, 499 * time.Millisecond, 700 * time.Millisecond} {
			require.NoError(t, set(ttl), "%s: %v", name, ttl)
			if left := admin.PTTL(t.Context(), "ttl:k").Val(); left != -2 {
				require.LessOrEqual(t, left, ttl+time.Millisecond, "%s: %v", name, ttl)
				require.GreaterOrEqual(t, left, time.Duration(0), "%s: %v: never for ever", name, ttl)
			}
			_, left, err := s.GetWithTTL(t.Context(), "k")
			if errors.Is(err, store.NotFound{}) {
				continue // the entry ended before it was read
			}
			require.NoError(t, err)
			require.Positive(t, left, "%s: %v: an expiry is not reported as none", name, ttl)
			if ours {
				require.LessOrEqual(t, left, ttl+time.Millisecond)
			} else {
				require.LessOrEqual(t, left, time.Second, "in whole seconds")
			}
		}
		require.NoError(t, set(90*time.Second))
		_, left, err := s.GetWithTTL(t.Context(), "k")
		require.NoError(t, err)
		require.InDelta(t, 90*time.Second, left, float64(patience))

		// A TTL under a second ends the entry.
		require.NoError(t, set(30*time.Millisecond))
		eventually(t, name+": expiry", func(ctx context.Context) error {
			if _, err := s.Get(ctx, "k"); !errors.Is(err, store.NotFound{}) {
				return fmt.Errorf("still there: %w", err)
			}
			return nil
		})
	}

	// Sealing a plaintext entry keeps its expiry to the millisecond, or its absence.
	s := sealed(t, overRedis(t, server), envelope(t), middleware.WithPlaintext(middleware.SealOnRead))
	for key, ttl := range map[string]time.Duration{"some": 1234567 * time.Millisecond, "none": 0} {
		require.NoError(t, admin.Set(t.Context(), key, "clear", ttl).Err())
		_, err := s.Get(t.Context(), key)
		require.NoError(t, err)
		stored, err := admin.Get(t.Context(), key).Bytes()
		require.NoError(t, err)
		_, err = middleware.Inspect(stored)
		require.NoError(t, err, "sealed in place")
		left := admin.PTTL(t.Context(), key).Val()
		if ttl == 0 {
			require.Equal(t, time.Duration(-1), left)
		} else {
			require.InDelta(t, ttl, left, float64(patience))
		}
	}
}
