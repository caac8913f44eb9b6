package redisstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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

// gate is a hook that holds commands back until the test releases them.
type gate struct {
	single, batch func(ctx context.Context, cmds []redis.Cmder) error // called before the commands are sent
}

func (g gate) DialHook(next redis.DialHook) redis.DialHook { return next }

func (g gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if g.single != nil {
			if err := g.single(ctx, []redis.Cmder{cmd}); err != nil {
				return err
			}
		}
		return next(ctx, cmd)
	}
}

func (g gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if g.batch != nil {
			if err := g.batch(ctx, cmds); err != nil {
				return err
			}
		}
		return next(ctx, cmds)
	}
}

// occupied is a store over one connection that is in use until free is called: further calls queue.
func occupied(t *testing.T, g gate, change func(o *redis.Options)) (s *redisstore.Store, free func()) {
	t.Helper()
	o := shared.Single.ClientOptions()
	o.PoolSize, o.ContextTimeoutEnabled = 1, true
	if change != nil {
		change(o)
	}
	client := redis.NewClient(o)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	s = newStore(t, client)
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	given := g.single
	g.single = func(ctx context.Context, cmds []redis.Cmder) error {
		once.Do(func() { close(reached); <-release })
		if given != nil {
			return given(ctx, cmds)
		}
		return nil
	}
	client.AddHook(g)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := s.GetBytes(context.Background(), "absent")
		if !errors.Is(err, &store.NotFound{}) {
			t.Errorf("the call that occupies the connection: %v", err)
		}
	})
	<-reached
	free = sync.OnceFunc(func() { close(release); wg.Wait() })
	t.Cleanup(free)
	return s, free
}

// queued starts calls one after the other, each once the one before waits.
func queued(t *testing.T, s *redisstore.Store, calls ...func() error) []chan error {
	t.Helper()
	results := make([]chan error, len(calls))
	for i, call := range calls {
		results[i] = make(chan error, 1)
		go func() { results[i] <- call() }()
		require.Eventually(t, func() bool { return s.Stats().Waiting == int64(i+1) }, 2*time.Minute, time.Millisecond)
	}
	return results
}

func TestCallsAreCombined(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var sizes []int
	s, free := occupied(t, gate{batch: func(_ context.Context, cmds []redis.Cmder) error {
		sizes = append(sizes, len(cmds))
		return nil
	}}, nil)
	p := t.Name()
	require.NoError(t, newStore(t, shared.Single.Client(t)).Set(ctx, p+"old", "v"))
	results := queued(t, s,
		func() error { return s.Set(ctx, p+"k", "value", store.WithExpiration(time.Hour)) },
		func() error { return s.SetBytes(ctx, p+"l", []byte("bytes")) },
		func() error { return s.Delete(ctx, p+"old") },
		func() error { _, err := s.GetBytes(ctx, p+"k"); return err },
		func() error { _, err := s.GetBytes(ctx, p+"absent"); return err },
	)
	free()
	for i, r := range results[:4] {
		require.NoError(t, <-r, i)
	}
	require.ErrorIs(t, <-results[4], &store.NotFound{})
	require.Equal(t, []int{5}, sizes)
	require.Equal(t, redisstore.Stats{Batches: 1, Combined: 5}, s.Stats())
	value, ttl, err := s.GetBytesWithTTL(ctx, p+"k")
	require.NoError(t, err)
	require.Equal(t, "value", string(value))
	require.Greater(t, ttl, 59*time.Minute)
	value, ttl, err = s.GetBytesWithTTL(ctx, p+"l")
	require.NoError(t, err)
	require.Equal(t, "bytes", string(value))
	require.Zero(t, ttl)
	_, err = s.GetBytes(ctx, p+"old")
	require.ErrorIs(t, err, &store.NotFound{})
}

// A batch has at most 300 commands and 1 MiB of values. Larger values are not combined.
func TestBatchesAreBounded(t *testing.T) {
	t.Parallel()
	ctx, p := t.Context(), t.Name()
	var mu sync.Mutex
	var sizes []int
	s, free := occupied(t, gate{batch: func(_ context.Context, cmds []redis.Cmder) error {
		mu.Lock()
		defer mu.Unlock()
		sizes = append(sizes, len(cmds))
		return nil
	}}, nil)
	var calls []func() error
	for range 400 {
		calls = append(calls, func() error { return s.Delete(ctx, p) })
	}
	for range 20 {
		calls = append(calls, func() error { return s.SetBytes(ctx, p, make([]byte, 64<<10)) })
	}
	results := queued(t, s, calls...)
	large := make(chan error, 1)
	go func() { large <- s.SetBytes(ctx, p+"large", make([]byte, 64<<10+1)) }() // waits for the connection, not in the queue
	free()
	for _, r := range results {
		require.NoError(t, <-r)
	}
	require.NoError(t, <-large)
	require.Equal(t, []int{300, 116, 4}, sizes)
}

func TestCallerLeavesTheQueue(t *testing.T) {
	t.Parallel()
	p := t.Name()
	s, free := occupied(t, gate{}, nil)
	first, cancel := context.WithCancel(t.Context())
	results := queued(t, s,
		func() error { return s.SetBytes(first, p+"first", []byte("v")) },
		func() error { return s.SetBytes(t.Context(), p+"second", []byte("v")) },
	)
	cancel()
	err := <-results[0] // at once, while the connection is in use
	require.ErrorIs(t, err, context.Canceled)
	require.NotContains(t, err.Error(), "unknown")
	free()
	require.NoError(t, <-results[1])
	require.EqualValues(t, 1, s.Stats().Combined)
	require.Zero(t, s.Stats().Waiting)
	_, err = s.GetBytes(t.Context(), p+"first") // may be combined, too, while the batch ends
	require.ErrorIs(t, err, &store.NotFound{}, "the command was taken out of the queue")
}

// The first caller of a batch leaves after the batch was sent. Set has copied its value, and the others are not disturbed.
func TestCallerLeavesTheBatch(t *testing.T) {
	t.Parallel()
	p := t.Name()
	sent, release := make(chan struct{}), make(chan struct{})
	arrived := sync.OnceFunc(func() { close(sent) })
	s, free := occupied(t, gate{batch: func(context.Context, []redis.Cmder) error {
		arrived() // a later call may be a batch, too
		<-release
		return nil
	}}, nil)
	first, cancel := context.WithCancel(t.Context())
	value := []byte("value")
	results := queued(t, s,
		func() error { return s.Set(first, p+"first", value) },
		func() error { _, err := s.GetBytes(first, p+"absent"); return err },
		func() error { return s.SetBytes(t.Context(), p+"other", []byte("v")) },
	)
	free()
	<-sent
	cancel()
	err := <-results[0]
	require.ErrorIs(t, err, context.Canceled)
	require.EqualError(t, err, "redisstore: set: context canceled (the command was sent, but the result is unknown)")
	require.EqualError(t, <-results[1], "redisstore: get: context canceled")
	copy(value, "XXXXX")
	close(release)
	require.NoError(t, <-results[2])
	got, err := s.GetBytes(t.Context(), p+"first")
	require.NoError(t, err)
	require.Equal(t, "value", string(got))
}

func TestPanicInAHook(t *testing.T) {
	t.Parallel()
	var batches atomic.Int64
	var logged bytes.Buffer
	client := redis.NewClient(func() *redis.Options {
		o := shared.Single.ClientOptions()
		o.PoolSize, o.ContextTimeoutEnabled = 1, true
		return o
	}())
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	s, err := redisstore.NewWithConfig(client, redisstore.Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	require.NoError(t, err)
	reached, release := make(chan struct{}), make(chan struct{})
	var singles atomic.Int64
	client.AddHook(gate{
		single: func(context.Context, []redis.Cmder) error {
			if singles.Add(1) == 1 {
				close(reached)
				<-release
				panic("secret-value")
			}
			return nil
		},
		batch: func(context.Context, []redis.Cmder) error {
			if batches.Add(1) == 1 {
				panic("secret-value")
			}
			return nil
		},
	})
	panicked := make(chan any, 1)
	go func() {
		defer func() { panicked <- recover() }()
		_, _ = s.GetBytes(context.Background(), "secret-key")
	}()
	<-reached
	var calls []func() error
	for range 3 {
		calls = append(calls, func() error { return s.Delete(t.Context(), "secret-key") })
	}
	results := queued(t, s, calls...)
	close(release)
	require.Equal(t, "secret-value", <-panicked, "a call on its own panics as over the pool")
	for _, r := range results {
		require.EqualError(t, <-r, "redisstore: delete: a hook of the Redis client panicked, so it is unknown whether the command was executed")
	}
	require.NotContains(t, logged.String(), "secret")
	require.Contains(t, logged.String(), "ProcessPipelineHook", "the log shows the stack")
	works(t, s)
}

// serverReply is an error reply of a server.
type serverReply string

func (r serverReply) Error() string { return string(r) }
func (serverReply) RedisError()     {}

// A batch with a write whose connection broke, or was refused for now, is not sent again. Its callers repeat their commands, as
// go-redis does for single ones.
func TestBrokenBatchIsRepeatedByItsCallers(t *testing.T) {
	t.Parallel()
	for i, broken := range []error{
		&net.OpError{Op: "read", Err: io.ErrClosedPipe},
		serverReply("LOADING Redis is loading the dataset in memory"),
		serverReply("ERR max number of clients reached"),
	} {
		for _, retries := range []int{-1, 3} {
			s, free := occupied(t, gate{batch: func(context.Context, []redis.Cmder) error { return broken }},
				func(o *redis.Options) { o.MaxRetries = retries })
			key := t.Name() + fmt.Sprint(i, retries)
			results := queued(t, s,
				func() error { return s.SetBytes(t.Context(), key, []byte("v")) },
				func() error { return s.Delete(t.Context(), "absent") },
			)
			free()
			for _, r := range results {
				if err := <-r; retries < 0 {
					require.ErrorIs(t, err, broken)
				} else {
					require.NoError(t, err, broken.Error())
				}
			}
		}
	}
}

// A batch of reads whose connection breaks is sent again by go-redis, and not once more by each caller.
func TestBrokenBatchOfReads(t *testing.T) {
	t.Parallel()
	for _, down := range []bool{false, true} {
		srv := redistest.Start(t)
		proxy := redistest.StartProxy(t, srv.Addr())
		var batches, singles atomic.Int64
		s, free := occupied(t, gate{
			single: func(_ context.Context, cmds []redis.Cmder) error {
				if cmds[0].Name() == "get" { // a new connection has its own commands
					singles.Add(1)
				}
				return nil
			},
			batch: func(_ context.Context, cmds []redis.Cmder) error {
				if cmds[0].Name() != "get" {
					return nil
				}
				batches.Add(1)
				if proxy.Refuse(down); down {
					proxy.Cut()
				} else {
					proxy.CutReplyAfter(0) // once
				}
				return nil
			},
		}, func(o *redis.Options) { o.Addr = proxy.Addr() })
		require.NoError(t, srv.Client(t).Set(t.Context(), "k", "v", 0).Err())
		var calls []func() error
		for range 3 {
			calls = append(calls, func() error {
				got, err := s.GetBytes(t.Context(), "k")
				if err == nil && string(got) != "v" {
					err = fmt.Errorf("read %q", got)
				}
				return err
			})
		}
		results := queued(t, s, calls...)
		free()
		for _, r := range results {
			require.Equal(t, down, <-r != nil)
		}
		require.EqualValues(t, 1, batches.Load())
		require.EqualValues(t, 1, singles.Load(), "the call that occupied the connection")
	}
}

// A batch has the latest deadline of its callers. If one of them has none, go-redis's own timeouts bound the batch, as they bound
// a single command: a new connection may take longer than ReadTimeout.
func TestDeadlineOfABatch(t *testing.T) {
	t.Parallel()
	early, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	late, cancelLate := context.WithTimeout(t.Context(), 2*time.Hour)
	defer cancelLate()
	latest, _ := late.Deadline()
	for _, last := range []context.Context{early, t.Context()} {
		contexts := make(chan context.Context, 1)
		s, free := occupied(t, gate{batch: func(ctx context.Context, _ []redis.Cmder) error {
			contexts <- ctx
			return nil
		}}, nil)
		var calls []func() error
		for _, ctx := range []context.Context{early, late, last} {
			calls = append(calls, func() error { return s.SetBytes(ctx, t.Name(), nil) })
		}
		results := queued(t, s, calls...)
		free()
		for _, r := range results {
			require.NoError(t, <-r)
		}
		deadline, bounded := (<-contexts).Deadline()
		require.Equal(t, last == early, bounded)
		if bounded {
			require.True(t, deadline.Equal(latest))
		}
	}
}

// A hook may look for commands of a type, and change their replies. It finds the reads of a batch as it finds single ones.
func TestHooksFindTheTypesOfReads(t *testing.T) {
	t.Parallel()
	types := make(chan string, 10)
	s, free := occupied(t, gate{batch: func(_ context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if cmd.Name() != "set" {
				types <- fmt.Sprintf("%s %T", cmd.Name(), cmd)
			}
		}
		close(types)
		return nil
	}}, nil)
	results := queued(t, s,
		func() error { return s.SetBytes(t.Context(), t.Name(), []byte("v")) },
		func() error { _, err := s.GetBytes(t.Context(), t.Name()); return err },
		func() error { _, err := s.GetBytesMax(t.Context(), t.Name(), 10); return err },
	)
	free()
	for _, r := range results {
		require.NoError(t, <-r)
	}
	var got []string
	for name := range types {
		got = append(got, name)
	}
	require.Equal(t, []string{"get *redis.StringCmd", "getrange *redis.StringCmd", "exists *redis.IntCmd"}, got)
}

// A hook may change the arguments of a command, for example to add a prefix to its key. A command that is repeated starts from
// the arguments of its caller, because the hooks see it again.
func TestHooksSeeARepeatedCommandUnchanged(t *testing.T) {
	t.Parallel()
	p := t.Name() + ":"
	change := func(cmds []redis.Cmder) {
		for _, cmd := range cmds {
			args := cmd.Args()
			if key, _ := args[1].(string); key != "absent" {
				args[1] = p + key
			}
			if cmd.Name() == "set" {
				args[2] = fmt.Sprintf("<%s>", args[2])
			}
		}
	}
	broken := &net.OpError{Op: "read", Err: io.ErrClosedPipe}
	s, free := occupied(t, gate{
		single: func(_ context.Context, cmds []redis.Cmder) error { change(cmds); return nil },
		batch: func() func(context.Context, []redis.Cmder) error {
			var batches atomic.Int64
			return func(_ context.Context, cmds []redis.Cmder) error {
				if change(cmds); batches.Add(1) == 1 {
					return broken
				}
				return nil
			}
		}(),
	}, nil)
	client := shared.Single.Client(t)
	require.NoError(t, client.Set(t.Context(), p+"old", "value", 0).Err())
	var bounded []byte
	results := queued(t, s,
		func() error { return s.Set(t.Context(), "k", []byte("v"), store.WithExpiration(time.Hour)) },
		func() (err error) { bounded, err = s.GetBytesMax(t.Context(), "old", 100); return err },
	)
	free()
	for _, r := range results {
		require.NoError(t, <-r)
	}
	require.Equal(t, "value", string(bounded))
	require.Equal(t, "<v>", client.Get(t.Context(), p+"k").Val())
}

// Calls wait for a connection that max_active_conns allows. go-redis alone would refuse them.
func TestCombinedUnderMaxActiveConns(t *testing.T) {
	t.Parallel()
	s := open(t, shared.Single.URL()+"?pool_size=20&max_active_conns=2")
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for range 50 {
				if err := s.SetBytes(t.Context(), fmt.Sprint(t.Name(), i), []byte("v")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestCombiningIsOff(t *testing.T) {
	t.Parallel()
	type embedded struct{ *redis.Client }
	client := shared.Single.Client(t)
	off, err := redisstore.NewWithConfig(client, redisstore.Config{DisableCombining: true})
	require.NoError(t, err)
	for name, s := range map[string]*redisstore.Store{
		"config":        off,
		"URL":           open(t, shared.Single.URL()+"?combine=off&pool_size=1"),
		"embedded type": newStore(t, embedded{client}),
	} {
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				key := t.Name() + fmt.Sprint(name, i)
				if err := errors.Join(s.Set(t.Context(), key, "v"), s.Delete(t.Context(), key)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Zero(t, s.Stats(), name)
	}
	_, err = redisstore.Open(t.Context(), "redis://localhost?combine=no")
	require.EqualError(t, err, "redisstore: open: the option \"combine\": the value in the URL must be \"on\" or \"off\"")
}

func TestNewWarnsOfIgnoredDeadlines(t *testing.T) {
	t.Parallel()
	for _, heeds := range []bool{false, true} {
		one := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", ContextTimeoutEnabled: heeds})
		cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, ContextTimeoutEnabled: heeds})
		for _, client := range []redis.UniversalClient{one, cluster} {
			var logged strings.Builder
			_, err := redisstore.NewWithConfig(client, redisstore.Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
			require.NoError(t, err)
			require.Equal(t, !heeds, strings.Contains(logged.String(), "ContextTimeoutEnabled"), logged.String())
			require.NoError(t, client.Close())
		}
	}
}

// The caller of a Set sees its value in the next Get, also if other calls are combined with the two.
func TestOwnWritesAreSeen(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, _ redis.UniversalClient, p string) {
		var wg sync.WaitGroup
		for w := range 48 {
			wg.Go(func() {
				key := fmt.Sprint(p, w)
				for i := range 50 {
					value := fmt.Sprint(w, "-", i)
					if err := s.Set(t.Context(), key, value); err != nil {
						t.Error(err)
						return
					}
					got, err := s.GetBytes(t.Context(), key)
					if err != nil || string(got) != value {
						t.Errorf("%q after %q: %v", got, value, err)
						return
					}
					clear(got)
				}
				if err := s.Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
				if _, err := s.GetBytes(t.Context(), key); !errors.Is(err, &store.NotFound{}) {
					t.Errorf("after Delete: %v", err)
				}
			})
		}
		wg.Wait()
		require.Positive(t, s.Stats().Combined)
	})
}

func TestFrozenServer(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	s := open(t, srv.URL())
	works(t, s)
	require.NoError(t, srv.Pause())
	const callers = 1000
	ended := make(chan error, callers)
	for i := range callers {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			if i%2 == 0 {
				_, err := s.GetBytes(ctx, "k")
				ended <- err
				return
			}
			ended <- s.SetBytes(ctx, "k", []byte("v"))
		}()
	}
	late := time.NewTimer(2 * time.Minute)
	defer late.Stop()
	for i := range callers {
		select {
		case err := <-ended:
			require.ErrorIs(t, err, context.DeadlineExceeded)
		case <-late.C:
			require.FailNow(t, "callers have not returned", "%d of %d", callers-i, callers)
		}
	}
	require.NoError(t, srv.Resume())
	require.Eventually(t, func() bool { return s.Ping(t.Context()) == nil && s.Stats().Waiting == 0 }, 2*time.Minute, 10*time.Millisecond)
	works(t, s)
}

// Bounded reads are combined, and none reads more than its bound. An absent entry is told from an empty one.
func TestBoundedReadsAreCombined(t *testing.T) {
	t.Parallel()
	ctx, p := t.Context(), t.Name()
	const limit = 100
	var sizes []int
	reached, release := make(chan struct{}), make(chan struct{})
	s, free := occupied(t, gate{batch: func(_ context.Context, cmds []redis.Cmder) error {
		sizes = append(sizes, len(cmds))
		if len(sizes) > 1 {
			return nil // a second look at what may be empty
		}
		for i, cmd := range cmds {
			switch args := cmd.Args(); cmd.Name() {
			case "getrange":
				if args[2] != 0 || args[3] != limit {
					t.Errorf("command %d reads from %v to %v", i, args[2], args[3])
				}
			case "exists":
			default:
				t.Errorf("command %d is %s", i, cmd.Name())
			}
		}
		close(reached)
		<-release
		return nil
	}}, nil)
	plain := newStore(t, shared.Single.Client(t))
	require.NoError(t, plain.Set(ctx, p+"small", "value"))
	require.NoError(t, plain.Set(ctx, p+"empty", ""))
	require.NoError(t, plain.Set(ctx, p+"whole", strings.Repeat("w", limit)))
	require.NoError(t, plain.Set(ctx, p+"large", make([]byte, 8<<20)))
	require.NoError(t, shared.Single.Client(t).RPush(ctx, p+"list", "element").Err())
	leaving, leave := context.WithCancel(ctx)
	values := make([][]byte, 6)
	read := func(ctx context.Context, i int, key string) func() error {
		return func() (err error) {
			values[i], err = s.GetBytesMax(ctx, p+key, limit)
			return err
		}
	}
	results := queued(t, s,
		read(ctx, 0, "small"), read(ctx, 1, "empty"), read(ctx, 2, "whole"), read(ctx, 3, "large"), read(ctx, 4, "absent"),
		read(ctx, 5, "list"), read(leaving, 5, "small"),
	)
	go free()
	<-reached
	leave()
	require.ErrorIs(t, <-results[6], context.Canceled)
	close(release)
	for i, want := range []string{"value", "", strings.Repeat("w", limit)} {
		require.NoError(t, <-results[i], i)
		require.NotNil(t, values[i], i)
		require.Equal(t, want, string(values[i]), i)
	}
	var large interface{ TooLarge() bool }
	err := <-results[3]
	require.ErrorAs(t, err, &large)
	require.True(t, large.TooLarge())
	require.ErrorIs(t, <-results[4], &store.NotFound{})
	require.ErrorContains(t, <-results[5], "WRONGTYPE")
	require.Equal(t, 14, sizes[0])
	require.EqualValues(t, 7, s.Stats().Combined)
}
