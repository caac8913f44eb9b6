package fxmodule_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
)

// Caches that share a Redis and are not kept apart by namespaces work, are warned of, and never empty each other.
func TestCachesThatShareAStore(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	kek := kekFile(t)
	var log bytes.Buffer
	var caches *fxmodule.Caches
	start(t, fx.New(fx.NopLogger, fxmodule.Module, fx.Supply(slog.New(slog.NewTextHandler(&log, nil))),
		fx.Supply(fxmodule.Config{Caches: map[string]fxmodule.Cache{
			"default":  {Store: server.URL(), KEK: kek},
			"insecure": {Store: server.URL() + "?pool_size=3", Clear: true},
			"expiring": {Store: server.URL(), Clear: true, TTL: time.Hour},
			"sessions": {Store: server.URL(), KEK: kek, Namespace: "sessions"},
		}}), fx.Populate(&caches)))
	names := []string{"default", "insecure", "expiring", "sessions"}
	for _, name := range names {
		s, err := caches.Cache(name)
		require.NoError(t, err)
		require.NoError(t, s.Set(t.Context(), "key of "+name, name, store.WithTags([]string{"t"})))
	}
	for _, name := range names[:3] {
		s, err := caches.Cache(name)
		require.NoError(t, err)
		err = s.Clear(t.Context())
		require.ErrorIs(t, err, middleware.ErrUnsupported, name)
		require.ErrorContains(t, err, "give it a namespace", name)
	}
	s, err := caches.Sealed("sessions")
	require.NoError(t, err)
	require.NoError(t, s.Clear(t.Context()))
	_, err = s.Get(t.Context(), "key of sessions")
	require.ErrorIs(t, err, store.NotFound{})
	for _, name := range names[:3] {
		s, err := caches.Cache(name)
		require.NoError(t, err)
		_, err = s.Get(t.Context(), "key of "+name)
		require.NoError(t, err, name)
	}
	require.Equal(t, 6, strings.Count(log.String(), "have the same store"), log.String())
	require.NotContains(t, log.String(), server.Addr())

	// The sealed one still has what its store can do.
	d, err := caches.Sealed("default")
	require.NoError(t, err)
	found := false
	for key, err := range d.Keys(t.Context()) {
		require.NoError(t, err)
		found = found || key == "key of default"
	}
	require.True(t, found)
}

// A cache alone in its store clears it as ever, and memory:// stores are never shared.
func TestCachesAloneClearTheirStores(t *testing.T) {
	t.Parallel()
	kek := kekFile(t)
	var caches *fxmodule.Caches
	run(t, fxmodule.Config{Caches: map[string]fxmodule.Cache{
		"default": {Store: "memory://", KEK: kek}, "insecure": {Store: "memory://", Clear: true},
	}}, fx.Populate(&caches))
	for _, name := range caches.Names() {
		s, err := caches.Cache(name)
		require.NoError(t, err)
		require.NoError(t, s.Set(t.Context(), "k", "v"))
		require.NoError(t, s.Clear(t.Context()))
		_, err = s.Get(t.Context(), "k")
		require.ErrorIs(t, err, store.NotFound{})
	}
}
