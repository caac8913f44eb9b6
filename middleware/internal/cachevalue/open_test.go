package cachevalue_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// With several keysets, the one that lists the key as disabled counts: a key that is given must not be called missing.
func TestDisabledKeyAmongSeveralKeysets(t *testing.T) {
	t.Parallel()
	h := sealtest.Handle(t)
	both, before, _ := sealtest.Rotated(t, h)
	m := keyset.NewManagerFromHandle(both)
	require.NoError(t, m.Disable(before))
	disabled, err := m.Handle()
	require.NoError(t, err)

	b, err := box.New(sealtest.KeyringOf(t, h), wire.CacheValue, "shop")
	require.NoError(t, err)
	stored, err := b.Seal(t.Context(), nil, wire.Header{Type: wire.Bytes}, []byte("value"), "key")
	require.NoError(t, err)
	_, n, ok := cachevalue.Header(stored)
	require.True(t, ok)

	holder, other := sealtest.KeyringOf(t, disabled), sealtest.Keyring(t)
	for _, given := range [][]tink.AEADWithContext{{holder, other}, {other, holder}} {
		keys, err := cachevalue.NewKeys("shop", given...)
		require.NoError(t, err)
		for _, lastFirst := range []bool{false, true} {
			_, _, err = keys.Open(t.Context(), lastFirst, "key", stored, n)
			var key *aead.KeyError
			require.ErrorAs(t, err, &key)
			require.Equal(t, keyset.Disabled, key.Status)
			require.False(t, box.NotGiven(err, wire.KeyOf(stored[n:])))
		}
	}
}
