//go:build unix

package main

import (
	"bufio"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A Redis that accepts and never answers keeps a command that was told to stop; a second signal ends it at once.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	accepted := make(chan net.Conn, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	cmd := exec.CommandContext(t.Context(), "sealcache", "audit", "--all", "--redis", "redis://"+l.Addr().String()+"?read_timeout=60s")
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()
	select {
	case c := <-accepted:
		t.Cleanup(func() { _ = c.Close() })
		// Not before the command waits for an answer: until then the first signal is enough.
		_, err := c.Read(make([]byte, 1))
		require.NoError(t, err)
	case <-time.After(2 * time.Minute):
		t.Fatal("no connection")
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	lines := bufio.NewScanner(stderr)
	require.True(t, lines.Scan())
	require.Contains(t, lines.Text(), "send the signal again")
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	for lines.Scan() {
		require.NotContains(t, strings.ToLower(lines.Text()), "audit:")
	}
	_ = cmd.Wait()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.True(t, status.Signaled(), "%v", cmd.ProcessState)
}
