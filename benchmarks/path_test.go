package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/middleware"
)

// These benchmarks repeat the rows of the table, for profiles:
//
//	go test ./benchmarks -run '^$' -bench Path/Set/envelope/1KiB -cpuprofile cpu.out

// each runs a benchmark for each size.
func each(b *testing.B, bench func(b *testing.B, value []byte)) {
	b.Helper()
	for _, size := range sizes() {
		b.Run(benchName(size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			bench(b, payload(size))
		})
	}
}

// benchName returns the name of a size without a space.
func benchName(size int) string {
	if size >= 1<<10 {
		return sizeName(size)[:len(sizeName(size))-4] + "KiB"
	}
	return sizeName(size)[:len(sizeName(size))-2] + "B"
}

func testKeys(tb testing.TB) *keys {
	tb.Helper()
	k, err := newKeys(context.Background())
	require.NoError(tb, err)
	tb.Cleanup(k.close)
	return k
}

func BenchmarkPath(b *testing.B) {
	k := testKeys(b)
	key := any(pathKey)
	aeads := map[string]tink.AEADWithContext{"envelope": k.envelope, "keyring": k.keyring}
	for _, name := range []string{"envelope", "keyring"} {
		open := func(b *testing.B, value []byte) *middleware.Store {
			b.Helper()
			s, err := middleware.New(new(thinStore), aeads[name])
			require.NoError(b, err)
			require.NoError(b, roundTrip(b.Context(), s, key, value))
			return s
		}
		b.Run("Set/"+name, func(b *testing.B) {
			each(b, func(b *testing.B, value []byte) {
				ctx, s, boxed := b.Context(), open(b, value), any(value)
				for b.Loop() {
					if err := s.Set(ctx, key, boxed); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
		b.Run("Get/"+name, func(b *testing.B) {
			each(b, func(b *testing.B, value []byte) {
				ctx, s := b.Context(), open(b, value)
				for b.Loop() {
					if got, err := s.Get(ctx, key); err != nil || lengthOf(got) != len(value) {
						b.Fatal(err)
					}
				}
			})
		})
	}
	b.Run("Encrypt/tink", func(b *testing.B) {
		each(b, func(b *testing.B, value []byte) {
			ad := []byte(pathKey)
			for b.Loop() {
				if _, err := k.tink.Encrypt(value, ad); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
	b.Run("Decrypt/tink", func(b *testing.B) {
		each(b, func(b *testing.B, value []byte) {
			ad := []byte(pathKey)
			sealed, err := k.tink.Encrypt(value, ad)
			require.NoError(b, err)
			for b.Loop() {
				if _, err := k.tink.Decrypt(sealed, ad); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
}
