package middleware

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// The end of the tolerance of plaintext is final, also for a Store that With makes after the clock was set back.
func TestWithKeepsTheEndOfPlaintext(t *testing.T) {
	t.Parallel()
	backing, err := memorystore.New()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, backing.Close()) })
	now := time.Now().Round(0)
	s, err := New(backing, sealtest.Keyring(t), WithPlaintext(ReadPlaintext), WithPlaintextUntil(now.Add(time.Hour)), WithLogger(sealtest.Quiet()),
		func(c *config) error {
			c.now = func() time.Time { return now }
			return nil
		})
	require.NoError(t, err)
	require.NoError(t, backing.Set(t.Context(), "k", []byte("plaintext")))
	now = now.Add(time.Hour)
	_, err = s.Get(t.Context(), "k")
	require.ErrorIs(t, err, ErrNotSealed)
	now = now.Add(-time.Hour)
	other, err := s.With(WithMissOnOpenFailure())
	require.NoError(t, err)
	_, err = other.Get(t.Context(), "k")
	require.ErrorIs(t, err, ErrNotSealed)
	longer, err := s.With(WithPlaintextUntil(now.Add(2 * time.Hour)))
	require.NoError(t, err)
	_, err = longer.Get(t.Context(), "k")
	require.NoError(t, err, "the caller set another end")
}
