package middleware_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
)

func TestEmptyValuesOverRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, backing := range overBoth(t, server) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyAEAD(t, func(t *testing.T, a tink.AEADWithContext) {
				t.Helper()
				s := sealed(t, backing, a, middleware.WithNamespace("empty"), middleware.WithCodec(middleware.JSON[[]int]()))
				for _, v := range []any{[]byte{}, "", false, 0, 0.0, []int(nil)} {
					key := fmt.Sprintf("%s/%T", t.Name(), v)
					require.NoError(t, s.Set(t.Context(), key, v))
					got, err := s.Get(t.Context(), key)
					require.NoError(t, err)
					require.Equal(t, v, got, "%T", v)
					got, ttl, err := s.GetWithTTL(t.Context(), key)
					require.NoError(t, err)
					require.Equal(t, v, got)
					require.Zero(t, ttl)
					stored, err := server.Client(t).Get(t.Context(), "empty:"+key).Bytes()
					require.NoError(t, err)
					require.Greater(t, len(stored), 30, "nothing is sealed too")
				}
				require.NoError(t, s.Set(t.Context(), t.Name(), []byte(nil)))
				got, err := s.Get(t.Context(), t.Name())
				require.NoError(t, err)
				require.Equal(t, []byte{}, got, "a nil slice is an empty one")
				require.ErrorIs(t, s.Set(t.Context(), t.Name(), nil), middleware.ErrUnsupportedType)
			})
		})
	}
}

// An empty plaintext string is a plaintext value, not an empty sealed one.
func TestEmptyPlaintextIsRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	require.NoError(t, server.Client(t).Set(t.Context(), "k", "", 0).Err())
	for name, backing := range overBoth(t, server) {
		s := sealed(t, backing, envelope(t))
		_, err := s.Get(t.Context(), "k")
		require.ErrorIs(t, err, middleware.ErrNotSealed, name)
		_, _, err = s.GetWithTTL(t.Context(), "k")
		require.ErrorIs(t, err, middleware.ErrNotSealed, name)
	}
}
