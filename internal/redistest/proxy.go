package redistest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy forwards TCP connections to a server, and fails on demand.
type Proxy struct {
	target string
	l      net.Listener
	wg     sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
	refuse bool
	delay  time.Duration
	cutAt  int // bytes of replies until the cut; negative for no cut
}

// StartProxy starts a proxy in front of a server's address and closes it when the test ends.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: target, l: l, conns: make(map[net.Conn]struct{}), cutAt: -1}
	p.wg.Go(p.accept)
	t.Cleanup(p.Close)
	return p
}

// Addr returns the address of the proxy.
func (p *Proxy) Addr() string { return p.l.Addr().String() }

// Cut closes every open connection. New ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// CutReplyAfter lets n more bytes of replies pass, counted over all connections. It then cuts, once, the connection
// that the next byte belongs to.
func (p *Proxy) CutReplyAfter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutAt = n
}

// Delay holds back every part of every reply for d. Zero ends the delay.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Refuse makes the proxy close every new connection at once, like a server that is down. False ends that.
func (p *Proxy) Refuse(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
}

// Connections returns the number of connected clients.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns) / 2
}

// Close stops listening, cuts every connection and waits until all goroutines have ended.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.l.Close()
	p.Cut()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		refuse := p.refuse
		p.mu.Unlock()
		if refuse {
			_ = client.Close()
			continue
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !p.register(client, server) {
			return
		}
	}
}

// register starts the two directions of a connection, unless the proxy is closed.
func (p *Proxy) register(client, server net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_, _ = client.Close(), server.Close()
		return false
	}
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	p.wg.Go(func() { p.pass(server, client, nil) })
	p.wg.Go(func() { p.pass(client, server, p.admit) })
	return true
}

// pass copies from one end to the other, and closes both when either ends.
func (p *Proxy) pass(to, from net.Conn, admit func(n int) (int, time.Duration)) {
	defer func() {
		_, _ = to.Close(), from.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, from)
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		pass, wait := n, time.Duration(0)
		if admit != nil {
			pass, wait = admit(n)
		}
		if wait > 0 {
			time.Sleep(wait)
		}
		if _, werr := to.Write(buf[:pass]); werr != nil || err != nil || pass < n {
			return
		}
	}
}

// admit returns how many of n bytes of a reply may pass, and after which delay.
func (p *Proxy) admit(n int) (int, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.cutAt < 0:
		return n, p.delay
	case n <= p.cutAt:
		p.cutAt -= n
		return n, p.delay
	default:
		pass := p.cutAt
		p.cutAt = -1
		return pass, p.delay
	}
}
