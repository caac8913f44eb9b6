package main

import (
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// The commands open and seal the values of one tenant, and move values into its keys.
func TestTenantFlags(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	rdb := redis.NewClient(server.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	backing, err := redisstore.New(rdb)
	require.NoError(t, err)
	_, uri := kekFile(t)
	path, _ := kekFile(t)
	template := "file://" + filepath.ToSlash(filepath.Dir(path)) + "/{tenant}?reload=off"
	tenant := filepath.Base(path)
	kek, err := aead.OpenKEK(ctx, uri)
	require.NoError(t, err)
	t.Cleanup(func() { _ = kek.Close() })
	e, err := aead.NewEnvelope(ctx, kek, aead.WithTenantKEKs(template))
	require.NoError(t, err)
	t.Cleanup(func() { _ = e.Close() })
	keys, err := e.Tenant(tenant)
	require.NoError(t, err)
	sealed, err := middleware.New(backing, keys, middleware.WithNamespace("shop"))
	require.NoError(t, err)
	require.NoError(t, sealed.Check(ctx))
	require.NoError(t, sealed.Set(ctx, "x", "value"))

	command := func(name string, args ...string) int {
		t.Helper()
		status, out, log := sealcache(t, append([]string{name, "--redis", server.URL(), "--namespace", "shop", "--kek", uri}, args...)...)
		t.Logf("%s %q: %s%s", name, args, out, log)
		return status
	}
	of := []string{"--tenant-keks", template, "--tenant", tenant}
	with := func(args ...string) []string { return append(args, of...) }
	require.Equal(t, exitDone, command("audit", with("--open")...))
	require.Equal(t, exitUnknown, command("audit", "--open"), "without the tenant, the value does not open")
	require.Equal(t, exitDone, command("get", with("--reason", "test", "x")...))
	require.Equal(t, exitUsage, command("audit", "--open", "--tenant", tenant))
	require.Equal(t, exitUsage, command("audit", "--open", "--tenant-keks", template))
	require.Equal(t, exitUsage, command("audit", "--open", "--tenant-keks", "file:///one", "--tenant", tenant))
	require.Equal(t, exitUsage, command("audit", "--open", "--tenant-keks", template, "--tenant", "../x"))
	require.Equal(t, exitUsage, command("audit", "--open", "--tenant-keks", template, "--tenant", "mistyped"), "a mistake, not an outage")
	require.Equal(t, exitUsage, command("audit", with("--open", "--keys-as", "keyring")...))
	require.Equal(t, exitUsage, command("reseal", with("--old-tenant", "other")...))

	// New plaintext, and a value of the time before the tenants, become the tenant's.
	require.NoError(t, rdb.Set(ctx, "shop:plain", "plaintext", 0).Err())
	require.Equal(t, exitDone, command("migrate", of...))
	before, err := middleware.New(backing, e, middleware.WithNamespace("shop"))
	require.NoError(t, err)
	require.NoError(t, before.Set(ctx, "before", "value"))
	require.Equal(t, exitDone, command("reseal", with("--old-kek", uri)...))
	for _, key := range []string{"x", "plain", "before"} {
		_, err := sealed.Get(ctx, key)
		require.NoError(t, err, key)
		_, err = before.Get(ctx, key)
		require.Error(t, err, key)
	}
	require.Equal(t, exitDone, command("audit", with("--open")...))
}
