package middleware_test

import (
	"context"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	gocacheredis "github.com/eko/gocache/store/redis/v4"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// posing is a store with the type of a store of gocache, and with capabilities that stores of gocache lack.
type posing struct {
	*memorystore.Store
	storeType string
	tags      []string // that it adds to entries without tags
}

func (p *posing) GetType() string { return p.storeType }

func (p *posing) Capabilities() (owner any, names []string) {
	return p, []string{"AtomicStore", "Swapper", "BatchStore", "SetIfNotExistsStore"}
}

func (p *posing) options(opts []store.Option) []store.Option {
	return append([]store.Option{store.WithTags(p.tags)}, opts...)
}

func (p *posing) SetIfNotExists(ctx context.Context, key, value any, opts ...store.Option) (bool, error) {
	return p.Store.SetIfNotExists(ctx, key, value, p.options(opts)...)
}

func (p *posing) SetBytesMany(ctx context.Context, keys []string, values [][]byte, opts ...store.Option) []error {
	return p.Store.SetBytesMany(ctx, keys, values, p.options(opts)...)
}

func (p *posing) CompareAndSet(ctx context.Context, key string, old []byte, tail int, value []byte, opts ...store.Option) (bool, error) {
	return p.Store.CompareAndSet(ctx, key, old, tail, value, p.options(opts)...)
}

func constant(value any) func(any, bool) (any, error) {
	return func(any, bool) (any, error) { return value, nil }
}

// writes are the methods that write an entry with options.
func writes(t *testing.T, s *middleware.Store, key string, opts ...store.Option) map[string]error {
	t.Helper()
	_, setIfNotExists := s.SetIfNotExists(t.Context(), key, "v", opts...)
	_, increment := s.Increment(t.Context(), key, 1, opts...)
	return map[string]error{
		"Set":            s.Set(t.Context(), key, "v", opts...),
		"SetMany":        s.SetMany(t.Context(), map[string]any{key: "v"}, opts...),
		"SetIfNotExists": setIfNotExists,
		"Increment":      increment,
		"Update":         s.Update(t.Context(), key, constant("v"), opts...),
	}
}

// Each method refuses a key that is the name of a tag's list, also with capabilities that stores of gocache lack.
func TestNamesOfTagListsWithCapabilities(t *testing.T) {
	t.Parallel()
	const list = "gocache_tag_t"
	m := memory(t)
	s := sealed(t, &posing{Store: m, storeType: "redis"}, keyring(t))
	require.NoError(t, m.Set(t.Context(), list, []byte("list")))
	calls := writes(t, s, list)
	_, calls["Get"] = s.Get(t.Context(), list)
	_, calls["GetMany"] = s.GetMany(t.Context(), []string{list})
	_, calls["GetAndDelete"] = s.GetAndDelete(t.Context(), list)
	_, calls["SetIfExists"] = s.SetIfExists(t.Context(), list, "v")
	calls["Delete"] = s.Delete(t.Context(), list)
	calls["DeleteMany"] = s.DeleteMany(t.Context(), []string{list})
	calls["Touch"] = s.Touch(t.Context(), list, 0)
	for name, err := range calls {
		require.ErrorIs(t, err, middleware.ErrUnsupported, name)
	}
	require.Equal(t, []byte("list"), raw(t, m, list))
}

// Stores that join the keys of a tag refuse a key with a comma in each method that sets tags.
func TestTagsOfKeysWithCommasWithCapabilities(t *testing.T) {
	t.Parallel()
	s := sealed(t, &posing{Store: memory(t), storeType: "memcache"}, keyring(t))
	for name, err := range writes(t, s, "a,b", store.WithTags([]string{"t"})) {
		require.ErrorIs(t, err, middleware.ErrUnsupported, name)
	}
	_, err := s.Get(t.Context(), "a,b")
	require.ErrorIs(t, err, store.NotFound{})
	require.NoError(t, s.Set(t.Context(), "a,b", "v"))
	_, err = s.SetIfExists(t.Context(), "a,b", "w", store.WithTags([]string{"t"}))
	require.ErrorIs(t, err, middleware.ErrUnsupported)
	require.NoError(t, s.Update(t.Context(), "a,b", constant("w"), store.WithTags([]string{"t"})), "the entry keeps its tags")
}

// Tags that the store adds by itself do not pass through the checks.
func TestDefaultTagsWithCapabilities(t *testing.T) {
	t.Parallel()
	open := func() *middleware.Store {
		return sealed(t, &posing{memory(t), "memcache", []string{"default"}}, keyring(t))
	}
	for name, write := range map[string]func(s *middleware.Store) error{
		"SetMany":        func(s *middleware.Store) error { return s.SetMany(t.Context(), map[string]any{"k": "v"}) },
		"SetIfNotExists": func(s *middleware.Store) error { _, err := s.SetIfNotExists(t.Context(), "k", "v"); return err },
		"Update":         func(s *middleware.Store) error { return s.Update(t.Context(), "k", constant("v")) },
		"SetIfExists": func(s *middleware.Store) error {
			require.NoError(t, s.Set(t.Context(), "k", "v"))
			_, err := s.SetIfExists(t.Context(), "k", "w")
			return err
		},
	} {
		s := open()
		require.ErrorIs(t, write(s), middleware.ErrUnsupported, name)
		require.ErrorIs(t, s.Set(t.Context(), "k", "v"), middleware.ErrUnsupported, name)
	}
}

// Entries of such a namespace would have the names of the lists of another cache's tags.
func TestNamespacesOfTagLists(t *testing.T) {
	t.Parallel()
	backing := gocacheredis.NewRedis(redistest.Start(t).Client(t))
	s := sealed(t, backing, keyring(t))
	for _, ns := range []string{"gocache_tag_", "gocache_tag_shop", "freecache_tag_shop"} {
		const want = "the namespace must not start with gocache_tag_ or freecache_tag_"
		require.ErrorContains(t, middleware.CheckNamespace(ns), want)
		_, err := middleware.New(backing, keyring(t), middleware.WithNamespace(ns))
		require.ErrorContains(t, err, want)
		_, err = s.With(middleware.WithNamespace(ns))
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, middleware.CheckNamespace("gocache_tag"))
	require.NoError(t, sealed(t, backing, keyring(t), middleware.WithNamespace("gocache_tag")).Set(t.Context(), "k", "v"))
}

// An outage fails for each tag. The text has its reason once, and errors.Is finds each error.
func TestInvalidateNamesEachReasonOnce(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	s := sealed(t, gocacheredis.NewRedis(client), keyring(t))
	require.NoError(t, client.Set(t.Context(), "gocache_tag_planted", "value", 0).Err())
	err := s.Invalidate(t.Context(), store.WithInvalidateTags([]string{"a", "planted", "b"}))
	require.ErrorContains(t, err, "the lists of 1 of 3 tags could not be invalidated: the Redis key of a tag's list of entries holds a string, not a set (delete that key)")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = s.Invalidate(ctx, store.WithInvalidateTags([]string{"a", "planted", "b"}))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, strings.Count(err.Error(), context.Canceled.Error()), err)
	require.ErrorContains(t, err, "middleware: Invalidate: the lists of 3 of 3 tags could not be invalidated: ")
}
