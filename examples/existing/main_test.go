package main

import (
	"bytes"
	"context"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

func TestExample(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	monitor := server.Monitor(t)
	out, err := exec.CommandContext(t.Context(), "go", "run", ".", "-redis", server.Addr()).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "The application reads  {Name:Ada Lovelace Email:ada@example.org}")
	require.Regexp(t, `Redis holds            \d+ bytes, a sealed \[\]byte: c15c01`, string(out))
	said := monitor.Bytes(t)
	require.Contains(t, string(said), "existing-example", "the monitor must have seen the run")
	require.NotContains(t, string(said), "Lovelace")
}

func TestNoRedisIsAClearError(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := run(context.Background(), &out, "127.0.0.1:1", "")
	require.ErrorContains(t, err, "no Redis at 127.0.0.1:1")
}
