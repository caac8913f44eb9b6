package rediswalk

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

// noTouchServer plays the answer of a server to CLIENT NO-TOUCH.
type noTouchServer struct{ answer atomic.Value }

func (s *noTouchServer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	return &noTouchConn{Conn: c, server: s}, err
}

type noTouchConn struct {
	net.Conn
	server *noTouchServer
	unread []byte
}

func (c *noTouchConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("no-touch")) {
		answer, _ := c.server.answer.Load().(string)
		c.unread = append(c.unread, answer+"\r\n"...)
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *noTouchConn) Read(b []byte) (int, error) {
	if len(c.unread) > 0 {
		n := copy(b, c.unread)
		c.unread = c.unread[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// A new connection does not read without NO-TOUCH because the server cannot answer for a moment.
func TestUntouchedDuringLoading(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := &noTouchServer{}
	o := redistest.Start(t).ClientOptions()
	o.Dialer, o.MaxRetries = server.dial, -1
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	s, err := New(rdb)
	require.NoError(t, err)

	server.answer.Store("-ERR unknown subcommand 'NO-TOUCH'. Try CLIENT HELP.")
	require.Nil(t, s.Untouched(ctx), "the server does not offer NO-TOUCH")

	server.answer.Store("+OK")
	untouched := s.Untouched(ctx)
	require.NotNil(t, untouched)
	t.Cleanup(func() { _ = untouched.Client.Close() })
	client, ok := untouched.Client.(*redis.Client)
	require.True(t, ok)
	first, second, third := client.Conn(), client.Conn(), client.Conn()
	t.Cleanup(func() { _, _, _ = first.Close(), second.Close(), third.Close() })
	require.NoError(t, first.Ping(ctx).Err())

	server.answer.Store("-LOADING Redis is loading the dataset in memory")
	require.ErrorContains(t, second.Ping(ctx).Err(), "LOADING")
	server.answer.Store("+OK")
	require.NoError(t, third.Ping(ctx).Err())
}
