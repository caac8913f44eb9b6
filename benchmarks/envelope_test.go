package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
)

// BenchmarkEnvelope seals with an Envelope and with Tink's own, both over a local KEK. It shows the difference that
// remains when the key service is fast.
func BenchmarkEnvelope(b *testing.B) {
	k := testKeys(b)
	theirs, err := tinkaead.NewKMSEnvelopeAEADWithContext(tinkaead.AES256GCMKeyTemplate(), aead.WithContext(k.tink))
	require.NoError(b, err)
	for _, c := range []struct {
		name string
		aead tink.AEADWithContext
	}{{"ours", k.envelope}, {"tink", theirs}} {
		b.Run("Encrypt/"+c.name, func(b *testing.B) {
			each(b, func(b *testing.B, value []byte) {
				ctx := b.Context()
				for b.Loop() {
					if _, err := c.aead.EncryptWithContext(ctx, value, nil); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
		b.Run("Decrypt/"+c.name, func(b *testing.B) {
			each(b, func(b *testing.B, value []byte) {
				ctx := b.Context()
				sealed, err := c.aead.EncryptWithContext(ctx, value, nil)
				require.NoError(b, err)
				for b.Loop() {
					if _, err := c.aead.DecryptWithContext(ctx, sealed, nil); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
