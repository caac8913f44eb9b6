package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) } // keys, stores and caches are closed

func TestExample(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	monitor := server.Monitor(t)
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, server.Addr(), ""))
	require.Contains(t, out.String(), "The application reads  {Name:Ada Lovelace Email:ada@example.org}")
	require.Regexp(t, `Redis holds            \d+ bytes, a sealed \[\]byte: c15c01`, out.String())
	said := monitor.Bytes(t)
	require.Contains(t, string(said), "existing-example", "the monitor must have seen the run")
	require.NotContains(t, string(said), "Lovelace")
}

func TestNoRedis(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, run(t.Context(), new(bytes.Buffer), "127.0.0.1:1", ""), "no Redis answers at 127.0.0.1:1")
}
