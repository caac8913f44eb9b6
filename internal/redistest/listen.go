package redistest

import (
	"context"
	"net"
	"sync"
	"testing"
)

// listen returns the address of a server that calls serve for each connection, in a goroutine, and then closes the
// connection. When the test ends, listen cancels ctx, closes all connections, and waits until every serve has returned.
func listen(t testing.TB, serve func(ctx context.Context, client net.Conn)) (addr string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	noError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer client.Close()
				defer context.AfterFunc(ctx, func() { _ = client.Close() })()
				serve(ctx, client)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		cancel()
		serving.Wait()
	})
	return l.Addr().String()
}
