package redistest

import (
	"bufio"
	"context"
	"net"
	"strings"
	"sync"
	"testing"
)

// Answering returns the address of a server that answers each command with the line of the Redis protocol that line
// returns, for example "-ERR no". The name of the command is in lower case. The server closes when the test ends.
func Answering(t testing.TB, line func(command string) string) (addr string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	closed := false
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		closed = true
		for _, conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if closed {
				_ = conn.Close()
			}
			open = append(open, conn)
			mu.Unlock()
			serving.Go(func() { answer(conn, line) })
		}
	})
	return listener.Addr().String()
}

// answer answers each command until the connection breaks.
func answer(conn net.Conn, line func(command string) string) {
	defer conn.Close()
	for r := bufio.NewReader(conn); ; {
		_, words, err := message(r)
		if err != nil || len(words) == 0 {
			return
		}
		if _, err = conn.Write([]byte(line(strings.ToLower(words[0])) + "\r\n")); err != nil {
			return
		}
	}
}
