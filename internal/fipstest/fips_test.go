// Package fipstest tests the promises of docs/keys.md in Go's FIPS 140-only mode. The same test checks the operations
// in the usual mode.
package fipstest

import (
	"bytes"
	"context"
	"crypto/fips140"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/migrate"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// .ci/fips reads from the name of the test in which mode it ran.
func TestInFIPSOnlyMode(t *testing.T) {
	if strings.Contains(os.Getenv("GODEBUG"), "fips140=only") {
		require.True(t, fips140.Enforced(), "GODEBUG asks for FIPS 140-only mode")
	}
	ctx := t.Context()
	var kekFile, keysetFile, prfFile bytes.Buffer
	require.NoError(t, insecurecleartextkeyset.CreateKeyset(&kekFile, tinkaead.AES256GCMKeyTemplate()))
	kek, err := insecurecleartextkeyset.OpenKeyring(ctx, aead.BytesSource(kekFile.Bytes()))
	require.NoError(t, err)
	defer kek.Close()
	require.NoError(t, aead.CreateKeyset(ctx, &keysetFile, kek, tinkaead.AES256GCMKeyTemplate(), aead.WithKeysetName("shop")))
	require.NoError(t, aead.CreateKeyset(ctx, &prfFile, kek, prf.HMACSHA256PRFKeyTemplate()))
	keyring, err := aead.OpenKeyring(ctx, aead.BytesSource(keysetFile.Bytes()), kek, aead.WithKeysetName("shop"))
	require.NoError(t, err)
	defer keyring.Close()
	envelope, err := aead.NewEnvelope(ctx, keyring)
	require.NoError(t, err)
	defer envelope.Close()

	server := redistest.Start(t)
	client := server.Client(t)
	backing, err := redisstore.New(client)
	require.NoError(t, err)
	sealed, err := middleware.New(backing, envelope, middleware.WithNamespace("shop"))
	require.NoError(t, err)
	require.NoError(t, sealed.Check(ctx))
	require.NoError(t, sealed.Set(ctx, "a", "value"))
	value, err := sealed.Get(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, "value", value)
	require.NoError(t, client.Set(ctx, "shop:plain", "text", 0).Err())

	report, err := migrate.Run(ctx, client, migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "shop"}, Keys: envelope,
	})
	require.NoError(t, err)
	require.True(t, report.Complete)
	require.EqualValues(t, 1, report.Written)
	found, err := audit.Run(ctx, client, audit.Config{Prefix: "shop:"})
	require.NoError(t, err)
	require.Zero(t, found.Total.Plaintext.Values)

	set, err := aead.OpenPRF(ctx, aead.BytesSource(prfFile.Bytes()), kek)
	require.NoError(t, err)
	encryptor, err := jobs.NewEncryptor(envelope, jobs.WithPRF(set))
	require.NoError(t, err)
	payload, err := encryptor.Seal(ctx, jobs.Meta{Type: "mail", ID: "1"}, []byte("payload"))
	require.NoError(t, err)
	opened, err := encryptor.Open(ctx, jobs.Meta{Type: "mail", ID: "1"}, payload)
	require.NoError(t, err)
	require.Equal(t, "payload", string(opened))

	requireNoXAES(t, ctx, kek)
	requireUnusableAnswer(t, ctx, kek)
}

// shortAnswer is a KEK that answers with bytes which begin as the data key of a tenant does. The rest is shorter than the
// least key of HKDF in this mode.
type shortAnswer struct{ *aead.Keyring }

func (shortAnswer) DecryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return append([]byte{1}, make([]byte, 33)...), nil
}

// requireUnusableAnswer checks that the error of an answer that is not a data key is the same as in the usual mode.
func requireUnusableAnswer(t *testing.T, ctx context.Context, kek *aead.Keyring) {
	t.Helper()
	tenants := func(of tink.AEADWithContext) tink.AEADWithContext {
		envelope, err := aead.NewEnvelope(ctx, kek, aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) {
			return of, nil
		}))
		require.NoError(t, err)
		t.Cleanup(func() { _ = envelope.Close() })
		tenant, err := envelope.Tenant("acme")
		require.NoError(t, err)
		return tenant
	}
	sealed, err := tenants(kek).EncryptWithContext(ctx, []byte("value"), nil)
	require.NoError(t, err)
	_, err = tenants(shortAnswer{kek}).DecryptWithContext(ctx, sealed, nil)
	require.ErrorIs(t, err, aead.ErrKeyServiceUnavailable)
	require.ErrorContains(t, err, "the decrypted bytes are not a data key of the expected type")
}

// requireNoXAES checks that a template which the mode forbids is refused, and that the error gives this reason.
func requireNoXAES(t *testing.T, ctx context.Context, kek *aead.Keyring) {
	t.Helper()
	if !fips140.Enforced() {
		return
	}
	handle, err := keyset.NewHandle(tinkaead.XAES256GCM192BitNonceKeyTemplate())
	require.NoError(t, err)
	err = aead.CreateKeyset(ctx, &bytes.Buffer{}, kek, tinkaead.XAES256GCM192BitNonceKeyTemplate())
	require.ErrorContains(t, err, "makes neither supported AEAD keys")
	var file bytes.Buffer
	require.NoError(t, insecurecleartextkeyset.Write(&file, handle))
	_, err = insecurecleartextkeyset.OpenKeyring(ctx, aead.BytesSource(file.Bytes()))
	require.ErrorContains(t, err, "of type XAesGcmKey cannot be used: the mode fips140=only refuses this type")
}
