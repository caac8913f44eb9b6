//go:build !linux

package redistest

// holdPort finds a free port. Other systems than Linux offer no way to hold it for a server.
func holdPort() (port int, release func(), err error) {
	port, err = freePort()
	return port, func() {}, err
}
