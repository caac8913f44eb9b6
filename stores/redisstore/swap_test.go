package redisstore_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

func TestCompareAndSwap(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, _ redis.UniversalClient, p string) {
		for name, c := range map[string]struct {
			stored, old string
			tail        int
			want        bool
		}{
			"all":                          {"abcdef", "abcdef", 0, true},
			"all, another beginning":       {"abcdef", "Xbcdef", 0, false},
			"all, another end":             {"abcdef", "abcdeX", 0, false},
			"all, longer":                  {"abcdef", "abcdefg", 0, false},
			"all, shorter":                 {"abcdef", "bcdef", 0, false},
			"negative tail is all":         {"abcdef", "Xbcdef", -1, false},
			"tail":                         {"abcdef", "abcdef", 2, true},
			"tail, another beginning":      {"abcdef", "XXXXef", 2, true},
			"tail, another last byte":      {"abcdef", "abcdeX", 2, false},
			"tail, another first of it":    {"abcdef", "abcdXf", 2, false},
			"tail, another length":         {"abcdef", "Xabcdef", 2, false},
			"tail of one":                  {"abcdef", "XXXXXf", 1, true},
			"tail as long as the value":    {"abcdef", "Xbcdef", 6, false},
			"tail longer than the value":   {"abcdef", "Xbcdef", 7, false},
			"empty":                        {"", "", 0, true},
			"empty expected, not there":    {"a", "", 0, false},
			"something expected, is empty": {"", "a", 0, false},
			"bytes":                        {"\x00\xff\r\n", "\x00\xff\r\n", 0, true},
		} {
			key := p + name
			require.NoError(t, s.Set(t.Context(), key, c.stored), name)
			swapped, err := s.CompareAndSwap(t.Context(), key, []byte(c.old), c.tail, []byte("new"), 0)
			require.NoError(t, err, name)
			require.Equal(t, c.want, swapped, name)
			b, err := s.GetBytes(t.Context(), key)
			require.NoError(t, err, name)
			if c.want {
				require.Equal(t, "new", string(b), name)
			} else {
				require.Equal(t, c.stored, string(b), name)
			}
		}
		for _, old := range []string{"", "a"} {
			swapped, err := s.CompareAndSwap(t.Context(), p+"absent", []byte(old), 0, []byte("new"), -1)
			require.NoError(t, err)
			require.False(t, swapped)
			_, err = s.Get(t.Context(), p+"absent")
			require.ErrorIs(t, err, &store.NotFound{})
		}
	})
}

func TestCompareAndSwapTTL(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx := t.Context()
		swap := func(key, old string, ttl time.Duration) {
			t.Helper()
			swapped, err := s.CompareAndSwap(ctx, key, []byte(old), 0, []byte("w"), ttl)
			require.NoError(t, err)
			require.True(t, swapped)
		}
		// Keeping the TTL does not move the instant of expiry by a millisecond.
		require.NoError(t, s.Set(ctx, p+"kept", "v", store.WithExpiration(1234567*time.Millisecond)))
		before, err := rdb.Do(ctx, "pexpiretime", p+"kept").Int64()
		require.NoError(t, err)
		swap(p+"kept", "v", -1)
		swap(p+"kept", "w", -time.Hour)
		after, err := rdb.Do(ctx, "pexpiretime", p+"kept").Int64()
		require.NoError(t, err)
		require.Equal(t, before, after)

		require.NoError(t, s.Set(ctx, p+"none", "v"))
		swap(p+"none", "v", -1)
		require.EqualValues(t, -1, rdb.PTTL(ctx, p+"none").Val())

		swap(p+"kept", "w", 0)
		require.EqualValues(t, -1, rdb.PTTL(ctx, p+"kept").Val())

		swap(p+"none", "w", time.Hour)
		require.InDelta(t, time.Hour, rdb.PTTL(ctx, p+"none").Val(), float64(time.Minute))

		swap(p+"none", "w", time.Nanosecond)
		require.Eventually(t, func() bool { return rdb.Exists(ctx, p+"none").Val() == 0 }, 2*time.Minute, time.Millisecond)
	})
}

func TestCompareAndSwapKeepsTags(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, _ redis.UniversalClient, p string) {
		ctx := t.Context()
		require.NoError(t, s.Set(ctx, p+"k", "v", store.WithTags([]string{p + "tag"})))
		swapped, err := s.CompareAndSwap(ctx, p+"k", []byte("v"), 0, []byte("w"), -1)
		require.NoError(t, err)
		require.True(t, swapped)
		require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{p + "tag"})))
		_, err = s.Get(ctx, p+"k")
		require.ErrorIs(t, err, &store.NotFound{})
	})
}

// Sixteen writers over two stores increment one counter, and no update is lost.
func TestCompareAndSwapLosesNoUpdate(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		const writers, each = 16, 25
		ctx, key := t.Context(), p+"counter"
		other := newStore(t, rdb)
		// A value ends in 16 random bytes, as sealed values do. Only these are compared.
		value := func(n int) []byte {
			b := make([]byte, 16)
			_, _ = rand.Read(b)
			return append(strconv.AppendInt(nil, 1_000_000+int64(n), 10), b...)
		}
		require.NoError(t, s.SetBytes(ctx, key, value(0), store.WithExpiration(time.Hour)))
		var wg sync.WaitGroup
		errs := make(chan error, writers)
		for w := range writers {
			mine := s
			if w%2 == 1 {
				mine = other
			}
			wg.Go(func() {
				for range each {
					for swapped := false; !swapped; {
						old, err := mine.GetBytes(ctx, key)
						if err == nil {
							var n int
							if n, err = strconv.Atoi(string(old[:7])); err == nil {
								swapped, err = mine.CompareAndSwap(ctx, key, old, 16, value(n-1_000_000+1), -1)
							}
						}
						if err != nil {
							errs <- err
							return
						}
					}
				}
			})
		}
		wg.Wait()
		select {
		case err := <-errs:
			require.NoError(t, err)
		default:
		}
		b, ttl, err := s.GetBytesWithTTL(ctx, key)
		require.NoError(t, err)
		require.Equal(t, strconv.Itoa(1_000_000+writers*each), string(b[:7]))
		require.Greater(t, ttl, 50*time.Minute)
	})
}

// A deadline that ends while the server is silent is reported as a deadline, not as a timeout of the connection.
func TestDeadlineIsReportedAsOne(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	rdb := srv.Client(t)
	s := newStore(t, rdb)
	require.NoError(t, s.Set(t.Context(), "k", "v"))
	require.NoError(t, srv.Pause())
	for name, call := range map[string]func(ctx context.Context) error{
		"get":  func(ctx context.Context) error { _, err := s.GetBytes(ctx, "k"); return err },
		"ttl":  func(ctx context.Context) error { _, _, err := s.GetBytesWithTTL(ctx, "k"); return err },
		"set":  func(ctx context.Context) error { return s.Set(ctx, "k", "v") },
		"tags": func(ctx context.Context) error { return s.Set(ctx, "k", "v", store.WithTags([]string{"t"})) },
		"swap": func(ctx context.Context) error {
			_, err := s.CompareAndSwap(ctx, "k", []byte("v"), 0, []byte("x"), -1)
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		require.ErrorIs(t, call(ctx), context.DeadlineExceeded, name)
		cancel()
	}
	require.NoError(t, srv.Resume())
	require.NoError(t, s.Ping(t.Context()))
}

// A swap whose reply is lost is not repeated. The repetition would report false for its own success.
func TestSwapsAreSentOnce(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	proxy := redistest.StartProxy(t, srv.Addr())
	opts := srv.ClientOptions()
	opts.Addr = proxy.Addr()
	rdb := redis.NewClient(opts)
	defer func() { require.NoError(t, rdb.Close()) }()
	s, ctx := newStore(t, rdb), t.Context()

	require.NoError(t, s.Set(ctx, "k", "v"))
	_, err := s.CompareAndSwap(ctx, "k", []byte("v"), 0, []byte("v"), -1) // the server knows the script from here on
	require.NoError(t, err)
	proxy.CutReplyAfter(0)
	swapped, err := s.CompareAndSwap(ctx, "k", []byte("v"), 0, []byte("w"), -1)
	require.Error(t, err)
	require.False(t, swapped)
	b, err := s.GetBytes(ctx, "k")
	require.NoError(t, err)
	require.Equal(t, "w", string(b), "it ran, and the caller was told that this is unknown, not that it did not")

	for _, opts := range [][]store.Option{nil, {store.WithTags([]string{"tag"})}} {
		require.NoError(t, s.Delete(ctx, "nx"))
		_, err = s.SetIfNotExists(ctx, "nx", "v", opts...)
		require.NoError(t, err)
		require.NoError(t, s.Delete(ctx, "nx"))
		proxy.CutReplyAfter(0)
		written, err := s.SetIfNotExists(ctx, "nx", "v", opts...)
		require.Error(t, err)
		require.False(t, written)
	}

	// Commands that may run twice are repeated, and the caller gets no error.
	proxy.CutReplyAfter(0)
	require.NoError(t, s.Set(ctx, "k", "x"))
	proxy.CutReplyAfter(3)
	b, err = s.GetBytes(ctx, "k")
	require.NoError(t, err)
	require.True(t, bytes.Equal([]byte("x"), b))
}
