package middleware_test

import (
	"testing"

	"github.com/sealcache/sealcache/middleware"
)

// BenchmarkHiddenNames measures an operation of 1 KiB with and without hidden names. The budget is 1.5 us between the two.
func BenchmarkHiddenNames(b *testing.B) {
	set, value := prfSet(b), make([]byte, 1024)
	for _, c := range []struct {
		name string
		opts []middleware.Option
	}{
		{"visible", nil},
		{"hidden", []middleware.Option{middleware.WithHiddenKeys(set)}},
		{"oneway", []middleware.Option{middleware.WithOneWayKeys(set)}},
	} {
		s := sealed(b, &slot{plain: newPlain("slot")}, keyring(b), append(c.opts, middleware.WithNamespace("ns"))...)
		b.Run("set/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Set(b.Context(), "user:4711:profile", value); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("get/"+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Get(b.Context(), "user:4711:profile"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
