package middleware_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// A store without a namespace shares the backing store's Clear with every other user.
func TestWithoutClear(t *testing.T) {
	t.Parallel()
	backing, err := memorystore.New()
	require.NoError(t, err)
	defer backing.Close()
	a := keyring(t)
	open := func(opts ...middleware.Option) *middleware.Store {
		s, err := middleware.New(backing, a, opts...)
		require.NoError(t, err)
		return s
	}
	bare, scoped := open(middleware.WithoutClear()), open(middleware.WithoutClear(), middleware.WithNamespace("ns"))
	for _, s := range []*middleware.Store{bare, scoped} {
		require.NoError(t, s.Set(t.Context(), "k", "v"))
	}
	require.ErrorIs(t, bare.Clear(t.Context()), middleware.ErrUnsupported)
	require.NoError(t, scoped.Clear(t.Context()))
	_, err = scoped.Get(t.Context(), "k")
	require.Error(t, err)
	_, err = bare.Get(t.Context(), "k")
	require.NoError(t, err)
	require.NoError(t, open().Clear(t.Context()))
	require.Zero(t, backing.Len())
}
