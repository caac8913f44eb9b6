package fxmodule_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// tenantKEKs makes the KEK files of tenants, and returns the template of their URIs.
func tenantKEKs(t *testing.T, tenants ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, tenant := range tenants {
		var b bytes.Buffer
		require.NoError(t, insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()))
		require.NoError(t, os.WriteFile(filepath.Join(dir, tenant+".json"), b.Bytes(), 0o600))
	}
	return "file://" + filepath.ToSlash(dir) + "/{tenant}.json?reload=off"
}

// A cache with a tenant is sealed under the tenant's keys, and so are jobs with its keys. Neither the Envelope of the cache nor
// another tenant opens its values.
func TestTenant(t *testing.T) {
	t.Parallel()
	memory, kek := newMemory(t), sealtest.KEKFile(t)
	config := one(fxmodule.Cache{Namespace: "shop", KEK: kek, TenantKEKs: tenantKEKs(t, "acme", "other"), Tenant: "acme"})
	config.Jobs.Namespace = "shop"
	var sealed store.StoreInterface
	var encryptor *jobs.Encryptor
	var keys *fxmodule.Keys
	start(t, decorated(config, memory, fx.Populate(&sealed, &encryptor, &keys)))
	requireSealed(t, sealed, memory, "shop:patient")

	envelope, err := keys.Envelope("default")
	require.NoError(t, err)
	opens := func(id string) error {
		var a = middleware.WithNamespace("shop")
		if id == "" {
			s, err := middleware.NewSealer(envelope, a)
			require.NoError(t, err)
			_, err = s.Open(t.Context(), "patient", []byte(stored(t, memory, "shop:patient")))
			return err
		}
		tenant, err := envelope.Tenant(id)
		require.NoError(t, err)
		s, err := middleware.NewSealer(tenant, a)
		require.NoError(t, err)
		_, err = s.Open(t.Context(), "patient", []byte(stored(t, memory, "shop:patient")))
		return err
	}
	require.NoError(t, opens("acme"))
	require.Error(t, opens("other"))
	require.Error(t, opens(""))

	meta := jobs.Meta{Type: "mail"}
	payload, err := encryptor.Seal(t.Context(), meta, []byte(canary))
	require.NoError(t, err)
	base, err := jobs.NewEncryptor(envelope, jobs.WithNamespace("shop"))
	require.NoError(t, err)
	_, err = base.Open(t.Context(), meta, payload)
	require.Error(t, err)
}

// A tenant whose KEK does not open ends the start: nothing is sealed under other keys in its place.
func TestUnknownTenant(t *testing.T) {
	t.Parallel()
	config := one(fxmodule.Cache{Store: "memory://", Namespace: "shop", KEK: sealtest.KEKFile(t), TenantKEKs: tenantKEKs(t), Tenant: "acme"})
	app := newApp(config, fx.Invoke(func(store.StoreInterface) {}))
	require.NoError(t, app.Err())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	require.ErrorContains(t, app.Start(ctx), `cache "default"`)
}

// A primary key that is older than the cryptoperiod is warned of at start.
func TestCryptoperiod(t *testing.T) {
	t.Parallel()
	kekURI := sealtest.KEKFile(t)
	kek, err := aead.OpenKEK(t.Context(), kekURI)
	require.NoError(t, err)
	defer kek.Close()
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, h.WriteWithContext(t.Context(), keyset.NewJSONWriter(&b), kek, nil))
	path := filepath.Join(t.TempDir(), "keyset.json")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	made := time.Now().Add(-48 * time.Hour)
	times, err := aead.SealKeyTimes(h, []aead.KeyTimes{{ID: h.KeysetInfo().GetPrimaryKeyId(), Created: made, Promoted: made}})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path+aead.KeyTimesSuffix, times, 0o600))
	const warning = "older than WithCryptoperiod allows"
	for period, warns := range map[time.Duration]bool{24 * time.Hour: true, 72 * time.Hour: false, 0: false} {
		var log strings.Builder
		app := fx.New(fx.NopLogger, fx.Supply(slog.New(slog.NewTextHandler(&log, nil))), fxmodule.Module,
			fx.Supply(one(fxmodule.Cache{Store: "memory://", KEK: kekURI, Keyset: path, Cryptoperiod: period})), fx.Invoke(func(store.StoreInterface) {}))
		require.NoError(t, app.Err())
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		require.NoError(t, app.Start(ctx))
		require.NoError(t, app.Stop(ctx))
		cancel()
		require.Equal(t, warns, strings.Contains(log.String(), warning), "%v: %s", period, log.String())
	}
}
