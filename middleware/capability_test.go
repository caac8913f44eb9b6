package middleware_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	gocacheredis "github.com/eko/gocache/store/redis/v4"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// renaming overrides Set and Get of the store that it embeds.
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

// declaring is a type that embeds a store and names capabilities as its own.
type declaring struct {
	*memorystore.Store
	names []string
}

func (d *declaring) Capabilities() (owner any, names []string) { return d, d.names }

// byValue embeds a store and is passed by value, so that it is not a pointer.
type byValue struct{ *memorystore.Store }

// logged returns New's store and its log.
func logged(t *testing.T, backing store.StoreInterface, opts ...middleware.Option) (*middleware.Store, string) {
	t.Helper()
	var log bytes.Buffer
	opts = append(opts, middleware.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	return sealed(t, backing, keyring(t), opts...), log.String()
}

// Inherited capabilities would bypass the overridden methods.
func TestInheritedCapabilitiesAreIgnored(t *testing.T) {
	t.Parallel()
	m := memory(t)
	r := &renaming{Store: m}
	s, log := logged(t, r)
	require.NoError(t, s.Set(t.Context(), "k", "v"))
	require.Equal(t, 1, r.sets)
	require.True(t, isSealed(t, raw(t, m, "app:k")))
	got, err := s.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "v", got)
	_, err = s.SetIfNotExists(t.Context(), "k", "v")
	require.ErrorIs(t, err, middleware.ErrUnsupported)
	_, err = middleware.New(r, keyring(t), middleware.WithPlaintext(middleware.SealOnRead))
	require.ErrorIs(t, err, middleware.ErrUnsupported)
	require.ErrorContains(t, err, "*middleware_test.renaming")
	require.Equal(t, 1, strings.Count(log, "level=WARN"), log)
	require.Contains(t, log, "BytesStore")
	require.Contains(t, log, "SetIfNotExistsStore")

	s, log = logged(t, byValue{m}, middleware.WithNamespace("n"))
	require.ErrorIs(t, s.Clear(t.Context()), middleware.ErrUnsupported)
	require.Equal(t, 1, strings.Count(log, "level=WARN"), log)
}

// New uses only the capabilities that a store lists.
func TestOnlyListedCapabilitiesAreUsed(t *testing.T) {
	t.Parallel()
	d := &declaring{Store: memory(t), names: []string{"SetIfNotExistsStore", "Enumerator", "Teleporter"}}
	s, log := logged(t, d, middleware.WithNamespace("n"))
	written, err := s.SetIfNotExists(t.Context(), "k", "v")
	require.NoError(t, err)
	require.True(t, written)
	require.NoError(t, s.Clear(t.Context()))
	_, err = middleware.New(d, keyring(t), middleware.WithPlaintext(middleware.SealOnRead))
	require.ErrorIs(t, err, middleware.ErrUnsupported, "Swapper is not listed")
	require.Contains(t, log, "capabilities=[Teleporter]")
	require.Contains(t, log, "Swapper")
	require.NotContains(t, log, "Enumerator")

	_, log = logged(t, memory(t))
	require.Empty(t, log, "everything is declared")
	_, log = logged(t, newPlain("x"))
	require.Empty(t, log, "there is nothing to ignore")
}

// overriding embeds gocache's own store, which declares nothing.
type overriding struct{ *gocacheredis.RedisStore }

// SetIfNotExists of gocache's own stores works without a declaration, but not if another type inherits it.
func TestSetIfNotExistsOfGocache(t *testing.T) {
	t.Parallel()
	own := gocacheredis.NewRedis(redistest.Start(t).Client(t))
	s, log := logged(t, own)
	written, err := s.SetIfNotExists(t.Context(), "k", "v")
	require.NoError(t, err)
	require.True(t, written)
	require.Empty(t, log)

	s, log = logged(t, &overriding{own})
	_, err = s.SetIfNotExists(t.Context(), "k", "v")
	require.ErrorIs(t, err, middleware.ErrUnsupported)
	require.Contains(t, log, "SetIfNotExistsStore")
}

// Check logs once that the server can evict the sets of tags.
func TestCheckLogsAdvice(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	var log bytes.Buffer
	s := sealed(t, overRedis(t, server), keyring(t), middleware.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	for range 3 {
		require.NoError(t, s.Check(t.Context()))
	}
	require.Equal(t, 1, strings.Count(log.String(), "maxmemory-policy allkeys-lru"), log.String())
}
