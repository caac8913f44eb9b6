package middleware_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
)

// A Store reads values of a Sealer, and a Sealer those of a Store.
func TestSealerAndStoreShareValues(t *testing.T) {
	t.Parallel()
	everyAEAD(t, func(t *testing.T, a tink.AEADWithContext) {
		for _, ns := range []string{"", "shop"} {
			opts := []middleware.Option{middleware.WithCodec(middleware.JSON[user]()), middleware.WithMaxValueBytes(100)}
			prefix := ""
			if ns != "" {
				opts, prefix = append(opts, middleware.WithNamespace(ns)), ns+":"
			}
			m := memory(t)
			s := sealed(t, m, a, opts...)
			sealer, err := middleware.NewSealer(a, opts...)
			require.NoError(t, err)
			require.NoError(t, sealer.Check(t.Context()))
			for _, v := range []any{"text", []byte("bytes"), 42, int64(-1), true, 1.5, user{Name: "Ada"}, "", []byte{}} {
				b, err := sealer.Seal(t.Context(), "k", v)
				require.NoError(t, err)
				require.NoError(t, m.SetBytes(t.Context(), prefix+"k", b))
				got, err := s.Get(t.Context(), "k")
				require.NoError(t, err)
				require.Equal(t, v, got)

				require.NoError(t, s.Set(t.Context(), "l", v))
				b = raw(t, m, prefix+"l")
				before := bytes.Clone(b)
				got, err = sealer.Open(t.Context(), "l", b)
				require.NoError(t, err)
				require.Equal(t, v, got)
				require.Equal(t, before, b, "it leaves the sealed bytes as they are")
				_, err = sealer.Open(t.Context(), "k", b)
				require.Error(t, err, "another name")
			}
			_, err = sealer.Seal(t.Context(), "k", struct{}{})
			require.ErrorIs(t, err, middleware.ErrUnsupportedType)
			_, err = sealer.Seal(t.Context(), "k", make([]byte, 101))
			require.ErrorIs(t, err, middleware.ErrTooLarge)
			_, err = sealer.Open(t.Context(), "k", []byte("plaintext"))
			require.ErrorIs(t, err, middleware.ErrNotSealed)
			wide, err := middleware.NewSealer(a)
			require.NoError(t, err)
			for _, n := range []int{101, 1 << 20} {
				b, err := wide.Seal(t.Context(), "k", make([]byte, n))
				require.NoError(t, err)
				if ns == "" {
					_, err = sealer.Open(t.Context(), "k", b)
					require.ErrorIs(t, err, middleware.ErrTooLarge)
				}
			}
			_, err = sealer.Seal(t.Context(), keycheck.Name, "v")
			require.ErrorIs(t, err, middleware.ErrUnsupported, "reserved")
		}
	})
}

func TestNewSealerRefuses(t *testing.T) {
	t.Parallel()
	k := keyring(t)
	for want, o := range map[string]middleware.Option{
		"these options: WithPlaintext (":         middleware.WithPlaintext(middleware.ReadPlaintext),
		"these options: WithMissOnOpenFailure (": middleware.WithMissOnOpenFailure(),
		"these options: WithDefaults (":          middleware.WithDefaults(store.WithExpiration(time.Second)),
		"these options: WithoutClear (":          middleware.WithoutClear(),
		"these options: WithReload (":            middleware.WithReload(k.Reload),
		"option 1 of 1 is nil":                   nil,
		"namespace":                              middleware.WithNamespace("a b"),
	} {
		s, err := middleware.NewSealer(k, o)
		require.ErrorContains(t, err, want)
		require.Nil(t, s)
	}
	_, err := middleware.NewSealer(k, middleware.WithPlaintext(middleware.ReadPlaintext), middleware.WithPlaintextUntil(time.Now().Add(time.Hour)))
	require.ErrorContains(t, err, "these options: WithPlaintext, WithPlaintextUntil (")
	_, err = middleware.NewSealer(nil)
	require.ErrorContains(t, err, "the AEAD is nil")
	s, err := middleware.NewSealer(k, middleware.WithNamespace(canary))
	require.NoError(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		require.Equal(t, "middleware.Sealer", fmt.Sprintf(verb, s), verb)
	}
}
