package middleware_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// restore writes what the backing store held, without its TTL.
func restore(t testing.TB, m *memorystore.Store, name string, value []byte) {
	t.Helper()
	require.NoError(t, m.SetBytes(t.Context(), name, append([]byte(nil), value...), store.WithExpiration(0)))
}

// A value past its sealed end is a miss, although the backing store still has it.
func TestSealedExpiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, err := memorystore.New()
		require.NoError(t, err)
		defer m.Close()
		a, ctx := keyring(t), t.Context()
		s := sealed(t, m, a, middleware.WithAuthenticatedExpiry(), middleware.WithDefaults(store.WithExpiration(time.Minute)))
		reader := sealed(t, m, a)
		sealer, err := middleware.NewSealer(a)
		require.NoError(t, err)
		require.NoError(t, s.Set(ctx, "k", "v"))
		dump := raw(t, m, "k")
		info, err := middleware.Inspect(dump)
		require.NoError(t, err)
		require.True(t, info.Expires)
		require.Equal(t, time.Now().Add(time.Minute).UnixMilli(), info.End.UnixMilli())

		restore(t, m, "k", dump)
		_, ttl, err := s.GetWithTTL(ctx, "k")
		require.NoError(t, err)
		require.Equal(t, time.Minute, ttl)
		time.Sleep(time.Minute + 4*time.Second) // within the tolerance
		_, err = reader.Get(ctx, "k")
		require.NoError(t, err)
		_, ttl, err = s.GetWithTTL(ctx, "k")
		require.NoError(t, err)
		require.Equal(t, time.Millisecond, ttl)
		written, err := s.SetIfNotExists(ctx, "k", "w")
		require.NoError(t, err)
		require.False(t, written)

		time.Sleep(2 * time.Second)
		for name, r := range map[string]*middleware.Store{"with the option": s, "without": reader} {
			_, err = r.Get(ctx, "k")
			require.ErrorIs(t, err, store.NotFound{}, name)
			_, _, err = r.GetWithTTL(ctx, "k")
			require.ErrorIs(t, err, store.NotFound{}, name)
			many, err := r.GetMany(ctx, []string{"k"})
			require.NoError(t, err)
			require.Empty(t, many)
			require.ErrorIs(t, r.Touch(ctx, "k", time.Hour), store.NotFound{}, name)
			_, err = r.GetAndDelete(ctx, "k")
			require.ErrorIs(t, err, store.NotFound{}, name)
		}
		_, err = sealer.Open(ctx, "k", dump)
		require.ErrorIs(t, err, store.NotFound{})

		for _, options := range [][]store.Option{nil, {store.WithTags([]string{"t"})}} {
			restore(t, m, "k", dump)
			written, err = s.SetIfNotExists(ctx, "k", "w", options...)
			require.NoError(t, err)
			require.True(t, written)
			got, ttl, err := s.GetWithTTL(ctx, "k")
			require.NoError(t, err)
			require.Equal(t, "w", got)
			require.Equal(t, time.Minute, ttl)
		}
		restore(t, m, "n", nil)
		require.NoError(t, s.Set(ctx, "n", int64(41)))
		dump = raw(t, m, "n")
		time.Sleep(2 * time.Minute)
		restore(t, m, "n", dump)
		n, err := s.Increment(ctx, "n", 1)
		require.NoError(t, err)
		require.Equal(t, int64(1), n, "an expired counter starts again")

		// No expiration, no end; and an end cannot be removed.
		require.NoError(t, s.Set(ctx, "forever", "v", store.WithExpiration(-1)))
		info, err = middleware.Inspect(raw(t, m, "forever"))
		require.NoError(t, err)
		require.False(t, info.Expires)
		dump[5] &^= 2
		restore(t, m, "n", append(dump[:6:6], dump[14:]...))
		_, err = s.Get(ctx, "n")
		require.ErrorIs(t, err, middleware.ErrUnauthentic)
	})
}

// Touch moves the sealed end; a change of the value keeps it.
func TestTouchMovesTheSealedEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, err := memorystore.New()
		require.NoError(t, err)
		defer m.Close()
		a, ctx := keyring(t), t.Context()
		s := sealed(t, m, a, middleware.WithAuthenticatedExpiry())
		end := func() time.Time {
			info, err := middleware.Inspect(raw(t, m, "k"))
			require.NoError(t, err)
			return info.End
		}
		require.NoError(t, s.Set(ctx, "k", int64(1), store.WithExpiration(time.Minute), store.WithTags([]string{"t"})))
		first := end()
		time.Sleep(10 * time.Second)
		_, err = s.Increment(ctx, "k", 1)
		require.NoError(t, err)
		require.Equal(t, first, end())
		for name, toucher := range map[string]*middleware.Store{"with the option": s, "without": sealed(t, m, a)} {
			time.Sleep(time.Second)
			require.NoError(t, toucher.Touch(ctx, "k", time.Hour), name)
			require.WithinDuration(t, time.Now().Add(time.Hour), end(), time.Millisecond, name)
		}
		require.NoError(t, s.Touch(ctx, "k", 0))
		require.True(t, end().IsZero())
		require.NoError(t, s.Touch(ctx, "k", time.Minute))
		require.WithinDuration(t, time.Now().Add(time.Minute), end(), time.Millisecond)
		got, err := s.Get(ctx, "k")
		require.NoError(t, err)
		require.Equal(t, int64(2), got)

		// An entry that was written before the option gets an end with its next change.
		require.NoError(t, sealed(t, m, a).Set(ctx, "k", int64(1), store.WithExpiration(time.Minute)))
		require.True(t, end().IsZero())
		_, err = s.Increment(ctx, "k", 1)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(time.Minute), end(), 2*time.Millisecond)
	})
}
