package fxmodule

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
)

func TestPartOf(t *testing.T) {
	t.Parallel()
	require.Equal(t, PartKeys, partOf(fmt.Errorf("check: %w", aead.ErrKeyServiceUnavailable)))
	require.Equal(t, PartKeys, partOf(aead.ErrClosed))
	require.Equal(t, PartProbe, partOf(errors.New("a sealed value holds its plaintext")))
}

// The package comment's table has every setting, so that it can be relied on.
func TestEverySettingHasAnUnambiguousVariable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{"CACHES": true, "JOBS": true}
	for _, s := range cacheSettings() {
		require.False(t, seen[s.envName()], s.name)
		seen[s.envName()] = true
	}
	for _, s := range configSettings() {
		require.False(t, seen[s.envName()], s.name)
	}
}
