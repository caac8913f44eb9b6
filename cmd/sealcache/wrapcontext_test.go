package main

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// Values whose data keys have a context open with it only. Sealed again in the state "tolerate", all of them have it.
func TestWrapContextFlags(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	rdb := redis.NewClient(server.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	backing, err := redisstore.New(rdb)
	require.NoError(t, err)
	_, uri := kekFile(t)
	kek, err := aead.OpenKEK(ctx, uri)
	require.NoError(t, err)
	t.Cleanup(func() { _ = kek.Close() })
	set := func(key string, opts ...aead.EnvelopeOption) {
		e, err := aead.NewEnvelope(ctx, kek, opts...)
		require.NoError(t, err)
		defer e.Close()
		s, err := middleware.New(backing, e, middleware.WithNamespace("shop"))
		require.NoError(t, err)
		require.NoError(t, s.Set(ctx, key, "value"))
	}
	set("bound", aead.WithWrapContext(map[string]string{"namespace": "shop", "app": "web"}))
	command := func(name string, args ...string) int {
		t.Helper()
		status, out, log := sealcache(t, append([]string{name, "--redis", server.URL(), "--namespace", "shop", "--kek", uri, "--progress", "none"}, args...)...)
		t.Logf("%s %q: %s%s", name, args, out, log)
		return status
	}
	const flag, words = "--wrap-context", "namespace=shop,app=web"
	require.Equal(t, exitDone, command("audit", "--open", flag, words))
	require.Equal(t, exitUnknown, command("audit", "--open"), "without its context, the value does not open")
	require.Equal(t, exitUnknown, command("audit", "--open", flag, "namespace=shop"))
	require.Equal(t, exitUsage, command("audit", "--open", flag, "tenant=acme"))
	require.Equal(t, exitUsage, command("audit", "--open", flag, words, "--keys-as", "keyring"))

	set("unbound")
	require.Equal(t, exitUnknown, command("audit", "--open", flag, words))
	require.Equal(t, exitDone, command("audit", "--open", flag, words, "--wrap-context-state", "tolerate"))
	require.Equal(t, exitDone, command("audit", "--open", flag, words, "--wrap-context-state", "prepare"))
}
