package memorystore

import (
	"strconv"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
)

func Benchmark(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 16 << 10} {
		value := make([]byte, size)
		s := open(b)
		if err := s.SetBytes(b.Context(), "k", value); err != nil {
			b.Fatal(err)
		}
		b.Run("get/"+strconv.Itoa(size), func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.GetBytes(b.Context(), "k"); err != nil {
					b.Fatal(err)
				}
			}
		})
		for name, options := range map[string][]store.Option{"": nil, "-tagged": {store.WithTags([]string{"tag"})}} {
			b.Run("set"+name+"/"+strconv.Itoa(size), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if err := s.SetBytes(b.Context(), "k", value, options...); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
