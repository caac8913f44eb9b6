package redistest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
)

// Monitor collects the output of MONITOR: every command that the server runs, with its arguments, those of scripts too.
type Monitor struct {
	conn net.Conn
	rdb  *redis.Client
	done chan struct{}

	mu  sync.Mutex
	buf bytes.Buffer
}

// Monitor starts to collect. It covers commands that are sent after it has returned. It stops when the test ends.
func (s *Server) Monitor(t testing.TB) *Monitor {
	t.Helper()
	var conn net.Conn
	var err error
	if cfg := s.TLSConfig(); cfg != nil {
		conn, err = tls.Dial("tcp", s.Addr(), cfg)
	} else {
		conn, err = net.Dial("tcp", s.Addr())
	}
	if err != nil {
		t.Fatalf("redistest: cannot watch the server with MONITOR: %v", err)
	}
	r := bufio.NewReader(conn)
	command := func(args ...string) {
		t.Helper()
		line := fmt.Sprintf("*%d\r\n", len(args))
		for _, arg := range args {
			line += fmt.Sprintf("$%d\r\n%s\r\n", len(arg), arg)
		}
		if _, err := conn.Write([]byte(line)); err != nil {
			t.Fatalf("redistest: cannot watch the server with MONITOR: %v", err)
		}
		reply, err := r.ReadString('\n')
		if err != nil || !strings.HasPrefix(reply, "+OK") {
			t.Fatalf("redistest: redis-server answered %q to a command on the connection for MONITOR, error %v, want +OK", reply, err)
		}
	}
	switch {
	case s.opts.User != "":
		command("AUTH", s.opts.User, s.opts.Password)
	case s.opts.Password != "":
		command("AUTH", s.opts.Password)
	}
	command("MONITOR")
	m := &Monitor{conn: conn, rdb: redis.NewClient(s.ClientOptions()), done: make(chan struct{})}
	go func() {
		defer close(m.done)
		chunk := make([]byte, 64<<10)
		for {
			n, err := r.Read(chunk)
			m.mu.Lock()
			m.buf.Write(chunk[:n])
			m.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(m.Close)
	return m
}

// Bytes returns the output so far. It covers all commands that were answered before the call. Bytes that are not
// printable ASCII appear as MONITOR writes them: \xNN, \r,
// , \", \\.
func (m *Monitor) Bytes(t testing.TB) []byte {
	t.Helper()
	mark := "redistest-" + rand.Text()
	if err := m.rdb.Do(context.Background(), "echo", mark).Err(); err != nil {
		t.Fatalf("redistest: cannot watch the server with MONITOR: %v", err)
	}
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		m.mu.Lock()
		b := bytes.Clone(m.buf.Bytes())
		m.mu.Unlock()
		if bytes.Contains(b, []byte(mark)) {
			return b
		}
	}
	t.Fatal("redistest: the output of MONITOR lacks a command that redis-server has answered")
	return nil
}

// Close ends the collection.
func (m *Monitor) Close() {
	_ = m.conn.Close()
	_ = m.rdb.Close()
	<-m.done
}

// Sent returns how many bytes the server has sent to clients and replicas.
func (s *Server) Sent(t testing.TB) int64 {
	t.Helper()
	info := s.Client(t).Info(t.Context(), "stats").Val()
	n, err := strconv.ParseInt(rediscmd.InfoField(info, "total_net_output_bytes"), 10, 64)
	if err != nil {
		t.Fatalf("redistest: cannot read total_net_output_bytes in INFO stats: %v", err)
	}
	return n
}
