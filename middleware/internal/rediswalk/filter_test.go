package rediswalk

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A prefix that starts with another one has matched, too.
func TestFilterWithOverlappingPrefixes(t *testing.T) {
	t.Parallel()
	given := []string{"lock:", "lock:1:", "none:"}
	f, err := NewFilter("Exclude", given, "shop", false, "shop:")
	require.NoError(t, err)
	require.True(t, f.Match("shop:lock:1:x"))
	require.False(t, f.Match("shop:user:1"))
	require.Equal(t, []string{"none:"}, f.Unmatched(given))
}
