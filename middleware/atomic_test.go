package middleware_test

import (
	"context"
	"errors"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// The stores of this module offer atomic operations and batches.
func TestAtomicStores(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T, b backing){
		"increment": testIncrement, "concurrency": testConcurrency, "touch": testTouch, "get and delete": testGetAndDelete,
		"unreadable entries": testUnreadableEntries, "refused entries": testRefusedEntries, "tolerated plaintext": testTolerated,
		"mixed batch": testMixedBatch, "set many": testSetMany, "seal on read seals the end": testSealOnReadSealsTheEnd, "canceled batch": testCanceledBatch,
	}
	all := func(open func(t *testing.T) backing) func(t *testing.T) {
		return func(t *testing.T) {
			t.Parallel()
			for name, test := range tests {
				t.Run(name, func(t *testing.T) { test(t, open(t)) })
			}
		}
	}
	t.Run("memory", all(func(t *testing.T) backing { t.Helper(); return memory(t) }))
	server := redistest.Start(t)
	t.Run("redis", all(func(t *testing.T) backing { t.Helper(); return emptied(t, server.Client(t)) }))
	cluster := redistest.StartCluster(t)
	t.Run("cluster", all(func(t *testing.T) backing { t.Helper(); return emptied(t, cluster.Client(t)) }))
	for name, client := range map[string]redis.UniversalClient{"redis": server.Client(t), "cluster": cluster.Client(t)} {
		t.Run("expiry on "+name, func(t *testing.T) { testKeptExpiry(t, client) })
	}
}

// backing is what the tests use of redisstore and memorystore.
type backing interface {
	store.StoreInterface
	middleware.BytesStore
	middleware.Swapper
}

func emptied(t *testing.T, client redis.UniversalClient) *redisstore.Store {
	t.Helper()
	r, err := redisstore.New(client)
	require.NoError(t, err)
	require.NoError(t, r.ClearPrefix(t.Context(), ""))
	return r
}

func ttlOf(t *testing.T, b backing, key string) time.Duration {
	t.Helper()
	_, ttl, err := b.GetBytesWithTTL(t.Context(), key)
	require.NoError(t, err)
	return ttl
}

func testIncrement(t *testing.T, b backing) {
	s := sealed(t, b, keyring(t), middleware.WithNamespace("ns"))
	n, err := s.Increment(t.Context(), "n", 5, store.WithExpiration(time.Hour), store.WithTags([]string{"tag"}))
	require.NoError(t, err)
	require.EqualValues(t, 5, n)
	before := ttlOf(t, b, "ns:n")
	require.Greater(t, before, 59*time.Minute)
	n, err = s.Increment(t.Context(), "n", -7, store.WithExpiration(time.Minute))
	require.NoError(t, err)
	require.EqualValues(t, -2, n)
	require.Greater(t, ttlOf(t, b, "ns:n"), 59*time.Minute, "an entry that exists keeps its expiry")
	got, err := s.Get(t.Context(), "n")
	require.NoError(t, err)
	require.Equal(t, int64(-2), got)
	require.NoError(t, s.Invalidate(t.Context(), store.WithInvalidateTags([]string{"tag"})))
	_, err = s.Get(t.Context(), "n")
	require.ErrorIs(t, err, store.NotFound{}, "the created entry has its tags")

	// Each integer type is kept, and overflows as itself.
	for _, c := range []struct{ start, next, last any }{
		{int(1), int(2), math.MaxInt},
		{int8(1), int8(2), int8(math.MaxInt8)}, {int16(1), int16(2), int16(math.MaxInt16)},
		{int32(1), int32(2), int32(math.MaxInt32)}, {int64(1), int64(2), int64(math.MaxInt64)},
		{uint8(1), uint8(2), uint8(math.MaxUint8)}, {uint16(1), uint16(2), uint16(math.MaxUint16)},
		{uint32(1), uint32(2), uint32(math.MaxUint32)}, {uint64(1), uint64(2), uint64(math.MaxInt64)},
		{uint(1), uint(2), uint(math.MaxInt64)}, {uintptr(1), uintptr(2), uintptr(math.MaxInt64)},
	} {
		require.NoError(t, s.Set(t.Context(), "typed", c.start))
		_, err := s.Increment(t.Context(), "typed", 1)
		require.NoError(t, err)
		got, err := s.Get(t.Context(), "typed")
		require.NoError(t, err)
		require.Equal(t, c.next, got)
		require.NoError(t, s.Set(t.Context(), "typed", c.last))
		stored, err := b.GetBytes(t.Context(), "ns:typed")
		require.NoError(t, err)
		_, err = s.Increment(t.Context(), "typed", 1)
		require.ErrorIs(t, err, middleware.ErrOverflow, "%T", c.last)
		_, err = s.Increment(t.Context(), "typed", math.MaxInt64)
		require.ErrorIs(t, err, middleware.ErrOverflow, "%T", c.last)
		after, err := b.GetBytes(t.Context(), "ns:typed")
		require.NoError(t, err)
		require.Equal(t, stored, after, "an overflow changes nothing")
	}
	for _, c := range []struct {
		start any
		delta int64
	}{{uint8(3), -4}, {uint64(3), -4}, {int64(math.MinInt64), -1}, {int64(-1), math.MinInt64}, {uint64(math.MaxUint64), -1}, {int8(-1), math.MaxInt64}} {
		require.NoError(t, s.Set(t.Context(), "typed", c.start))
		_, err := s.Increment(t.Context(), "typed", c.delta)
		require.ErrorIs(t, err, middleware.ErrOverflow, "%T(%v) %d", c.start, c.start, c.delta)
	}
	n, err = s.Increment(t.Context(), "least", math.MinInt64)
	require.NoError(t, err)
	require.EqualValues(t, math.MinInt64, n)

	// Everything else is not a number, digits included, and stays.
	for _, value := range []any{"text", "42", []byte("42"), 1.5, true, float32(2)} {
		require.NoError(t, s.Set(t.Context(), "text", value))
		stored, err := b.GetBytes(t.Context(), "ns:text")
		require.NoError(t, err)
		_, err = s.Increment(t.Context(), "text", 1)
		require.ErrorIs(t, err, middleware.ErrNotANumber, "%T", value)
		after, err := b.GetBytes(t.Context(), "ns:text")
		require.NoError(t, err)
		require.Equal(t, stored, after)
	}
}

// Many goroutines over several stores, as several processes have them.
func testConcurrency(t *testing.T, b backing) {
	k := keyring(t)
	const stores, workers, each = 4, 4, 20
	var wg sync.WaitGroup
	var created, tokens, seen atomic.Int64
	require.NoError(t, sealed(t, b, k).Set(t.Context(), "token", "secret"))
	for range stores {
		s := sealed(t, b, k)
		for range workers {
			wg.Go(func() {
				for i := range each {
					if _, err := s.Increment(t.Context(), "n", 2, store.WithExpiration(time.Hour)); err != nil {
						t.Errorf("Increment: %v", err)
					}
					err := s.Update(t.Context(), "u", func(old any, found bool) (any, error) {
						if !found {
							return 1, nil
						}
						return old.(int) + 1, nil
					}, store.WithExpiration(time.Hour))
					if err != nil {
						t.Errorf("Update: %v", err)
					}
					written, err := s.SetIfNotExists(t.Context(), "lock"+strconv.Itoa(i), "mine")
					if err != nil {
						t.Errorf("SetIfNotExists: %v", err)
					}
					if written {
						created.Add(1)
					}
				}
				switch _, err := s.GetAndDelete(t.Context(), "token"); {
				case err == nil:
					tokens.Add(1)
				case !errors.Is(err, store.NotFound{}):
					t.Errorf("GetAndDelete: %v", err)
				}
				seen.Add(1)
			})
		}
	}
	wg.Wait()
	s := sealed(t, b, k)
	n, err := s.Get(t.Context(), "n")
	require.NoError(t, err)
	require.Equal(t, int64(stores*workers*each*2), n, "no increment is lost")
	u, err := s.Get(t.Context(), "u")
	require.NoError(t, err)
	require.Equal(t, stores*workers*each, u, "no update is lost")
	require.EqualValues(t, each, created.Load())
	require.EqualValues(t, 1, tokens.Load(), "one caller gets the token")
	require.Greater(t, ttlOf(t, b, "n"), 59*time.Minute)
	require.Greater(t, ttlOf(t, b, "u"), 59*time.Minute)
}

// The expiry of an entry is the same millisecond before and after.
func testKeptExpiry(t *testing.T, client redis.UniversalClient) {
	s := sealed(t, emptied(t, client), keyring(t))
	expiry := func() time.Duration {
		at, err := client.PExpireTime(t.Context(), "n").Result()
		require.NoError(t, err)
		return at
	}
	require.NoError(t, s.Set(t.Context(), "n", 1, store.WithExpiration(123_457*time.Millisecond)))
	before := expiry()
	require.Positive(t, before)
	for range 3 {
		_, err := s.Increment(t.Context(), "n", 1, store.WithExpiration(time.Hour))
		require.NoError(t, err)
		require.NoError(t, s.Update(t.Context(), "n", func(old any, _ bool) (any, error) { return old, nil }, store.WithExpiration(time.Hour)))
	}
	require.Equal(t, before, expiry())
	require.NoError(t, s.Touch(t.Context(), "n", time.Hour))
	require.NotEqual(t, before, expiry())
	require.NoError(t, s.Touch(t.Context(), "n", 0))
	require.Equal(t, time.Duration(-1), expiry())
}

func testTouch(t *testing.T, b backing) {
	s := sealed(t, b, keyring(t))
	require.ErrorIs(t, s.Touch(t.Context(), "k", time.Hour), store.NotFound{})
	require.NoError(t, s.Set(t.Context(), "k", "v"))
	require.Error(t, s.Touch(t.Context(), "k", -time.Second))
	require.Zero(t, ttlOf(t, b, "k"))
	require.NoError(t, s.Touch(t.Context(), "k", time.Hour))
	require.Greater(t, ttlOf(t, b, "k"), 59*time.Minute)
	require.NoError(t, s.Touch(t.Context(), "k", -1))
	require.Zero(t, ttlOf(t, b, "k"))
	got, err := s.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "v", got)
}

func testGetAndDelete(t *testing.T, b backing) {
	s := sealed(t, b, keyring(t))
	_, err := s.GetAndDelete(t.Context(), "k")
	require.ErrorIs(t, err, store.NotFound{})
	for _, value := range []any{"token", []byte("bytes"), 42} {
		require.NoError(t, s.Set(t.Context(), "k", value))
		got, err := s.GetAndDelete(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, value, got)
		_, err = s.GetAndDelete(t.Context(), "k")
		require.ErrorIs(t, err, store.NotFound{})
	}
}

// calls are the operations that change an entry which is there.
func calls(s *middleware.Store) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"Increment": func(ctx context.Context) error { _, err := s.Increment(ctx, "k", 1); return err },
		"Update": func(ctx context.Context) error {
			return s.Update(ctx, "k", func(any, bool) (any, error) { return "overwritten", nil })
		},
		"Touch":        func(ctx context.Context) error { return s.Touch(ctx, "k", time.Hour) },
		"GetAndDelete": func(ctx context.Context) error { _, err := s.GetAndDelete(ctx, "k"); return err },
	}
}

// An entry that cannot be opened stays as it is: not one byte and not its expiry changes.
func testUnreadableEntries(t *testing.T, b backing) {
	h := sealtest.Handle(t)
	both, _, _ := sealtest.Rotated(t, h)
	k := sealtest.KeyringOf(t, h)
	require.NoError(t, sealed(t, b, sealtest.KeyringOf(t, both)).Set(t.Context(), "newer", 1))
	require.NoError(t, sealed(t, b, k).Set(t.Context(), "other", 1))
	newer, err := b.GetBytes(t.Context(), "newer")
	require.NoError(t, err)
	moved, err := b.GetBytes(t.Context(), "other")
	require.NoError(t, err)
	for name, c := range map[string]struct {
		stored []byte
		want   error
		final  bool // an absent entry with WithMissOnOpenFailure
	}{
		"unknown key": {newer, middleware.ErrUnknownKey, false},
		"moved":       {moved, middleware.ErrUnauthentic, true},
		"plaintext":   {[]byte("42"), middleware.ErrNotSealed, true},
	} {
		for _, lenient := range []bool{false, true} {
			var opts []middleware.Option
			if lenient {
				opts = append(opts, middleware.WithMissOnOpenFailure())
			}
			s := sealed(t, b, k, opts...)
			for operation, call := range calls(s) {
				require.NoError(t, b.SetBytes(t.Context(), "k", c.stored))
				err := call(t.Context())
				writes := operation == "Increment" || operation == "Update"
				if lenient && c.final {
					if writes {
						require.NoError(t, err, "%s of %s", operation, name)
						continue
					}
					require.ErrorIs(t, err, store.NotFound{}, "%s of %s", operation, name)
				} else {
					require.ErrorIs(t, err, c.want, "%s of %s", operation, name)
					require.NotErrorIs(t, err, store.NotFound{}, "%s of %s", operation, name)
				}
				after, err := b.GetBytes(t.Context(), "k")
				require.NoError(t, err)
				require.Equal(t, c.stored, after, "%s of %s", operation, name)
				require.Zero(t, ttlOf(t, b, "k"))
			}
		}
	}
}

// A refused entry that counts as absent is created again, with its tags and expiry.
func testRefusedEntries(t *testing.T, b backing) {
	s := sealed(t, b, keyring(t), middleware.WithMissOnOpenFailure())
	for _, tags := range [][]string{nil, {"tag"}} {
		opts := []store.Option{store.WithExpiration(time.Hour), store.WithTags(tags)}
		require.NoError(t, b.SetBytes(t.Context(), "k", []byte("planted")))
		n, err := s.Increment(t.Context(), "k", 3, opts...)
		require.NoError(t, err)
		require.EqualValues(t, 3, n)
		require.Greater(t, ttlOf(t, b, "k"), 59*time.Minute)
		if tags != nil {
			require.NoError(t, s.Invalidate(t.Context(), store.WithInvalidateTags(tags)))
			_, err = s.Get(t.Context(), "k")
			require.ErrorIs(t, err, store.NotFound{})
		}

		// SetIfNotExists replaces it once, for any number of callers.
		require.NoError(t, b.SetBytes(t.Context(), "k", []byte("planted")))
		var wg sync.WaitGroup
		var won atomic.Int32
		for range 8 {
			wg.Go(func() {
				written, err := s.SetIfNotExists(t.Context(), "k", "lock", opts...)
				if err != nil {
					t.Errorf("SetIfNotExists with tags %v: %v", tags, err)
				}
				if written {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, won.Load())
		require.Greater(t, ttlOf(t, b, "k"), 59*time.Minute)
		require.NoError(t, s.Touch(t.Context(), "k", 0))
		if tags != nil {
			require.NoError(t, s.Invalidate(t.Context(), store.WithInvalidateTags(tags)))
			_, err = s.Get(t.Context(), "k")
			require.ErrorIs(t, err, store.NotFound{})
		}
	}
}

// A replacement that fails leaves the entry that was there.
func TestFailedReplacementsLeaveTheEntry(t *testing.T) {
	t.Parallel()
	r := emptied(t, redistest.Start(t).Client(t))
	s := sealed(t, r, keyring(t), middleware.WithMissOnOpenFailure())
	require.NoError(t, r.SetBytes(t.Context(), "k", []byte("planted")))
	require.NoError(t, r.SetBytes(t.Context(), "gocache_tag_taken", []byte("not a set")))
	tagged := store.WithTags([]string{"taken"})
	_, err := s.Increment(t.Context(), "k", 1, tagged)
	require.ErrorContains(t, err, "WRONGTYPE")
	_, err = s.SetIfNotExists(t.Context(), "k", "lock", tagged)
	require.ErrorContains(t, err, "WRONGTYPE")
	left, err := r.GetBytes(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "planted", string(left))
}

// Plaintext that WithPlaintext tolerates is read. No plaintext is left.
func testTolerated(t *testing.T, b backing) {
	k := keyring(t)
	plant := func(text string) {
		require.NoError(t, b.SetBytes(t.Context(), "k", []byte(text), store.WithExpiration(time.Hour)))
	}
	isSealed := func() bool {
		stored, err := b.GetBytes(t.Context(), "k")
		require.NoError(t, err)
		_, err = middleware.Inspect(stored)
		return err == nil
	}
	for _, policy := range []middleware.PlaintextPolicy{middleware.ReadPlaintext, middleware.SealOnRead, middleware.WritePlaintext} {
		s := sealed(t, b, k, middleware.WithPlaintext(policy))
		plant("41")
		n, err := s.Increment(t.Context(), "k", 1)
		require.NoError(t, err)
		require.EqualValues(t, 42, n)
		require.Equal(t, policy != middleware.WritePlaintext, isSealed(), "%v", policy)
		if policy == middleware.WritePlaintext {
			stored, err := b.GetBytes(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, "42", string(stored))
		}
		n, err = s.Increment(t.Context(), "k", 1)
		require.NoError(t, err)
		require.EqualValues(t, 43, n)
		require.Greater(t, ttlOf(t, b, "k"), 59*time.Minute)

		for _, text := range []string{"", "4 2", "+1", "007", "9223372036854775808", "text", "1.5", "-0"} {
			plant(text)
			_, err = s.Increment(t.Context(), "k", 1)
			require.ErrorIs(t, err, middleware.ErrNotANumber, "%q", text)
		}
		plant("old")
		require.NoError(t, s.Update(t.Context(), "k", func(old any, found bool) (any, error) {
			require.True(t, found)
			return append(old.([]byte), " and new"...), nil
		}))
		require.Equal(t, policy != middleware.WritePlaintext, isSealed(), "%v", policy)
		got, err := s.Get(t.Context(), "k")
		require.NoError(t, err)
		require.EqualValues(t, "old and new", got)

		plant("touched")
		require.NoError(t, s.Touch(t.Context(), "k", 2*time.Hour))
		require.Equal(t, policy != middleware.WritePlaintext, isSealed(), "%v", policy)
		require.Greater(t, ttlOf(t, b, "k"), time.Hour)
		got, err = s.GetAndDelete(t.Context(), "k")
		require.NoError(t, err)
		require.EqualValues(t, "touched", got)

		if policy == middleware.WritePlaintext { // numbers are written as go-redis writes them
			for _, c := range []struct {
				value any
				text  string
			}{{42, "42"}, {uint8(7), "7"}, {true, "1"}, {false, "0"}, {1.5, "1.5"}, {float32(0.1), "0.10000000149011612"}, {"t", "t"}, {[]byte("b"), "b"}} {
				plant("x")
				require.NoError(t, s.Update(t.Context(), "k", func(any, bool) (any, error) { return c.value, nil }))
				stored, err := b.GetBytes(t.Context(), "k")
				require.NoError(t, err)
				require.Equal(t, c.text, string(stored))
			}
		}
	}
}
