package fxmodule_test

import (
	"context"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// opaque is a store with the methods of gocache's interface only.
type opaque struct{ store.StoreInterface }

// An unsealed default cache stores the same bytes as the application's store, because the Config says so.
func TestUnsealedDefaultOverTheApplicationsStore(t *testing.T) {
	t.Parallel()
	backing := newMemory(t)
	var got store.StoreInterface
	start(t, decorated(one(fxmodule.Cache{Unsealed: true}), backing, fx.Populate(&got)))
	require.NoError(t, got.Set(t.Context(), "motd", "hello"))
	require.Equal(t, "hello", stored(t, backing, "motd"))
}

func TestUnsealedCacheWithNamespaceAndTTL(t *testing.T) {
	t.Parallel()
	backing := newMemory(t)
	var got store.StoreInterface
	start(t, decorated(one(fxmodule.Cache{Unsealed: true, Namespace: "ns", TTL: time.Hour}), backing, fx.Populate(&got)))
	ctx := t.Context()
	require.NoError(t, got.Set(ctx, "a", "1", store.WithTags([]string{"t"})))
	require.NoError(t, backing.Set(ctx, "other", "x", store.WithTags([]string{"t"})))
	v, ttl, err := got.GetWithTTL(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, "1", v)
	require.InDelta(t, time.Hour, ttl, float64(time.Minute))
	require.NoError(t, got.Set(ctx, "b", "2", store.WithExpiration(time.Minute)))
	_, ttl, err = got.GetWithTTL(ctx, "b")
	require.NoError(t, err)
	require.LessOrEqual(t, ttl, time.Minute)
	nx, ok := got.(store.SetIfNotExistsStore)
	require.True(t, ok)
	written, err := nx.SetIfNotExists(ctx, "a", "3")
	require.NoError(t, err)
	require.False(t, written)
	require.NoError(t, got.Invalidate(ctx, store.WithInvalidateTags([]string{"t"})))
	_, err = got.Get(ctx, "a")
	require.ErrorIs(t, err, store.NotFound{})
	require.Equal(t, "x", stored(t, backing, "other"), "tags are the namespace's")
	require.NoError(t, got.Delete(ctx, "b"))
	require.Equal(t, "memory", got.GetType())
	_, err = got.Get(ctx, 42)
	require.ErrorIs(t, err, middleware.ErrUnsupportedType)

	var plain store.StoreInterface
	start(t, decorated(one(fxmodule.Cache{Unsealed: true, Namespace: "ns"}), opaque{backing}, fx.Populate(&plain)))
	require.ErrorIs(t, plain.Clear(ctx), middleware.ErrUnsupported, "never more than the namespace")
	_, err = plain.(store.SetIfNotExistsStore).SetIfNotExists(ctx, "a", "3")
	require.ErrorIs(t, err, middleware.ErrUnsupported)
}

// renaming is an application's store that changes names. It inherits the capabilities of the store that it embeds, which would
// bypass the change.
type renaming struct{ *memorystore.Store }

func (r renaming) Get(ctx context.Context, key any) (any, error) {
	return r.Store.Get(ctx, "mine:"+key.(string))
}

func (r renaming) Set(ctx context.Context, key, value any, opts ...store.Option) error {
	return r.Store.Set(ctx, "mine:"+key.(string), value, opts...)
}

// Capabilities that a store does not declare for itself are not used.
func TestUnsealedCacheOverInheritedCapabilities(t *testing.T) {
	t.Parallel()
	backing := newMemory(t)
	var got store.StoreInterface
	start(t, decorated(one(fxmodule.Cache{Unsealed: true, Namespace: "ns"}), renaming{backing}, fx.Populate(&got)))
	require.NoError(t, got.Set(t.Context(), "a", "1", store.WithTags([]string{"t"})))
	require.NoError(t, backing.Set(t.Context(), "ns:a", "of another application"))
	require.ErrorIs(t, got.Clear(t.Context()), middleware.ErrUnsupported)
	_, err := got.(store.SetIfNotExistsStore).SetIfNotExists(t.Context(), "b", "2")
	require.ErrorIs(t, err, middleware.ErrUnsupported)
	require.NoError(t, got.Invalidate(t.Context(), store.WithInvalidateTags([]string{"t"})))
	require.ErrorIs(t, errOf(backing.Get(t.Context(), "mine:ns:a")), store.NotFound{}, "the store's own Invalidate")
	require.Equal(t, "of another application", stored(t, backing, "ns:a"))
}

// Clear of a cache without a namespace would empty its whole store.
func TestClearNeedsANamespace(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	kek := sealtest.KEKFile(t)
	for name, c := range map[string]fxmodule.Cache{
		"sealed in Redis":    {Store: server.URL(), KEK: kek},
		"unsealed in Redis":  {Store: server.URL(), Unsealed: true},
		"unsealed, with TTL": {Store: server.URL(), Unsealed: true, TTL: time.Hour},
		"sealed in memory":   {Store: "memory://", KEK: kek},
		"unsealed in memory": {Store: "memory://", Unsealed: true},
	} {
		var got store.StoreInterface
		run(t, one(c), fx.Populate(&got))
		require.NoError(t, got.Set(t.Context(), name, "v"))
		require.ErrorIs(t, got.Clear(t.Context()), middleware.ErrUnsupported, name)
		require.NoError(t, errOf(got.Get(t.Context(), name)), name)

		c.Namespace = "ns"
		run(t, one(c), fx.Populate(&got))
		require.NoError(t, got.Set(t.Context(), name, "v"))
		require.NoError(t, got.Clear(t.Context()), name)
		require.ErrorIs(t, errOf(got.Get(t.Context(), name)), store.NotFound{}, name)
	}
}
