package pseudonym_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/middleware/internal/pseudonym"
)

func newSet(t *testing.T, namespace string, set *prf.Set) *pseudonym.Set {
	t.Helper()
	s, err := pseudonym.New(namespace, set)
	require.NoError(t, err)
	return s
}

// Keys, tags, namespaces and PRF keys never share a pseudonym.
func TestPseudonymsAreSeparate(t *testing.T) {
	t.Parallel()
	m := keyset.NewManager()
	for range 2 {
		id, err := m.Add(prf.HMACSHA256PRFKeyTemplate())
		require.NoError(t, err)
		require.NoError(t, m.SetPrimary(id))
	}
	h, err := m.Handle()
	require.NoError(t, err)
	set, err := prf.NewPRFSet(h)
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, ns := range []string{"", "a", "ab"} {
		s := newSet(t, ns, set)
		require.Equal(t, 2, s.Len())
		require.Equal(t, set.PrimaryID, s.ID(0))
		require.False(t, s.Ordered())
		for i := range s.Len() {
			for _, name := range []string{"", "a", "b", "ab", "\x01", "\x02", strings.Repeat("x", 1000)} {
				for _, make := range []func([]byte, int, string) ([]byte, error){s.AppendKey, s.AppendTag} {
					p, err := make(nil, i, name)
					require.NoError(t, err)
					require.True(t, pseudonym.Is(string(p)))
					require.False(t, seen[string(p)], "%q %q", ns, name)
					seen[string(p)] = true
					again, err := make([]byte("x:"), i, name)
					require.NoError(t, err)
					require.Equal(t, "x:"+string(p), string(again))
				}
			}
		}
	}
	for _, other := range []string{"", "key", "sealcache.key-check", strings.Repeat("a", 42), strings.Repeat("a", 44), strings.Repeat("=", 43), strings.Repeat("a", 42) + "b", strings.Repeat("+", 43)} {
		require.False(t, pseudonym.Is(other), other)
	}
}
