package redistest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy forwards TCP connections to a server, and fails on demand.
type Proxy struct {
	target, addr string

	mu     sync.Mutex
	conns  map[net.Conn]net.Conn // clients and their servers
	refuse bool
	delay  time.Duration
	cutAt  int // bytes of replies until the cut; negative for no cut
}

// StartProxy starts a proxy in front of a server's address and closes it when the test ends.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{target: target, conns: make(map[net.Conn]net.Conn), cutAt: -1}
	p.addr = listen(t, p.serve)
	return p
}

// Addr returns the address of the proxy.
func (p *Proxy) Addr() string { return p.addr }

// Cut closes every open connection. New ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for client, server := range p.conns {
		_, _ = client.Close(), server.Close()
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
	return len(p.conns)
}

func (p *Proxy) serve(_ context.Context, client net.Conn) {
	p.mu.Lock()
	refuse := p.refuse
	p.mu.Unlock()
	if refuse {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.conns[client] = server
	p.mu.Unlock()
	var sending sync.WaitGroup
	sending.Go(func() { pass(server, client, nil) })
	pass(client, server, p.admit)
	sending.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	p.mu.Unlock()
}

// pass copies from one end to the other, and closes both when either ends.
func pass(to, from net.Conn, admit func(n int) (int, time.Duration)) {
	defer func() { _, _ = to.Close(), from.Close() }()
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
