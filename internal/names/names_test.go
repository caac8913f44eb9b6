package names_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/names"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "Z9", "_", "..", "-x", "shop.eu-1_b", strings.Repeat("x", names.MaxBytes)} {
		require.NoError(t, names.Check("the name", name), name)
	}
	for name, want := range map[string]string{
		"":                      "the name has 0 bytes (1 to 64 are allowed)",
		strings.Repeat("x", 65): "the name has 65 bytes (1 to 64 are allowed)",
		"a b":                   `the name has the byte " " at position 1 (allowed are A-Z a-z 0-9 _ . -)`,
		"shop:":                 `the name has the byte ":" at position 4 (allowed are A-Z a-z 0-9 _ . -)`,
		"é":                     `the name has the byte "\xc3" at position 0 (allowed are A-Z a-z 0-9 _ . -)`,
	} {
		require.EqualError(t, names.Check("the name", name), want)
	}
}

func TestCheckTenant(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"a", "9", "a..b", "Acme-1_x", strings.Repeat("x", names.MaxBytes)} {
		require.NoError(t, names.CheckTenant(id), id)
	}
	for _, id := range []string{"", ".", "..", "_a", "-a", "a/b", "a b", strings.Repeat("x", 65)} {
		require.Error(t, names.CheckTenant(id), id)
	}
	require.EqualError(t, names.CheckTenant(".."), "the tenant id must begin with a letter or digit")
}

func TestGroup(t *testing.T) {
	t.Parallel()
	for stored, want := range map[string]string{
		"shop:1": "shop:", "shop:a:b": "shop:", "shop:": "shop:",
		"shop": "", ":1": "", "a b:1": "", "": "", strings.Repeat("x", 65) + ":1": "",
	} {
		prefix, ok := names.Group(stored)
		require.Equal(t, want, prefix, stored)
		require.Equal(t, want != "", ok, stored)
	}
}
