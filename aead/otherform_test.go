package aead_test

import (
	"encoding/base64"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

// A move from one AEAD to another leaves values of both in the store. A process that has only one of them must not report
// the values of the other as altered. After a definite refusal, callers replace a lock and archive a job.
func TestOtherFormsAreUnknownKeys(t *testing.T) {
	ctx := t.Context()
	t.Setenv("KEK_PASSPHRASE", "correct horse battery staple")
	passphrase, err := aead.OpenKEK(ctx, "passphrase:env:KEK_PASSPHRASE?salt=000102030405060708090a0b0c0d0e0f")
	require.NoError(t, err)
	envelopeOf := func(kek tink.AEADWithContext) *aead.Envelope {
		e, err := aead.NewEnvelope(ctx, kek)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		return e
	}
	ring := func() *aead.Keyring {
		h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
		require.NoError(t, err)
		k, err := aead.NewKeyring(h)
		require.NoError(t, err)
		return k
	}
	kekRing := ring()
	readers := map[string]tink.AEADWithContext{
		"keyring":                     ring(),
		"passphrase":                  passphrase,
		"envelope under a keyring":    envelopeOf(kekRing),
		"envelope under a passphrase": envelopeOf(passphrase),
	}
	vault := base64.StdEncoding.AppendEncode([]byte("vault:v1:"), make([]byte, 60))
	sealed := map[string][]byte{
		"vault text":                   vault,
		"envelope under a key service": append(append([]byte{0, 0, 0, byte(len(vault))}, vault...), make([]byte, 60)...),
	}
	for name, a := range readers {
		sealed[name], err = a.EncryptWithContext(ctx, []byte("message"), []byte("ad"))
		require.NoError(t, err)
	}
	for reader, a := range readers {
		for writer, ct := range sealed {
			if reader == writer {
				continue
			}
			for _, n := range []int{len(ct), len(ct) / 2, 16} {
				_, err := a.DecryptWithContext(ctx, ct[:n], []byte("ad"))
				require.ErrorIs(t, err, aead.ErrUnknownKey, "%s reads %d bytes of %s", reader, n, writer)
				require.NotErrorIs(t, err, aead.ErrUnauthentic, "%s reads %s", reader, writer)
				var k *aead.KeyError
				if errors.As(err, &k) {
					require.Equal(t, keyset.Unknown, k.Status)
				}
			}
		}
	}
}

// Bytes that name a key at hand, or that are too short for any AEAD, are altered: no other key opens them.
func TestCutCiphertextsAreUnauthentic(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	e, err := aead.NewEnvelope(ctx, aeadtest.NewKeyService(t))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	ring, err := aead.NewKeyring(h)
	require.NoError(t, err)
	raw, err := keyset.NewHandle(tinkaead.AES256GCMNoPrefixKeyTemplate())
	require.NoError(t, err)
	rawRing, err := aead.NewKeyring(raw)
	require.NoError(t, err)
	for name, a := range map[string]interface {
		tink.AEADWithContext
		Overhead() int
	}{"envelope": e, "keyring": ring, "keyring without key ids": rawRing} {
		ct, err := a.EncryptWithContext(ctx, nil, nil)
		require.NoError(t, err)
		for _, n := range []int{0, 1, 4, 5, 15, len(ct) - 28, len(ct) - 1} {
			_, err := a.DecryptWithContext(ctx, ct[:n], nil)
			require.ErrorIs(t, err, aead.ErrUnauthentic, "%s: the first %d bytes of %d", name, n, len(ct))
		}
	}
}
