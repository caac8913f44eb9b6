package main

import (
	"io"
	"net"
	"sync"
	"time"
)

// delay is a TCP proxy that holds each reply back for the round trip of an emulated network. Replies of one connection
// overlap, as on a network.
type delay struct {
	l         net.Listener
	target    string
	roundTrip time.Duration
	wg        sync.WaitGroup
	mu        sync.Mutex
	conns     []net.Conn
}

func startDelay(target string, roundTrip time.Duration) (*delay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		return nil, err
	}
	d := &delay{l: l, target: target, roundTrip: roundTrip}
	d.wg.Go(d.accept)
	return d, nil
}

func (d *delay) addr() string { return d.l.Addr().String() }

func (d *delay) close() {
	_ = d.l.Close()
	d.mu.Lock()
	for _, c := range d.conns {
		_ = c.Close()
	}
	d.mu.Unlock()
	d.wg.Wait()
}

func (d *delay) accept() {
	for {
		client, err := d.l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", d.target) //nolint:noctx // on loopback, at once
		if err != nil {
			_ = client.Close()
			continue
		}
		d.mu.Lock()
		d.conns = append(d.conns, client, server)
		d.mu.Unlock()
		d.wg.Go(func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		})
		d.wg.Go(func() { d.replies(client, server) })
	}
}

// chunk is a part of a reply, and when it is due.
type chunk struct {
	data []byte
	due  time.Time
}

func (d *delay) replies(client, server net.Conn) {
	line := make(chan chunk, 1024)
	d.wg.Go(func() {
		defer close(line)
		for {
			buffer := make([]byte, 64<<10)
			n, err := server.Read(buffer)
			if n > 0 {
				line <- chunk{buffer[:n], time.Now().Add(d.roundTrip)}
			}
			if err != nil {
				return
			}
		}
	})
	for c := range line {
		time.Sleep(time.Until(c.due)) //nolint:forbidigo // the delay that is emulated
		if _, err := client.Write(c.data); err != nil {
			_ = server.Close()
		}
	}
	_ = client.Close()
}
