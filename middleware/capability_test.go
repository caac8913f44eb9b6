package middleware_test

import (
	"context"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// A type that embeds a store and overrides Set is not passed by.
type renaming struct {
	*memorystore.Store
	sets int
}

func (r *renaming) Set(ctx context.Context, key, value any, opts ...store.Option) error {
	r.sets++
	return r.Store.Set(ctx, "app:"+key.(string), value, opts...)
}

func (r *renaming) Get(ctx context.Context, key any) (any, error) {
	return r.Store.Get(ctx, "app:"+key.(string))
}

type embedding struct{ *memorystore.Store }

func TestOverridesAreNotPassedBy(t *testing.T) {
	t.Parallel()
	m := memory(t)
	r := &renaming{Store: m}
	s := sealed(t, r, keyring(t))
	require.NoError(t, s.Set(t.Context(), "k", "v"))
	require.Equal(t, 1, r.sets)
	require.True(t, isSealed(t, raw(t, m, "app:k")))
	got, err := s.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "v", got)
	_, err = s.SetIfNotExists(t.Context(), "k", "v")
	require.ErrorIs(t, err, middleware.ErrUnsupported, "it is inherited and would not rename")
	_, err = middleware.New(r, keyring(t), middleware.WithPlaintext(middleware.SealOnRead))
	require.ErrorIs(t, err, middleware.ErrUnsupported)
	require.ErrorContains(t, err, "*middleware_test.renaming")

	// What overrides nothing keeps all that it embeds.
	plainly := sealed(t, embedding{m}, keyring(t), middleware.WithNamespace("n"), middleware.WithPlaintext(middleware.SealOnRead))
	require.NoError(t, plainly.Set(t.Context(), "k", "v"))
	require.NoError(t, plainly.Clear(t.Context()))
}
