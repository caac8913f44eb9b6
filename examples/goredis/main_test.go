package main

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

const want = `the application reads "alice@example.com"
Redis holds 122 bytes, which start with c15c01010200
a value that was moved to another name is refused
`

func TestWithoutServer(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "run", ".")
	var logged bytes.Buffer
	cmd.Stderr = &logged
	out, err := cmd.Output()
	require.NoError(t, err, logged.String())
	require.Equal(t, want, string(out))
	require.Contains(t, logged.String(), "a stored value was refused")
}

func TestWithServer(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), redistest.Start(t).URL(), &out))
	require.Equal(t, want, out.String())
}

func TestBadURL(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), "redis://:hunter2@[", &bytes.Buffer{})
	require.ErrorContains(t, err, "REDIS_URL")
	require.NotContains(t, err.Error(), "hunter2")
}
