package fxmodule

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
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

// What went wrong stays, the name goes.
func TestUnquote(t *testing.T) {
	t.Parallel()
	_, missing := os.Open("/no/such/hunter2")
	err := unquote(fmt.Errorf("aead: keyset file: %w", missing), "/no/such/hunter2")
	require.EqualError(t, err, "aead: keyset file: open: "+syscall.ENOENT.Error())
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, unquote(errors.New("aead: keyset variable hunter2 is not set"), "env:hunter2"), "aead: keyset variable is not set")
	other := errors.New("other")
	require.Equal(t, other, unquote(other, "env:hunter2"))
}
