package middleware_test

import (
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
)

func TestSetIfExists(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]store.StoreInterface{"memory": memory(t), "redis": overRedis(t, redistest.Start(t))} {
		s := sealed(t, b, envelope(t), middleware.WithNamespace("ns"), middleware.WithDefaults(store.WithExpiration(time.Hour)))
		written, err := s.SetIfExists(t.Context(), "k", "v")
		require.NoError(t, err, name)
		require.False(t, written, name)
		_, err = s.Get(t.Context(), "k")
		require.ErrorIs(t, err, store.NotFound{}, name)

		require.NoError(t, s.Set(t.Context(), "k", "v"))
		written, err = s.SetIfExists(t.Context(), "k", 42, store.WithExpiration(2*time.Hour), store.WithTags([]string{"tag"}))
		require.NoError(t, err, name)
		require.True(t, written, name)
		got, ttl, err := s.GetWithTTL(t.Context(), "k")
		require.NoError(t, err, name)
		require.Equal(t, 42, got, name)
		require.Greater(t, ttl, time.Hour, name)
		require.NoError(t, s.Invalidate(t.Context(), store.WithInvalidateTags([]string{"tag"})))
		written, err = s.SetIfExists(t.Context(), "k", "v")
		require.NoError(t, err, name)
		require.False(t, written, name)
	}
	_, err := sealed(t, newPlain("go-cache"), envelope(t)).SetIfExists(t.Context(), "k", "v")
	require.ErrorIs(t, err, middleware.ErrUnsupported)
}

// An entry that another process deletes while SetIfExists seals the new value stays deleted.
func TestSetIfExistsRestoresNothing(t *testing.T) {
	t.Parallel()
	m := memory(t)
	backing := &interleaved{Store: m, beforeSet: func() { require.NoError(t, m.Delete(t.Context(), "k")) }}
	s := sealed(t, backing, keyring(t))
	require.NoError(t, s.Set(t.Context(), "k", "v"))
	written, err := s.SetIfExists(t.Context(), "k", "restored")
	require.NoError(t, err)
	require.False(t, written)
	require.Empty(t, names(t, m))
}

// A refused entry is an error, or absent under WithMissOnOpenFailure. It stays in both cases.
func TestSetIfExistsOverARefusedEntry(t *testing.T) {
	t.Parallel()
	m, a := memory(t), keyring(t)
	require.NoError(t, m.SetBytes(t.Context(), "k", []byte("planted")))
	written, err := sealed(t, m, a).SetIfExists(t.Context(), "k", "v")
	require.ErrorIs(t, err, middleware.ErrNotSealed)
	require.False(t, written)
	written, err = sealed(t, m, a, middleware.WithMissOnOpenFailure()).SetIfExists(t.Context(), "k", "v")
	require.NoError(t, err)
	require.False(t, written)
	require.Equal(t, "planted", string(raw(t, m, "k")))
}

// With several PRF keys the entry is replaced where it is, and is the only one.
func TestSetIfExistsUnderAnyPRFKey(t *testing.T) {
	t.Parallel()
	for at := range 2 {
		for primary := range 2 {
			r := newRotating(t, 2)
			r.set(t, at, "k", "v")
			written, err := r.open(t, primary).SetIfExists(t.Context(), "k", "new")
			require.NoError(t, err)
			require.True(t, written)
			require.Equal(t, []int{at}, r.under(t, "k"))
			got, err := r.open(t, 1-primary).Get(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, "new", got)
		}
	}
}

// A refused entry under another PRF key does not take the entry with it.
func TestSetIfExistsBesideARefusedEntry(t *testing.T) {
	t.Parallel()
	for at := range 2 {
		r := newRotating(t, 2)
		r.set(t, at, "k", "v")
		r.plant(t, 1-at, "k")
		written, err := r.lenient(t, 1).SetIfExists(t.Context(), "k", "new")
		require.NoError(t, err)
		require.True(t, written)
		got, err := r.lenient(t, 0).Get(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, "new", got)
	}
}
