package fxmodule_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// canary is a plaintext value, and secret a password. Neither may appear in Redis, logs or errors.
const (
	canary = "canary-7f3a-patient-record"
	secret = "hunter2-canary-password"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// one returns a Config of a single cache named default.
func one(c fxmodule.Cache) fxmodule.Config {
	return fxmodule.Config{Caches: map[string]fxmodule.Cache{"default": c}}
}

// newApp builds an application with Module.
func newApp(config fxmodule.Config, options ...fx.Option) *fx.App {
	return fx.New(append([]fx.Option{fx.NopLogger, fx.Supply(config), quiet(), fxmodule.Module}, options...)...)
}

// decorated builds an application with Decorator over its own store.
func decorated(config fxmodule.Config, s store.StoreInterface, options ...fx.Option) *fx.App {
	return fx.New(append([]fx.Option{fx.NopLogger, fx.Supply(config), quiet(), fxmodule.Decorator, provideStore(s)}, options...)...)
}

func quiet() fx.Option {
	return fx.Supply(slog.New(slog.DiscardHandler))
}

// run starts the application and stops it when the test ends.
func run(t *testing.T, config fxmodule.Config, options ...fx.Option) {
	t.Helper()
	start(t, newApp(config, options...))
}

func start(t *testing.T, app *fx.App) {
	t.Helper()
	require.NoError(t, app.Err())
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.NoError(t, app.Start(ctx))
	t.Cleanup(func() { stop(t, app) })
}

func stop(t *testing.T, app *fx.App) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.NoError(t, app.Stop(ctx))
}

func newMemory(t *testing.T) *memorystore.Store {
	t.Helper()
	m, err := memorystore.New()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

// provideStore provides an application's store as applications do: as gocache's interface.
func provideStore(s store.StoreInterface) fx.Option {
	return fx.Provide(func() store.StoreInterface { return s })
}

// requireSealed sets a value through s, and checks that backing holds it sealed.
func requireSealed(t *testing.T, s, backing store.StoreInterface, storedKey string) {
	t.Helper()
	require.NoError(t, s.Set(t.Context(), "patient", canary))
	got, err := s.Get(t.Context(), "patient")
	require.NoError(t, err)
	require.Equal(t, canary, got)
	require.NotContains(t, stored(t, backing, storedKey), canary)
}

func stored(t *testing.T, s store.StoreInterface, key string) string {
	t.Helper()
	v, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	switch v := v.(type) {
	case []byte:
		return string(v)
	case string:
		return v
	default:
		t.Fatalf("stored as %T", v)
		return ""
	}
}

// captureStderr returns what f and fx write to os.Stderr.
func captureStderr(t *testing.T, f func()) string {
	t.Helper()
	read, write, err := os.Pipe()
	require.NoError(t, err)
	old := os.Stderr
	os.Stderr = write
	f()
	os.Stderr = old
	require.NoError(t, write.Close())
	said, err := io.ReadAll(read)
	require.NoError(t, err)
	require.NoError(t, read.Close())
	return string(said)
}
