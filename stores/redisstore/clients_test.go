package redisstore_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

func TestNewRefusesUnusableClients(t *testing.T) {
	t.Parallel()
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": shared.Single.Addr()}})
	t.Cleanup(func() { _ = ring.Close() })
	auto, err := shared.Single.Client(t).AutoPipeline()
	require.NoError(t, err)
	t.Cleanup(func() { _ = auto.Close() })
	for name, client := range map[string]redis.UniversalClient{
		"nil":               nil,
		"nil client":        (*redis.Client)(nil),
		"nil cluster":       (*redis.ClusterClient)(nil),
		"a ring":            ring,
		"an auto pipeliner": auto,
		"a hidden cluster":  hidden{shared.Cluster.Client(t)},
		"a hidden client":   hidden{shared.Single.Client(t)},
	} {
		s, err := redisstore.New(client)
		require.Error(t, err, name)
		require.Nil(t, s, name)
	}
	_, err = redisstore.New(hidden{shared.Cluster.Client(t)})
	require.ErrorContains(t, err, "pass a *redis.Client or *redis.ClusterClient")
	_, err = redisstore.New(shared.Single.Client(t), nil)
	require.ErrorContains(t, err, "is nil")
	_, err = redisstore.New(shared.Single.Client(t), store.WithExpiration(-time.Second))
	require.ErrorContains(t, err, "the expiration is negative")
	_, err = redisstore.New(shared.Single.Client(t), store.WithTagsTTL(-time.Second))
	require.ErrorContains(t, err, "WithTagsTTL: the duration is negative")
}

// The longest durations mean "forever". Redis holds them, rounded down to milliseconds.
func TestLongestExpirations(t *testing.T) {
	t.Parallel()
	rdb := shared.Single.Client(t)
	for _, longest := range []time.Duration{math.MaxInt64, math.MaxInt64 - time.Millisecond, 1 << 62} {
		s := newStore(t, rdb, store.WithExpiration(longest))
		key := t.Name()
		check := func(err error) {
			t.Helper()
			require.NoError(t, err)
			value, left, err := s.GetWithTTL(t.Context(), key)
			require.NoError(t, err)
			require.Equal(t, []byte("v"), value)
			require.Greater(t, left, longest-time.Hour)
		}
		check(s.Set(t.Context(), key, "v"))
		check(s.Set(t.Context(), key, "v", store.WithTags([]string{key})))
		check(errors.Join(s.SetBytesMany(t.Context(), []string{key}, [][]byte{[]byte("v")})...))
		swapped, err := s.CompareAndExpire(t.Context(), key, []byte("v"), 0, longest)
		require.True(t, swapped)
		check(err)
		require.NoError(t, s.Delete(t.Context(), key))
		written, err := s.SetIfNotExists(t.Context(), key, "v")
		require.True(t, written)
		check(err)
	}
}

func TestCloseLeavesTheCallersClientOpen(t *testing.T) {
	t.Parallel()
	rdb := shared.Single.Client(t)
	s := newStore(t, rdb)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.NoError(t, rdb.Ping(t.Context()).Err())

	own, err := redisstore.Open(t.Context(), shared.Single.URL())
	require.NoError(t, err)
	require.NoError(t, own.Ping(t.Context()))
	require.NoError(t, own.Close())
	require.NoError(t, own.Close())
	require.ErrorIs(t, own.Ping(t.Context()), redis.ErrClosed)
}

// hidden wraps a client, as an application does to count or log. It hides that the client is one of a Cluster.
type hidden struct{ redis.UniversalClient }

type embedded struct{ *redis.ClusterClient }

type embeddedSingle struct{ *redis.Client }

func TestNewTakesATypeThatEmbedsAClient(t *testing.T) {
	t.Parallel()
	s := newStore(t, embedded{shared.Cluster.Client(t)})
	p := t.Name() + ":"
	for i := range 20 { // over all masters, because a key is needed in each
		require.NoError(t, s.Set(t.Context(), fmt.Sprint(p, i), "v", store.WithTags([]string{p + "tag"})))
	}
	n := 0
	for _, err := range s.Keys(t.Context(), p) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 20, n)
	works(t, newStore(t, embeddedSingle{redistest.Start(t).Client(t)}))
}

// A nil option is an error. gocache's stores panic.
func TestNilOptionsAreErrors(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, _ redis.UniversalClient, p string) {
		ctx := t.Context()
		require.ErrorContains(t, s.Set(ctx, p, "v", nil), "is nil")
		require.ErrorContains(t, s.SetBytes(ctx, p, nil, store.WithCost(1), nil), "is nil")
		_, err := s.SetIfNotExists(ctx, p, "v", nil)
		require.ErrorContains(t, err, "is nil")
		require.ErrorContains(t, s.Invalidate(ctx, nil), "is nil")
		_, err = s.Get(ctx, p)
		require.ErrorIs(t, err, &store.NotFound{})
	})
}
