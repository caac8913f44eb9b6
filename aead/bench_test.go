package aead_test

import (
	"fmt"
	"testing"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

func benchSizes() []int { return []int{64, 1 << 10, 16 << 10, 256 << 10} }

// BenchmarkSealOpen seals and opens one message, in buffers that are used again where the AEAD can. The result is the
// ratio to "tink-aesgcm", the bare primitive.
func BenchmarkSealOpen(b *testing.B) {
	primitive, err := subtle.NewAESGCM(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	kek := newKeyring(b)
	tinkEnvelope := tinkaead.NewKMSEnvelopeAEAD2(tinkaead.AES256GCMKeyTemplate(), kek)
	ad := make([]byte, 48)
	for _, n := range benchSizes() {
		plaintext := make([]byte, n)
		plain := func(a tink.AEAD) func(*testing.B) {
			return func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(n))
				for b.Loop() {
					sealed, err := a.Encrypt(plaintext, ad)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := a.Decrypt(sealed, ad); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
		appending := func(a aead.AppendAEAD) func(*testing.B) {
			return func(b *testing.B) {
				ctx := b.Context()
				buf := make([]byte, 0, n+256)
				b.ReportAllocs()
				b.SetBytes(int64(n))
				for b.Loop() {
					sealed, err := a.SealTo(ctx, buf, plaintext, ad)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := a.OpenTo(ctx, sealed[:0], sealed, ad); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
		b.Run(fmt.Sprintf("tink-aesgcm/%d", n), plain(primitive))
		b.Run(fmt.Sprintf("tink-envelope/%d", n), plain(tinkEnvelope))
		b.Run(fmt.Sprintf("keyring/%d", n), appending(kek))
		b.Run(fmt.Sprintf("envelope/%d", n), appending(newEnvelope(b, kek)))
		b.Run(fmt.Sprintf("envelope-alloc/%d", n), func(b *testing.B) {
			e, ctx := newEnvelope(b, kek), b.Context()
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				sealed, err := e.EncryptWithContext(ctx, plaintext, ad)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := e.DecryptWithContext(ctx, sealed, ad); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEnvelopeParallel is all processors on one Envelope.
func BenchmarkEnvelopeParallel(b *testing.B) {
	e := newEnvelope(b, aeadtest.NewKeyService(b))
	for _, n := range benchSizes() {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n))
			b.RunParallel(func(pb *testing.PB) {
				ctx := b.Context()
				plaintext, buf := make([]byte, n), make([]byte, 0, n+256)
				for pb.Next() {
					sealed, err := e.SealTo(ctx, buf, plaintext, nil)
					if err != nil {
						b.Error(err)
						return
					}
					if _, err := e.OpenTo(ctx, sealed[:0], sealed, nil); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkOpenByOtherDataKey opens what another Envelope sealed, so that the data key is found in the cache.
func BenchmarkOpenByOtherDataKey(b *testing.B) {
	service := aeadtest.NewKeyService(b)
	mine, other := newEnvelope(b, service), newEnvelope(b, service)
	sealed, err := other.EncryptWithContext(b.Context(), make([]byte, 64), nil)
	if err != nil {
		b.Fatal(err)
	}
	ctx, buf := b.Context(), make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := mine.OpenTo(ctx, buf, sealed, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenParallel is all processors opening small messages, where shared state costs most.
func BenchmarkOpenParallel(b *testing.B) {
	service := aeadtest.NewKeyService(b)
	mine, other := newEnvelope(b, service), newEnvelope(b, service)
	for name, writer := range map[string]*aead.Envelope{"own data key": mine, "another's": other} {
		sealed, err := writer.EncryptWithContext(b.Context(), make([]byte, 64), nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				ctx, buf := b.Context(), make([]byte, 0, 64)
				for pb.Next() {
					if _, err := mine.OpenTo(ctx, buf, sealed, nil); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
