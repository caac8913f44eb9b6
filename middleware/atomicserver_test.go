package middleware_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
)

// A server that runs no scripts has no atomic operations. Each is ErrUnsupported, and writes nothing.
func TestAtomicOperationsWithoutScripts(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]string{
		"no scripts":              "~* &* +@all -eval -evalsha",
		"no scripts by their sum": "~* &* +@all -evalsha",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.StartWith(t, redistest.Options{User: "app", Password: "secret", Rules: rules})
			admin := server.Client(t)
			s := sealed(t, overRedis(t, server), keyring(t), middleware.WithNamespace("app"))
			require.NoError(t, s.Set(t.Context(), "k", int64(7), store.WithExpiration(time.Hour)))
			stored, expires := admin.Get(t.Context(), "app:k").Val(), admin.PExpireTime(t.Context(), "app:k").Val()
			for operation, call := range calls(s) {
				require.ErrorIs(t, call(t.Context()), middleware.ErrUnsupported, operation)
			}
			_, err := s.Increment(t.Context(), "absent", 1)
			require.ErrorIs(t, err, middleware.ErrUnsupported)
			require.ErrorIs(t, s.Update(t.Context(), "absent", func(any, bool) (any, error) {
				t.Error("the function was called")
				return 1, nil
			}), middleware.ErrUnsupported)
			require.Equal(t, stored, admin.Get(t.Context(), "app:k").Val())
			require.Equal(t, expires, admin.PExpireTime(t.Context(), "app:k").Val())
			require.Zero(t, admin.Exists(t.Context(), "app:absent").Val())

			// The rest of the store works.
			got, err := s.Get(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, int64(7), got)
			written, err := s.SetIfNotExists(t.Context(), "new", "v")
			require.NoError(t, err)
			require.True(t, written)
			require.NoError(t, s.SetMany(t.Context(), map[string]any{"a": 1, "b": 2}))
			found, err := s.GetMany(t.Context(), []string{"a", "b"})
			require.NoError(t, err)
			require.Len(t, found, 2)
		})
	}
}

// A failover of Sentinel during increments counts none twice. Increments that were acknowledged before it are kept, and so is
// the expiry, to the millisecond. Afterwards increments work without a restart.
func TestIncrementsDuringAFailover(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	s := sealed(t, overURL(t, sentinel.URL(), "read_timeout=2s", "max_retries=1"), keyring(t), middleware.WithHiddenKeys(newPRFKeys(t, 1).set(t, 0)))
	require.NoError(t, s.Set(t.Context(), "counter", int64(0), store.WithExpiration(time.Hour)))
	expires := func() time.Duration {
		t.Helper()
		client := sentinel.Client(t)
		names, err := client.Keys(t.Context(), "*").Result()
		require.NoError(t, err)
		require.Len(t, names, 1)
		return client.PExpireTime(t.Context(), names[0]).Val()
	}
	before := expires()

	var stop atomic.Bool
	var acknowledged, unknown atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for !stop.Load() {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				_, err := s.Increment(ctx, "counter", 1)
				cancel()
				switch {
				case err == nil:
					acknowledged.Add(1)
				case errors.Is(err, middleware.ErrNotANumber), errors.Is(err, middleware.ErrUnauthentic), errors.Is(err, middleware.ErrUnsupported):
					t.Errorf("increment: %v", err)
					return
				default:
					unknown.Add(1)
				}
			}
		})
	}
	eventually(t, "increments before the failover", func(context.Context) error {
		if acknowledged.Load() < 100 {
			return errors.New("too few")
		}
		return nil
	})
	least := acknowledged.Load()
	sentinel.Failover(t)
	after := acknowledged.Load()
	eventually(t, "increments after the failover", func(context.Context) error {
		if acknowledged.Load() < after+100 {
			return errors.New("too few")
		}
		return nil
	})
	stop.Store(true)
	all.Wait()
	n, err := s.Increment(t.Context(), "counter", 0)
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, least+100, "acknowledged before and after the failover")
	require.LessOrEqual(t, n, acknowledged.Load()+unknown.Load(), "an increment was counted twice")
	require.Equal(t, before, expires())
}

// A slot moves with its entry while several goroutines increment and take entries in it. No call fails, no increment is
// lost or counted twice, and one caller gets each entry.
func TestAtomicOperationsWhileASlotMoves(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	s := sealed(t, overURL(t, cluster.URL()), keyring(t))
	rdb := cluster.Client(t)
	slot := int(rdb.ClusterKeySlot(t.Context(), "{slot}counter").Val())
	var stop atomic.Bool
	var increments, given, taken atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for !stop.Load() {
				if _, err := s.Increment(context.Background(), "{slot}counter", 1); err != nil {
					t.Errorf("increment: %v", err)
					return
				}
				increments.Add(1)
				written, err := s.SetIfNotExists(context.Background(), "{slot}taken", "v")
				if err != nil {
					t.Errorf("set if not exists: %v", err)
					return
				}
				if written {
					given.Add(1)
				}
				_, err = s.GetAndDelete(context.Background(), "{slot}taken")
				if err != nil && !errors.Is(err, store.NotFound{}) {
					t.Errorf("get and delete: %v", err)
					return
				}
				if err == nil {
					taken.Add(1)
				}
			}
		})
	}
	for range 3 {
		for _, to := range cluster.Nodes() {
			require.NoError(t, cluster.MoveSlots(t.Context(), to, slot))
		}
	}
	stop.Store(true)
	all.Wait()
	n, err := s.Increment(t.Context(), "{slot}counter", 0)
	require.NoError(t, err)
	require.Equal(t, increments.Load(), n)
	require.Positive(t, n)
	require.Equal(t, given.Load(), taken.Load())
}
