package migrate_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// A run waits while a replica is further behind its master than the bound, and goes on when the replica has caught up.
func TestMaxLag(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	host, port, err := net.SplitHostPort(server.Addr())
	require.NoError(t, err)
	replica := redistest.Start(t, "--replicaof", host+" "+port)
	state := func() rediswalk.State {
		s, err := rediswalk.New(rdb)
		require.NoError(t, err)
		states, err := s.States(t.Context())
		require.NoError(t, err)
		return states[0]
	}
	const n, bound = 100, 50_000
	fill(t, rdb, "ns", n)
	await(t, func() bool {
		return strings.Contains(rdb.Info(t.Context(), "replication").Val(), "state=online") && state().LagBytes == 0
	})
	require.NoError(t, replica.Pause())
	t.Cleanup(func() { _ = replica.Resume() })
	require.NoError(t, rdb.Set(t.Context(), "elsewhere", bytes.Repeat([]byte("x"), 2*bound), 0).Err())
	await(t, func() bool { return state().LagBytes > bound })

	var paused atomic.Bool
	r := runBy(tuned(t.Context(), rediswalk.Tuning{BatchSize: 10, ProgressEvery: time.Millisecond}), t, rdb, migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t), Rate: 50, MaxLagBytes: bound,
		Progress: func(p migrate.Progress) {
			if slices.Contains(p.Paused, "replica lag") && paused.CompareAndSwap(false, true) {
				if err := replica.Resume(); err != nil {
					t.Error(err)
				}
			}
		},
	})
	require.True(t, paused.Load())
	require.True(t, r.Done(), "%+v", r)
	require.EqualValues(t, n, r.Written)
}

// await waits until something holds.
func await(t *testing.T, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		require.False(t, time.Now().After(end), "not in time")
	}
}

// The bytes per second are bounded: a run or an audit with a bound of one byte a second gets no further than one burst.
func TestBytesPerSecond(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	const n, calls = 40, 100
	a := sealtest.Keyring(t)
	for i := range n {
		require.NoError(t, migratetest.SealedStore(t, rdb, a, "ns").Set(t.Context(), fmt.Sprint("k", i), bytes.Repeat([]byte("x"), 100_000)))
	}
	for _, bytesPerSecond := range []float64{0, 1} {
		for _, what := range []string{"run", "audit"} {
			ctx, cancel := context.WithCancel(tuned(t.Context(), rediswalk.Tuning{BatchSize: 2, ProgressEvery: time.Millisecond}))
			defer cancel()
			var seen atomic.Int64
			progress := func(now int64, final bool) {
				if seen.Add(1) > calls && bytesPerSecond > 0 && !final {
					cancel()
				}
			}
			var err error
			if what == "run" {
				_, err = migratetest.Unproven(ctx, rdb, migrate.Config{
					Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: a, BytesPerSecond: bytesPerSecond, IgnoreUnreadable: true,
					Progress: func(p migrate.Progress) { progress(p.Seen, p.Final) },
				})
			} else {
				_, err = audit.Run(ctx, rdb, audit.Config{
					Namespace: "ns", Keys: []tink.AEADWithContext{a}, BytesPerSecond: bytesPerSecond,
					Progress: func(p audit.Progress) { progress(p.Seen, p.Final) },
				})
			}
			if bytesPerSecond == 0 {
				require.NoError(t, err, what)
			} else {
				require.ErrorIs(t, err, context.Canceled, what)
			}
		}
	}
}

// noTouch plays a server that knows CLIENT NO-TOUCH, which Redis 7.2 introduced, and notes what untouched connections ask.
type noTouch struct {
	known   atomic.Bool
	mu      sync.Mutex
	touched []string // commands on other connections
}

func (n *noTouch) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	return &noTouchConn{Conn: c, server: n}, err
}

type noTouchConn struct {
	net.Conn
	server  *noTouch
	on      bool
	answers []byte
}

func (c *noTouchConn) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("no-touch")) && c.server.known.Load() {
		c.on = true
		c.answers = append(c.answers, "+OK\r\n"...)
		return len(b), nil
	}
	if !c.on {
		c.server.mu.Lock()
		c.server.touched = append(c.server.touched, string(b))
		c.server.mu.Unlock()
	}
	return c.Conn.Write(b)
}

func (c *noTouchConn) Read(b []byte) (int, error) {
	if len(c.answers) > 0 {
		n := copy(b, c.answers)
		c.answers = c.answers[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// Where the server offers CLIENT NO-TOUCH, audits and plans read on connections that have it, in every database. Elsewhere the
// reports say that reading counts as use.
func TestReadingDoesNotCountAsUse(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, known := range []bool{true, false} {
		n := &noTouch{}
		n.known.Store(known)
		o := server.ClientOptions()
		o.Dialer = n.dial
		rdb := redis.NewClient(o)
		t.Cleanup(func() { _ = rdb.Close() })
		require.NoError(t, rdb.Set(t.Context(), "k", "v", 0).Err())
		_, err := rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			p.Do(t.Context(), "select", 3)
			p.Set(t.Context(), "k3", "v", 0)
			p.Do(t.Context(), "select", 0)
			return nil
		})
		require.NoError(t, err)
		r := audited(t, rdb, audit.Config{})
		require.Equal(t, !known, r.CountsAsUse)
		require.EqualValues(t, 2, r.Total.Plaintext.Values)
		inventory, err := migrate.Plan(t.Context(), rdb, migrate.PlanConfig{})
		require.NoError(t, err)
		require.EqualValues(t, 1, inventory.Seen)
		require.Equal(t, !known, inventory.CountsAsUse)
		n.mu.Lock()
		require.Equal(t, !known, strings.Contains(strings.Join(n.touched, "\n"), "getrange"))
		n.mu.Unlock()
	}
}
