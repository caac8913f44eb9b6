package middleware_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/stores/storetest"
)

// After an error of SetBytes the backing store may still read the buffer, which then must not be used again.
func TestBuffersAreGivenUpAfterErrors(t *testing.T) {
	t.Parallel()
	keeper, err := storetest.NewKeeper(memory(t))
	require.NoError(t, err)
	s, ctx := sealed(t, keeper, keyring(t)), t.Context()
	const n = 100
	for i := range n {
		keeper.Fail(i%2 == 0)
		var err error
		if i%4 < 2 {
			err = s.Set(ctx, "k", strings.Repeat("x", 1000))
		} else {
			err = s.SetBytes(ctx, "k", bytes.Repeat([]byte("x"), 1000), time.Hour)
		}
		if i%2 == 0 {
			require.ErrorIs(t, err, storetest.ErrKept)
		} else {
			require.NoError(t, err)
		}
	}
	kept, err := keeper.Kept()
	require.NoError(t, err)
	require.Equal(t, n/2, kept)
}
