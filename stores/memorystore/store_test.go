package memorystore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, opts ...Option) *Store {
	t.Helper()
	s, err := New(opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func assertMissing(t testing.TB, s *Store, key string) {
	t.Helper()
	_, err := s.Get(t.Context(), key)
	require.ErrorIs(t, err, store.NotFound{}, "the key is expected to be absent")
}

func assertHolds(t testing.TB, s *Store, key string, want any) {
	t.Helper()
	got, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

type marshaled struct{ err error }

func (m marshaled) MarshalBinary() ([]byte, error) { return []byte("wire"), m.err }

func TestValuesComeBackAsRedisWouldReturnThem(t *testing.T) {
	t.Parallel()
	word, seven := "word", 7
	at := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	for _, c := range []struct{ in, out any }{
		{[]byte("bytes\x00\xff"), []byte("bytes\x00\xff")},
		{[]byte{}, []byte{}},
		{[]byte(nil), []byte{}},
		{"text", "text"},
		{"", ""},
		{nil, ""},
		{42, "42"},
		{int8(-8), "-8"},
		{int16(-16), "-16"},
		{int32(-32), "-32"},
		{int64(math.MinInt64), "-9223372036854775808"},
		{uint(1), "1"},
		{uint8(8), "8"},
		{uint16(16), "16"},
		{uint32(32), "32"},
		{uint64(math.MaxUint64), "18446744073709551615"},
		{uintptr(9), "9"},
		{float32(0.5), "0.5"},
		{1e21, "1000000000000000000000"},
		{true, "1"},
		{false, "0"},
		{at, "2026-01-02T03:04:05.0000006Z"},
		{&at, "2026-01-02T03:04:05.0000006Z"},
		{time.Millisecond, "1000000"},
		{&word, "word"},
		{&seven, "7"},
		{(*int)(nil), "0"},
		{marshaled{}, "wire"},
		{&marshaled{}, "wire"},
		{net.IP{1, 2, 3, 4}, "\x01\x02\x03\x04"},
	} {
		t.Run(fmt.Sprintf("%T", c.in), func(t *testing.T) {
			t.Parallel()
			s := open(t)
			require.NoError(t, s.Set(t.Context(), "k", c.in))
			assertHolds(t, s, "k", c.out)
		})
	}
}

func TestOtherTypesAreRefusedByName(t *testing.T) {
	t.Parallel()
	s := open(t)
	type named string
	for _, value := range []any{named("secret"), struct{ A string }{"secret"}, map[string]int{}, []string{"secret"}, (*marshaled)(nil), func() {}} {
		err := s.Set(t.Context(), "k", value)
		require.ErrorContains(t, err, fmt.Sprintf("%T", value))
		require.NotContains(t, err.Error(), "secret")
	}
	cause := errors.New("cause")
	err := s.Set(t.Context(), "k", marshaled{cause})
	require.ErrorIs(t, err, cause)
	require.NotContains(t, err.Error(), cause.Error(), "it may quote the value")
	assertMissing(t, s, "k")
}

func TestValuesAreCopiedInAndOut(t *testing.T) {
	t.Parallel()
	s := open(t)
	given := []byte("original")
	require.NoError(t, s.SetBytes(t.Context(), "k", given))
	copy(given, "CHANGED!")
	got, err := s.GetBytes(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "original", string(got))
	copy(got, "CHANGED!")
	assertHolds(t, s, "k", []byte("original"))

	next := []byte("swapped!")
	ok, err := s.CompareAndSwap(t.Context(), "k", []byte("original"), 0, next, 0)
	require.NoError(t, err)
	require.True(t, ok)
	copy(next, "CHANGED!")
	assertHolds(t, s, "k", []byte("swapped!"))
}

func TestKeysMustBeStrings(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, key := range []any{nil, 1, []byte("secret"), struct{ K string }{"secret"}} {
		_, err := s.Get(t.Context(), key)
		for _, err := range []error{
			err,
			s.Set(t.Context(), key, "v"),
			s.Delete(t.Context(), key),
			second(s.SetIfNotExists(t.Context(), key, "v")),
		} {
			require.ErrorContains(t, err, fmt.Sprintf("%T", key))
			require.NotContains(t, err.Error(), "secret")
		}
	}
	for _, key := range []string{"", "\x00\xff", strings.Repeat("long", 1<<16)} {
		require.NoError(t, s.Set(t.Context(), key, "v"))
		assertHolds(t, s, key, "v")
	}
}

func second[T any](_ T, err error) error { return err }

func TestLifetimesAreExact(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := New()
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		for _, ttl := range []time.Duration{1, time.Microsecond, time.Millisecond, 700 * time.Millisecond, time.Second, time.Hour, 24 * time.Hour} {
			require.NoError(t, s.Set(t.Context(), "k", "v", store.WithExpiration(ttl)))
			_, got, err := s.GetWithTTL(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, ttl, got)
			time.Sleep(ttl - 1)
			_, got, err = s.GetWithTTL(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, time.Duration(1), got)
			time.Sleep(time.Nanosecond)
			assertMissing(t, s, "k")
			for range s.Keys(t.Context(), "") {
				t.Fatal("an expired entry was enumerated")
			}
			written, err := s.SetIfNotExists(t.Context(), "k", "w", store.WithExpiration(ttl))
			require.NoError(t, err)
			require.True(t, written, "an expired entry stood in the way")
		}
	})
}

func TestNoExpirationIsForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := New()
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		require.NoError(t, s.Set(t.Context(), "zero", "v"))
		require.NoError(t, s.Set(t.Context(), "minus one", "v", store.WithExpiration(-1)))
		require.NoError(t, s.Set(t.Context(), "max", "v", store.WithExpiration(math.MaxInt64)))
		require.NoError(t, s.Set(t.Context(), "taken away", "v", store.WithExpiration(time.Minute)))
		require.NoError(t, s.Set(t.Context(), "taken away", "v"))
		time.Sleep(26 * time.Hour)
		for _, key := range []string{"zero", "minus one", "taken away"} {
			_, ttl, err := s.GetWithTTL(t.Context(), key)
			require.NoError(t, err)
			require.Zero(t, ttl)
		}
		assertHolds(t, s, "max", "v")
	})
}

func TestNegativeExpirationIsAnError(t *testing.T) {
	t.Parallel()
	s := open(t)
	require.ErrorContains(t, s.Set(t.Context(), "k", "v", store.WithExpiration(-2)), "negative")
	require.ErrorContains(t, s.Set(t.Context(), "k", "v", store.WithExpiration(-time.Second)), "negative")
	assertMissing(t, s, "k")
	_, err := New(WithDefaults(store.WithExpiration(-time.Second)))
	require.ErrorContains(t, err, "negative")
}

func TestDefaultsYieldToOptions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := New(WithDefaults(store.WithExpiration(time.Hour), store.WithTags([]string{"default"})))
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		require.NoError(t, s.Set(t.Context(), "a", "v"))
		require.NoError(t, s.Set(t.Context(), "b", "v", store.WithExpiration(time.Minute), store.WithTags([]string{"own"})))
		_, ttl, err := s.GetWithTTL(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, time.Hour, ttl)
		_, ttl, err = s.GetWithTTL(t.Context(), "b")
		require.NoError(t, err)
		require.Equal(t, time.Minute, ttl)
		require.NoError(t, s.Invalidate(t.Context(), store.WithInvalidateTags([]string{"default"})))
		assertMissing(t, s, "a")
		assertHolds(t, s, "b", "v")
	})
}

func TestExpiredEntriesAreFreedUnasked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := New()
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		for i := range 100 {
			require.NoError(t, s.Set(t.Context(), fmt.Sprint(i), "v",
				store.WithExpiration(time.Minute), store.WithTags([]string{"t"})))
		}
		require.Equal(t, 100, s.Len())
		time.Sleep(time.Minute + 3*time.Second)
		synctest.Wait()
		require.Zero(t, s.Len())
		require.Zero(t, s.Bytes())
		require.Empty(t, s.tags.sets, "tags outlived their entries")
	})
}

func TestCompareAndSwap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := New()
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		ctx := t.Context()
		set := func() {
			t.Helper()
			require.NoError(t, s.Set(ctx, "k", []byte("head-tail"), store.WithExpiration(time.Hour)))
		}
		swap := func(old string, tail int, ttl time.Duration) bool {
			t.Helper()
			ok, err := s.CompareAndSwap(ctx, "k", []byte(old), tail, []byte("new"), ttl)
			require.NoError(t, err)
			return ok
		}
		require.False(t, swap("", 0, 0), "CompareAndSwap wrote an entry that did not exist")
		for _, c := range []struct {
			old  string
			tail int
			want bool
		}{
			{"head-tail", 0, true},
			{"head-tail", -1, true},
			{"head-tail", 4, true},
			{"head-tail", 9, true},
			{"head-tail", 99, true},
			{"HEAD-tail", 4, true}, // the head is not compared
			{"HEAD-tail", 0, false},
			{"HEAD-tail", 9, false},
			{"head-taiL", 1, false},
			{"head-taiL", 4, false},
			{"ead-tail", 4, false}, // another length
			{"xhead-tail", 4, false},
			{"", 0, false},
		} {
			set()
			require.Equal(t, c.want, swap(c.old, c.tail, -1), "old %q tail %d", c.old, c.tail)
			if !c.want {
				assertHolds(t, s, "k", []byte("head-tail"))
				continue
			}
			assertHolds(t, s, "k", []byte("new"))
		}

		ttlAfter := func(ttl time.Duration) time.Duration {
			t.Helper()
			set()
			time.Sleep(time.Minute)
			require.True(t, swap("head-tail", 0, ttl))
			_, got, err := s.GetWithTTL(ctx, "k")
			require.NoError(t, err)
			return got
		}
		require.Equal(t, 59*time.Minute, ttlAfter(-1), "the TTL was not kept")
		require.Zero(t, ttlAfter(0))
		require.Equal(t, time.Second, ttlAfter(time.Second))
		time.Sleep(time.Second)
		require.False(t, swap("new", 0, 0), "an expired entry was swapped")

		require.NoError(t, s.Set(ctx, "k", []byte("head-tail")))
		require.True(t, swap("head-tail", 0, -1))
		_, got, err := s.GetWithTTL(ctx, "k")
		require.NoError(t, err)
		require.Zero(t, got, "no expiration was not kept")
	})
}

func TestEveryCallAfterCloseFails(t *testing.T) {
	t.Parallel()
	s, err := New()
	require.NoError(t, err)
	ctx := t.Context()
	require.NoError(t, s.Set(ctx, "k", "v", store.WithTags([]string{"t"})))
	require.NoError(t, s.Ping(ctx))
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "a second Close")
	require.Zero(t, s.Len(), "Close kept entries")
	require.Empty(t, s.tags.sets)
	assertUnusable(t, s, ctx, ErrClosed)
}

func TestEveryCallHeedsItsContext(t *testing.T) {
	t.Parallel()
	s := open(t)
	require.NoError(t, s.Set(t.Context(), "k", "v", store.WithTags([]string{"t"})))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assertUnusable(t, s, ctx, context.Canceled)
	assertHolds(t, s, "k", "v")
}

func assertUnusable(t *testing.T, s *Store, ctx context.Context, want error) {
	t.Helper()
	_, _, getErr := s.GetWithTTL(ctx, "k")
	var keysErr error
	for _, err := range s.Keys(ctx, "") {
		keysErr = err
	}
	for name, err := range map[string]error{
		"Get":            second(s.Get(ctx, "k")),
		"GetWithTTL":     getErr,
		"GetBytes":       second(s.GetBytes(ctx, "k")),
		"Set":            s.Set(ctx, "k", "w"),
		"SetBytes":       s.SetBytes(ctx, "k", []byte("w")),
		"SetIfNotExists": second(s.SetIfNotExists(ctx, "l", "w")),
		"CompareAndSwap": second(s.CompareAndSwap(ctx, "k", []byte("v"), 0, nil, 0)),
		"Delete":         s.Delete(ctx, "k"),
		"Invalidate":     s.Invalidate(ctx, store.WithInvalidateTags([]string{"t"})),
		"Invalidate...":  s.InvalidatePrefix(ctx, "k", store.WithInvalidateTags([]string{"t"})),
		"Clear":          s.Clear(ctx),
		"ClearPrefix":    s.ClearPrefix(ctx, ""),
		"Keys":           keysErr,
		"Ping":           s.Ping(ctx),
	} {
		assert.ErrorIs(t, err, want, name)
	}
}

func TestConstructorsValidate(t *testing.T) {
	t.Parallel()
	for _, opt := range []Option{nil, WithMaxBytes(0), WithMaxBytes(-1), WithMaxBytes(smallestEntry - 1)} {
		_, err := New(opt)
		require.Error(t, err)
	}
	s := open(t, WithMaxBytes(smallestEntry))
	require.NoError(t, s.Set(t.Context(), "k", ""))
}

func TestKeysAndClearPrefix(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()
	set := func(key string, tags ...string) {
		require.NoError(t, s.Set(ctx, key, "v", store.WithTags(tags)))
	}
	for i := range 1000 {
		set(fmt.Sprintf("a:%d", i), "a:tag")
		set(fmt.Sprintf("b:%d", i), "b:tag", "a:of-b")
	}
	set("a*:glob")
	seen := map[string]int{}
	for key, err := range s.Keys(ctx, "a:") {
		require.NoError(t, err)
		seen[key]++
		require.NoError(t, s.Delete(ctx, "b:0"), "the loop may call the store")
	}
	require.Len(t, seen, 1000)
	for key, n := range seen {
		require.Equal(t, 1, n)
		require.True(t, strings.HasPrefix(key, "a:"))
	}
	n := 0
	for range s.Keys(ctx, "") {
		if n++; n == 3 {
			break
		}
	}
	require.Equal(t, 3, n)

	require.NoError(t, s.ClearPrefix(ctx, "a:"))
	require.Equal(t, 1000, s.Len(), "ClearPrefix removed another prefix, or too little")
	require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{"a:of-b"})))
	require.Equal(t, 1000, s.Len(), "the tag is of the cleared prefix")
	require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{"b:tag"})))
	require.Equal(t, 1, s.Len())
	assertHolds(t, s, "a*:glob", "v")
	require.NoError(t, s.Clear(ctx))
	require.Zero(t, s.Len())
	require.Empty(t, s.tags.sets)
}

func TestPrintingAStoreShowsNoValue(t *testing.T) {
	t.Parallel()
	s := open(t)
	require.NoError(t, s.Set(t.Context(), "canary-key", "canary-value"))
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("store", "store", s)
	fmt.Fprintf(&log, "%v %+v %#v %s", s, s, s, s)
	require.NotContains(t, log.String(), "canary")
	require.Contains(t, log.String(), "memorystore.Store(67108864 bytes)")
}
