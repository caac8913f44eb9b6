package redistest_test

import (
	"net"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

// A server that is down keeps its port until Close, so that Restart finds it free.
func TestPortsAreHeld(t *testing.T) {
	t.Parallel()
	s, err := redistest.Run(t.Context(), redistest.Options{})
	require.NoError(t, err)
	_, text, err := net.SplitHostPort(s.Addr())
	require.NoError(t, err)
	port, err := strconv.Atoi(text)
	require.NoError(t, err)
	// The kernel looks at the port in this way before it gives it to a process that asks for any free one.
	take := func() error {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		require.NoError(t, err)
		defer func() { require.NoError(t, syscall.Close(fd)) }()
		return syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	}
	require.NoError(t, s.Kill())
	require.ErrorIs(t, take(), syscall.EADDRINUSE)
	require.NoError(t, s.Restart())
	require.NoError(t, s.Close())
	require.NoError(t, take())
}
