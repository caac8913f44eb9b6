package middleware_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/wire"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// refused are the documented errors of a value that is not as it was written.
var refused = []error{
	middleware.ErrNotSealed, middleware.ErrUnauthentic, middleware.ErrUnknownKey, middleware.ErrUnsupportedFormat,
}

func requireRefused(t *testing.T, s *middleware.Store, a tink.AEADWithContext, key, what string) {
	t.Helper()
	v, err := s.Get(t.Context(), key)
	require.Nil(t, v, what)
	for _, target := range refusals(a, refused...) {
		if ok := err != nil && errors.Is(err, target); ok {
			return
		}
	}
	t.Fatalf("%s: %v: none of the documented errors", what, err)
}

// refusals returns targets, and for an AEAD without marks the error of an outage: such an AEAD gives no reason.
func refusals(a tink.AEADWithContext, targets ...error) []error {
	if _, ok := a.(unmarked); ok {
		return append(slices.Clone(targets), middleware.ErrKeyServiceUnavailable)
	}
	return targets
}

// Every byte is altered, every truncation tried, bytes are appended. No value opens, and each error is a documented
// one.
func TestAlteredValuesAreRefused(t *testing.T) {
	t.Parallel()
	everyAEAD(t, func(t *testing.T, a tink.AEADWithContext) {
		for form, backing := range map[string]store.StoreInterface{"owned bytes": memory(t), "shared bytes": newPlain("go-cache"), "strings": newPlain("rueidis")} {
			s := sealed(t, backing, a, middleware.WithNamespace("ns"))
			require.NoError(t, s.Set(t.Context(), "k", []byte("a value of some length")))
			var good []byte
			switch b := backing.(type) {
			case *memorystore.Store:
				good = raw(t, b, "ns:k")
			case *plain:
				good = b.raw(t, "ns:k")
			}
			plant := func(b []byte) {
				var v any = bytes.Clone(b)
				if form == "strings" {
					v = string(b)
				}
				require.NoError(t, backing.Set(t.Context(), "ns:k", v))
			}
			for i := range good {
				for _, flip := range []byte{0x01, 0x80, 0xff} {
					bad := bytes.Clone(good)
					bad[i] ^= flip
					plant(bad)
					requireRefused(t, s, a, "k", fmt.Sprintf("%s: byte %d of %d altered by %#x", form, i, len(good), flip))
				}
			}
			for n := range good {
				plant(good[:n])
				requireRefused(t, s, a, "k", fmt.Sprintf("%s: cut to %d of %d bytes", form, n, len(good)))
			}
			for _, more := range [][]byte{{0}, {0xff}, good, make([]byte, 100)} {
				plant(append(bytes.Clone(good), more...))
				requireRefused(t, s, a, "k", fmt.Sprintf("%s: %d bytes appended", form, len(more)))
			}
			plant(good)
			got, err := s.Get(t.Context(), "k")
			require.NoError(t, err, "the test itself must plant what can open")
			require.Equal(t, "a value of some length", string(got.([]byte)))
		}
	})
}

func TestUnsealedValuesAreRefused(t *testing.T) {
	t.Parallel()
	backing := newPlain("go-cache")
	s := sealed(t, backing, keyring(t))
	for _, v := range []any{"", "42", "text", []byte("42"), []byte{}, `{"a":1}`, 42, int64(42), true, nil, 1.5, struct{}{}, "\xc1", "\xc1\x00"} {
		backing.values["k"] = v
		got, err := s.Get(t.Context(), "k")
		require.ErrorIs(t, err, middleware.ErrNotSealed, "%T %v", v, v)
		require.Nil(t, got)
	}
}

// A value that was sealed for one place does not open in another.
func TestSwappedValuesAreRefused(t *testing.T) {
	t.Parallel()
	everyAEAD(t, func(t *testing.T, a tink.AEADWithContext) {
		m, other := memory(t), memory(t)
		bare := sealed(t, m, a)
		one := sealed(t, m, a, middleware.WithNamespace("one"))
		two := sealed(t, m, a, middleware.WithNamespace("two"))
		elsewhere := sealed(t, other, foreign(t), middleware.WithNamespace("one"))
		require.NoError(t, bare.Set(t.Context(), "k", "bare"))
		require.NoError(t, bare.Set(t.Context(), "l", "bare l"))
		require.NoError(t, one.Set(t.Context(), "k", "one"))
		require.NoError(t, one.Set(t.Context(), "l", "one l"))

		move := func(from, to string) { require.NoError(t, m.SetBytes(t.Context(), to, raw(t, m, from))) }
		move("one:l", "one:k2")
		requireRefused(t, one, a, "k2", "another key")
		move("one:k", "two:k")
		requireRefused(t, two, a, "k", "another namespace")
		move("k", "one:l")
		requireRefused(t, one, a, "l", "from no namespace")
		move("one:k", "one:l")
		requireRefused(t, one, a, "l", "another key of the namespace")
		move("one:k", "l")
		requireRefused(t, bare, a, "l", "to no namespace")
		// One store has the key "one:k" without a namespace, the other the key "k" in the namespace "one".
		requireRefused(t, bare, a, "one:k", "the same stored name, read without the namespace")

		require.NoError(t, other.SetBytes(t.Context(), "one:k", raw(t, m, "one:k")))
		requireRefused(t, elsewhere, a, "k", "another store, with its own keys")
	})
}

// A job's payload that is planted as a cache value does not open, even under a name that is encoded alike.
func TestOtherKindsAreRefused(t *testing.T) {
	t.Parallel()
	everyAEAD(t, func(t *testing.T, a tink.AEADWithContext) {
		m := memory(t)
		s := sealed(t, m, a)
		for kind := wire.JobPayload; kind <= wire.Schedule; kind++ {
			header := wire.Header{Kind: kind, Type: wire.Bytes}.Append(nil)
			ad := append(wire.AppendName(wire.AppendContext(nil, kind, ""), "k"), header...)
			ct, err := a.EncryptWithContext(t.Context(), []byte("payload"), ad)
			require.NoError(t, err)
			require.NoError(t, m.SetBytes(t.Context(), "k", append(header, ct...)))
			_, err = s.Get(t.Context(), "k")
			require.ErrorIs(t, err, middleware.ErrUnauthentic)

			// The kind in the header is rewritten, too.
			asValue := wire.Header{Kind: wire.CacheValue, Type: wire.Bytes}.Append(nil)
			require.NoError(t, m.SetBytes(t.Context(), "k", append(asValue, ct...)))
			requireRefused(t, s, a, "k", "the kind in the header rewritten")
		}
	})
}

// A number of the wrong width is refused, even if a holder of the key sealed it.
func TestWrongWidthsAreRefused(t *testing.T) {
	t.Parallel()
	m, a := memory(t), keyring(t)
	s := sealed(t, m, a)
	plant := func(typ wire.Type, plaintext []byte) {
		header := wire.Header{Kind: wire.CacheValue, Type: typ}.Append(nil)
		ad := append(wire.AppendName(wire.AppendContext(nil, wire.CacheValue, ""), "k"), header...)
		ct, err := a.EncryptWithContext(t.Context(), plaintext, ad)
		require.NoError(t, err)
		require.NoError(t, m.SetBytes(t.Context(), "k", append(header, ct...)))
	}
	for typ := wire.Bool; typ <= wire.Float64; typ++ {
		for _, n := range []int{0, 3, 9} {
			plant(typ, make([]byte, n))
			_, err := s.Get(t.Context(), "k")
			require.ErrorIs(t, err, middleware.ErrUnsupportedFormat, "%s of %d bytes", typ, n)
		}
	}
	plant(wire.Bool, []byte{2})
	_, err := s.Get(t.Context(), "k")
	require.ErrorIs(t, err, middleware.ErrUnsupportedFormat)
}

func FuzzOpen(f *testing.F) {
	m, err := memorystore.New()
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, m.Close()) })
	s := sealed(f, m, keyring(f))
	e := sealed(f, m, envelope(f))
	require.NoError(f, e.Set(f.Context(), "k", "a value"))
	f.Add(raw(f, m, "k"))
	require.NoError(f, s.Set(f.Context(), "k", "a value"))
	f.Add(raw(f, m, "k"))
	f.Add([]byte{0xC1, 0x5C, 1, 1, 1, 0, 0, 0, 0, 67})
	fresh, err := memorystore.New()
	require.NoError(f, err)
	f.Cleanup(func() { require.NoError(f, fresh.Close()) })
	other := sealed(f, fresh, keyring(f), middleware.WithNamespace("n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		require.NoError(t, fresh.SetBytes(t.Context(), "n:k", b))
		requireRefused(t, other, nil, "k", "fuzzed")
		_, _ = middleware.Inspect(b) // must not panic
	})
}
