package redisstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// writers lets goroutines set and get their own keys until stop is called, which returns the number of rounds.
func writers(s *redisstore.Store, keys []string, failed func(key string, err error)) (rounds *atomic.Int64, stop func()) {
	rounds = new(atomic.Int64)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, key := range keys {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				value := fmt.Sprint(key, "=", i)
				err := s.Set(context.Background(), key, value)
				if err == nil {
					var got []byte
					if got, err = s.GetBytes(context.Background(), key); err == nil && string(got) != value {
						err = fmt.Errorf("read %q, want %q", got, value)
					}
				}
				if err != nil {
					failed(key, err)
					return
				}
				rounds.Add(1)
			}
		})
	}
	return rounds, func() { close(done); wg.Wait() }
}

// Slots move while 64 callers use them: MOVED and ASK are followed for each command of a batch.
func TestCombinedDuringReshard(t *testing.T) { // not parallel: it keeps the processors busy
	c := redistest.StartCluster(t)
	o := c.ClientOptions()
	o.PoolSize, o.ContextTimeoutEnabled = 2, true
	client := redis.NewClusterClient(o)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	s, ctx := newStore(t, client), t.Context()
	var keys []string
	slots := make(map[int]bool)
	for i := range 64 {
		key := fmt.Sprintf("{%d}", i%5)
		slot, err := client.ClusterKeySlot(ctx, key).Result()
		require.NoError(t, err)
		slots[int(slot)] = true
		keys = append(keys, key+fmt.Sprint(i))
	}
	rounds, stop := writers(s, keys, func(key string, err error) { t.Errorf("%s: %v", key, err) })
	for _, to := range c.Nodes() {
		for slot := range slots {
			from, err := c.OpenSlot(ctx, to, slot)
			require.NoError(t, err)
			if from == to {
				continue
			}
			n := rounds.Load()
			require.Eventually(t, func() bool { return t.Failed() || rounds.Load() > n+64 }, 2*time.Minute, time.Millisecond) // ASK for new keys
			require.NoError(t, c.MoveSlots(ctx, to, slot))
		}
	}
	n := rounds.Load()
	require.Eventually(t, func() bool { return t.Failed() || rounds.Load() > n+64 }, 2*time.Minute, time.Millisecond)
	stop()
	t.Logf("%d rounds, %+v", rounds.Load(), s.Stats())
	require.Positive(t, s.Stats().Combined)
}

// A node redirects one command of a batch, because it moves a slot. go-redis pauses before it follows the redirections of a
// pipeline. The other callers of the batch do not wait for that, and the command is repeated alone.
func TestRedirectedCommandOfABatch(t *testing.T) {
	t.Parallel()
	ctx, c := t.Context(), redistest.StartCluster(t)
	o := c.ClientOptions()
	o.PoolSize, o.ContextTimeoutEnabled, o.MinRetryBackoff, o.MaxRetryBackoff = 1, true, time.Hour, time.Hour
	client := redis.NewClusterClient(o)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	master := c.Nodes()[0]
	var keys []string // of one master
	for i := 0; len(keys) < 3; i++ {
		key := fmt.Sprint("key-", i)
		node, err := client.MasterForKey(ctx, key)
		require.NoError(t, err)
		if node.Options().Addr == master.Addr() {
			keys = append(keys, key)
		}
	}
	stays, moves := keys[0], keys[1]
	for _, key := range keys {
		require.NoError(t, client.Set(ctx, key, key, 0).Err())
	}
	slot, err := client.ClusterKeySlot(ctx, moves).Result()
	require.NoError(t, err)
	to := c.Nodes()[1]

	s := newStore(t, client)
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var singles, batches atomic.Int64
	client.AddHook(gate{
		single: func(_ context.Context, cmds []redis.Cmder) error {
			once.Do(func() { close(reached); <-release })
			if args := cmds[0].Args(); len(args) > 1 && args[1] == moves {
				singles.Add(1)
			}
			return nil
		},
		batch: func(context.Context, []redis.Cmder) error { batches.Add(1); return nil },
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.GetBytes(ctx, keys[2]); err != nil {
			t.Error(err)
		}
	})
	<-reached
	_, err = c.OpenSlot(ctx, to, int(slot))
	require.NoError(t, err)
	require.NoError(t, master.Client(t).Del(ctx, moves).Err()) // the node asks for it elsewhere from now on
	read := func(key string, want error) func() error {
		return func() error {
			got, err := s.GetBytes(ctx, key)
			if want != nil && errors.Is(err, want) {
				return nil
			}
			if err == nil && string(got) != key {
				err = fmt.Errorf("read %q", got)
			}
			return err
		}
	}
	results := queued(t, s,
		read(stays, nil),
		read(moves, &store.NotFound{}),
		func() error { return s.SetBytes(ctx, moves, []byte(moves)) },
		func() error { _, err := s.GetBytesMax(ctx, stays, 100); return err },
		func() error { return s.SetBytes(ctx, stays, []byte(stays)) },
	)
	close(release)
	late := time.After(2 * time.Minute)
	for i, result := range results {
		select {
		case err := <-result:
			require.NoError(t, err, i)
		case <-late:
			require.FailNow(t, "a caller waits for the redirection of another", i)
		}
	}
	wg.Wait()
	require.EqualValues(t, 1, batches.Load())
	require.EqualValues(t, 2, singles.Load())
	require.NoError(t, read(moves, nil)())
	require.NoError(t, read(stays, nil)())
}

// lossy is a connection to a node that answers a pipeline with reply, and then ends. Other commands reach the node.
type lossy struct {
	net.Conn
	reply   func(sent []byte) (reply string, lost bool)
	ended   atomic.Bool
	pending []byte
}

func (c *lossy) Write(b []byte) (int, error) {
	if reply, lost := c.reply(b); lost {
		c.pending = []byte(reply)
		c.ended.Store(true)
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *lossy) Read(b []byte) (int, error) {
	if !c.ended.Load() {
		return c.Conn.Read(b)
	}
	if len(c.pending) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

// A connection breaks after a node has redirected a command of a batch of reads. go-redis does not repeat the batch, because the
// redirection has ended it. So each caller repeats its read.
func TestBrokenBatchWithRedirection(t *testing.T) {
	t.Parallel()
	for name, nodes := range map[string]int{"one node": 1, "two nodes": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, c := t.Context(), redistest.StartCluster(t)
			port := func(addr string) string { return addr[strings.LastIndex(addr, ":"):] } // ClusterSlots loses the host
			a, b := port(c.Nodes()[0].Addr()), port(c.Nodes()[1].Addr())
			o := c.ClientOptions()
			o.PoolSize, o.MinRetryBackoff, o.MaxRetryBackoff = 1, time.Hour, time.Hour
			var split atomic.Bool
			owners := c.Client(t)
			o.ClusterSlots = func(ctx context.Context) ([]redis.ClusterSlot, error) {
				if split.Load() {
					return owners.ClusterSlots(ctx).Result() //nolint:staticcheck // Redis 6.2 has no CLUSTER SHARDS
				}
				return []redis.ClusterSlot{{End: 16383, Nodes: []redis.ClusterNode{{Addr: a}}}}, nil
			}
			var broken atomic.Int64
			o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				return &lossy{Conn: conn, reply: func(sent []byte) (string, bool) {
					if bytes.Count(sent, []byte("\r\nget\r\n")) < 2 {
						return "", false
					}
					broken.Add(1)
					if port(addr) == a {
						return "-MOVED 1 127.0.0.1" + a + "\r\n", true
					}
					return "", true
				}}, err
			}
			client := redis.NewClusterClient(o)
			t.Cleanup(func() { require.NoError(t, client.Close()) })
			keys := make(map[string][]string) // by master
			for i := 0; len(keys[a]) < 4 || len(keys[b]) < 3; i++ {
				key := fmt.Sprint("key-", i)
				node, err := owners.MasterForKey(ctx, key)
				require.NoError(t, err)
				master := port(node.Options().Addr)
				keys[master] = append(keys[master], key)
				require.NoError(t, owners.Set(ctx, key, key, 0).Err())
			}
			s := newStore(t, client)
			read := func(key string) func() error {
				return func() error {
					got, err := s.GetBytes(ctx, key)
					if err == nil && string(got) != key {
						err = fmt.Errorf("read %q", got)
					}
					return err
				}
			}
			reached, release := make(chan struct{}), make(chan struct{})
			var once sync.Once
			client.AddHook(gate{single: func(context.Context, []redis.Cmder) error {
				once.Do(func() { close(reached); <-release })
				return nil
			}})
			first := make(chan error, 1)
			go func() { first <- read(keys[a][0])() }()
			<-reached
			calls := []func() error{read(keys[a][1]), read(keys[a][2]), read(keys[a][3])}
			if nodes == 2 {
				calls = append(calls, read(keys[b][0]), read(keys[b][1]), read(keys[b][2]))
			}
			results := queued(t, s, calls...)
			split.Store(true)
			client.ReloadState(ctx)
			require.Eventually(t, func() bool {
				node, err := client.MasterForKey(ctx, keys[b][0])
				return err == nil && port(node.Options().Addr) == b
			}, time.Minute, time.Millisecond)
			close(release)
			require.NoError(t, <-first)
			for i, result := range results {
				require.NoError(t, <-result, i)
			}
			require.EqualValues(t, nodes, broken.Load())
			require.EqualValues(t, 1, s.Stats().Batches)
		})
	}
}

// All commands of a batch are redirected, as after a failover. Their callers do not need more connections than
// MaxActiveConns allows.
func TestRedirectedBatchUnderMaxActiveConns(t *testing.T) {
	t.Parallel()
	ctx, c := t.Context(), redistest.StartCluster(t)
	o := c.ClientOptions()
	o.PoolSize, o.MaxActiveConns = 20, 1
	o.ClusterSlots = func(context.Context) ([]redis.ClusterSlot, error) { // one node seems to have all slots
		return []redis.ClusterSlot{{End: 16383, Nodes: []redis.ClusterNode{{Addr: c.Nodes()[0].Addr()}}}}, nil
	}
	client := redis.NewClusterClient(o)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	s := newStore(t, client)
	owners := c.Client(t)
	var calls []func() error
	for i := 0; len(calls) < 40; i++ {
		key := fmt.Sprint("key-", i)
		node, err := owners.MasterForKey(ctx, key)
		require.NoError(t, err)
		if node.Options().Addr == c.Nodes()[1].Addr() {
			calls = append(calls, func() error { return s.SetBytes(ctx, key, []byte(key)) })
		}
	}
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	client.AddHook(gate{single: func(context.Context, []redis.Cmder) error {
		once.Do(func() { close(reached); <-release })
		return nil
	}})
	first := make(chan error, 1)
	go func() { first <- calls[0]() }()
	<-reached
	results := queued(t, s, calls[1:]...)
	close(release)
	require.NoError(t, <-first)
	for i, result := range results {
		require.NoError(t, <-result, i)
	}
	require.EqualValues(t, 1, s.Stats().Batches)
}

// The callers of two masters go on while the third is frozen and its callers wait.
func TestFrozenMaster(t *testing.T) { // not parallel: it keeps the processors busy
	c := redistest.StartCluster(t)
	o := c.ClientOptions()
	o.PoolSize, o.ContextTimeoutEnabled = 2, true
	client := redis.NewClusterClient(o)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	s, ctx := newStore(t, client), t.Context()
	frozen := c.Nodes()[0]
	var alive, waits []string
	for i := 0; len(alive) < 32 || len(waits) < 32; i++ {
		key := fmt.Sprint("key-", i)
		node, err := client.MasterForKey(ctx, key)
		require.NoError(t, err)
		if node.Options().Addr == frozen.Addr() {
			waits = append(waits, key)
		} else {
			alive = append(alive, key)
		}
	}
	rounds, stop := writers(s, alive[:32], func(key string, err error) { t.Errorf("%s: %v", key, err) })
	n := rounds.Load()
	require.Eventually(t, func() bool { return rounds.Load() > n+100 }, 2*time.Minute, time.Millisecond)
	require.NoError(t, frozen.Pause())
	limited, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, key := range waits[:32] {
		wg.Go(func() { _, _ = s.GetBytes(limited, key) })
	}
	require.Eventually(t, func() bool { return s.Stats().Waiting >= 20 }, 2*time.Minute, time.Millisecond)
	n = rounds.Load()
	require.Eventually(t, func() bool { return t.Failed() || rounds.Load() > n+1000 }, 2*time.Minute, time.Millisecond)
	stop()
	cancel()
	require.NoError(t, frozen.Resume())
	wg.Wait()
}
