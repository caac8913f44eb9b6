package redistest

import (
	"fmt"
	"syscall"
)

// holdPort finds a free port and binds a socket to it, which never listens. While the socket is open, Linux gives the port
// to no process that asks for any free port, and to no outgoing connection. A server that sets SO_REUSEADDR, as
// redis-server does, can listen on it.
func holdPort() (port int, release func(), err error) {
	failed := func(err error) (int, func(), error) {
		return 0, nil, fmt.Errorf("redistest: reserve a free port: %w", err)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return failed(err)
	}
	release = func() { _ = syscall.Close(fd) }
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var name syscall.Sockaddr
	if err == nil {
		name, err = syscall.Getsockname(fd)
	}
	if err != nil {
		release()
		return failed(err)
	}
	return name.(*syscall.SockaddrInet4).Port, release, nil
}
