package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	gocacheredis "github.com/eko/gocache/store/redis/v4"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	canaries "github.com/sealcache/sealcache/internal/leaktest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
)

// failFast makes a store give up early, because these tests break it on purpose.
var failFast = append([]string{"dial_timeout=1s", "read_timeout=1s", "write_timeout=1s"}, fewRetries...)

// fewRetries is for tests of a server that refuses commands. A timeout would hide the reply.
var fewRetries = []string{"max_retries=1", "pool_size=8", "min_retry_backoff=1ms", "max_retry_backoff=5ms"}

// faulty is a sealed store over a Redis that will be broken, with its reports.
type faulty struct {
	*middleware.Store
	secrets *canaries.Set
	said    *secretReports
	key     string // a name that no report may hold
	value   string
}

func newFaulty(t *testing.T, backing store.StoreInterface, opts ...middleware.Option) *faulty {
	t.Helper()
	f := &faulty{secrets: new(canaries.Set)}
	f.said = newSecretReports(f.secrets)
	f.key, f.value = f.secrets.Text("key"), f.secrets.Text("value")
	f.Store = sealed(t, backing, envelope(t), append(f.said.options(), opts...)...)
	return f
}

// operations returns every operation of a store on one key, for times when none can work.
func (f *faulty) operations() map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"Get":            func(ctx context.Context) error { _, err := f.Get(ctx, f.key); return err },
		"GetWithTTL":     func(ctx context.Context) error { _, _, err := f.GetWithTTL(ctx, f.key); return err },
		"Set":            func(ctx context.Context) error { return f.Set(ctx, f.key, f.value) },
		"SetWithTTL":     func(ctx context.Context) error { return f.Set(ctx, f.key, f.value, store.WithExpiration(time.Hour)) },
		"SetTagged":      func(ctx context.Context) error { return f.Set(ctx, f.key, f.value, store.WithTags([]string{f.key})) },
		"SetIfNotExists": func(ctx context.Context) error { _, err := f.SetIfNotExists(ctx, f.key, f.value); return err },
		"Delete":         func(ctx context.Context) error { return f.Delete(ctx, f.key) },
		"Invalidate": func(ctx context.Context) error {
			return f.Invalidate(ctx, store.WithInvalidateTags([]string{f.key}))
		},
		"Check": f.Check,
		"Keys": func(ctx context.Context) error {
			for _, err := range f.Keys(ctx) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// requireFailures calls every operation except the given ones. Each must fail in time, with an error that is not a miss
// and that still has its cause.
func (f *faulty) requireFailures(t *testing.T, is func(err error) bool, except ...string) {
	t.Helper()
	operations := f.operations()
	for _, e := range except {
		delete(operations, e)
	}
	errs := make(map[string]error, len(operations))
	var mu sync.Mutex
	var all sync.WaitGroup
	ctx := within(t, patience)
	for name, operation := range operations {
		all.Go(func() {
			err := f.said.err(operation(ctx))
			mu.Lock()
			defer mu.Unlock()
			errs[name] = err
		})
	}
	all.Wait()
	for name, err := range errs {
		require.Error(t, err, name)
		require.NotErrorIs(t, err, store.NotFound{}, name)
		require.NotErrorIs(t, err, middleware.ErrUnauthentic, name)
		require.True(t, is(err), "%s: %v", name, err)
	}
}

// replied reports whether the server itself gave the error, with a code.
func replied(code string) func(err error) bool {
	return func(err error) bool {
		var r redis.Error
		return errors.As(err, &r) && strings.Contains(err.Error(), code)
	}
}

// unreached reports whether an error is about the connection.
func unreached(err error) bool {
	var n net.Error
	return errors.As(err, &n) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, redis.ErrPoolTimeout)
}

func (f *faulty) requireWorks(t *testing.T) {
	t.Helper()
	eventually(t, "recovery without a restart", func(ctx context.Context) error {
		if err := f.said.err(f.Set(ctx, f.key, f.value)); err != nil {
			return err
		}
		v, err := f.Get(ctx, f.key)
		if f.said.err(err) == nil && v != f.value {
			err = errors.New("another value")
		}
		return err
	})
}

// requireNoMoreGoroutines waits until the number of goroutines is at most that of before. It is for tests that are not
// parallel.
func requireNoMoreGoroutines(t *testing.T, before int) {
	t.Helper()
	eventually(t, "goroutines are left behind", func(context.Context) error {
		if n := runtime.NumGoroutine(); n > before {
			return fmt.Errorf("%d goroutines, %d before", n, before)
		}
		return nil
	})
}

// overBothFailing returns the stores of overBoth for a server at addr that will be broken.
func overBothFailing(t testing.TB, addr string) map[string]store.StoreInterface {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{
		Addr: addr, PoolSize: 8, MaxRetries: 1, MinRetryBackoff: time.Millisecond, MaxRetryBackoff: 5 * time.Millisecond,
		DialTimeout: time.Second, ReadTimeout: time.Second, WriteTimeout: time.Second, ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { _ = rdb.Close() })
	return map[string]store.StoreInterface{
		"redisstore":    overURL(t, "redis://"+addr+"/0", failFast...),
		"gocache redis": gocacheredis.NewRedis(rdb),
	}
}

// gocacheHides are the operations of gocache's Redis store that drop errors or do not exist.
var gocacheHides = map[string][]string{"gocache redis": {"Invalidate", "Keys"}}

// load is a number of writers, each with its own key, that check their last write while everything breaks.
type load struct {
	acknowledged, failed atomic.Int64
	stop                 func()
}

const writers = 16

func (f *faulty) startLoad(t *testing.T) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := new(load)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			last, before := 0, 0         // the last acknowledged writes
			unsure := make(map[int]bool) // writes without an answer, which may arrive at any time
			for i := 1; ctx.Err() == nil; i++ {
				one, done := ctx, func() {}
				if i%5 == 0 { // some callers have a short deadline
					one, done = context.WithTimeout(ctx, time.Duration(i%7)*100*time.Microsecond)
				}
				key := fmt.Sprint("load/", w)
				if err := f.said.err(f.Set(one, key, workload(w, i))); err == nil {
					last, before = i, last
					l.acknowledged.Add(1)
				} else {
					unsure[i] = true
					l.failed.Add(1)
					f.requireTransient(t, err)
				}
				done()
				v, err := f.Get(ctx, key)
				var writer, number int
				switch {
				case f.said.err(err) == nil:
					if _, err := fmt.Sscan(v.(string), &writer, &number); err != nil || v != workload(w, number) {
						t.Errorf("writer %d: another value than any that was written", w)
					} else if number != last && !unsure[number] && number != before { // go-redis may have sent that write twice
						t.Errorf("an acknowledged value was lost: %d, %d", last, number)
					}
				case errors.Is(err, store.NotFound{}):
					if last > 0 {
						t.Error("an acknowledged value is gone")
					}
				default:
					f.requireTransient(t, err)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	l.stop = func() {
		cancel()
		all.Wait()
	}
	return l
}

// workload returns a value of up to 20 KiB that belongs to one write of one writer.
func workload(w, i int) string {
	return fmt.Sprintf("%d %d %s", w, i, strings.Repeat(fmt.Sprintf("[%d %d]", w, i), i*i%2000))
}

// requireTransient records an error, which must be the effect of the fault.
func (f *faulty) requireTransient(t *testing.T, err error) {
	t.Helper()
	if !unreached(err) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && !replied("LOADING")(err) {
		t.Errorf("an undocumented error: %v", err)
	}
}

// fails waits until a write of the load fails.
func (l *load) fails(t *testing.T) {
	t.Helper()
	n := l.failed.Load()
	eventually(t, "the load meets the outage", func(context.Context) error {
		if l.failed.Load() == n {
			return errors.New("it does not")
		}
		return nil
	})
}

// goesOn waits until each writer has one more acknowledged write.
func (l *load) goesOn(t *testing.T) {
	t.Helper()
	n := l.acknowledged.Load()
	eventually(t, "load goes on", func(context.Context) error {
		if l.acknowledged.Load() < n+writers {
			return errors.New("it does not")
		}
		return nil
	})
}

// Redis is killed under load twice, and starts with its acknowledged writes (its append-only file is synced). Not
// parallel, because it counts goroutines.
func TestRedisKilledAndRestarted(t *testing.T) { //nolint:paralleltest // see above
	for _, name := range []string{"redisstore", "gocache redis"} {
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // see above
			server := redistest.StartWith(t, redistest.Options{AppendOnly: true})
			f := newFaulty(t, overBothFailing(t, server.Addr())[name])
			f.requireWorks(t)
			before := runtime.NumGoroutine()
			l := f.startLoad(t)
			for range 2 {
				l.goesOn(t)
				require.NoError(t, server.Kill())
				l.fails(t)
				f.requireFailures(t, unreached, gocacheHides[name]...)
				require.NoError(t, server.Restart())
				l.goesOn(t)
			}
			l.stop()
			f.requireWorks(t)
			f.said.requireNoSecrets(t)
			clients, err := server.Client(t).ClientList(t.Context()).Result()
			require.NoError(t, err)
			require.LessOrEqual(t, countLines(clients), 8+pipelinePool+1)
			requireNoMoreGoroutines(t, before+8+pipelinePool)
		})
	}
}

// The network cuts connections, at rest and in the middle of replies. Not parallel, because it counts goroutines.
func TestConnectionsCut(t *testing.T) { //nolint:paralleltest // see above
	for _, name := range []string{"redisstore", "gocache redis"} {
		server := redistest.Start(t) // not shared: a write without an answer may arrive after the subtest that sent it
		proxy := redistest.StartProxy(t, server.Addr())
		t.Run(name, func(t *testing.T) { //nolint:paralleltest // see above
			f := newFaulty(t, overBothFailing(t, proxy.Addr())[name])
			big := f.secrets.Text("big") + strings.Repeat("-", 20_000)
			f.requireWorks(t)
			require.NoError(t, f.Set(t.Context(), "big", big))
			before := runtime.NumGoroutine()
			for i := range 60 {
				if i%3 == 0 {
					proxy.Cut()
				} else {
					proxy.CutReplyAfter(i * i * 7) // 7 to 24,000 bytes: in the header of a reply, within it, and between two
				}
				for name, operation := range f.operations() {
					err := f.said.err(operation(within(t, patience)))
					if err != nil && !unreached(err) && !errors.Is(err, store.NotFound{}) && !errors.Is(err, middleware.ErrUnsupported) {
						require.NoError(t, err, name)
					}
				}
				v, err := f.Get(within(t, patience), "big")
				if f.said.err(err) == nil {
					require.Equal(t, big, v, "a reply that was cut is not a value")
				} else {
					require.True(t, unreached(err), "%v", err)
				}
			}
			proxy.CutReplyAfter(-1)
			f.requireWorks(t)
			require.LessOrEqual(t, proxy.Connections(), 8+pipelinePool, "connections are left behind")

			// The same happens under load, when callers share buffers and connections.
			l := f.startLoad(t)
			for i := 0; i < 40 || l.failed.Load() == 0 && i < 4000; i++ {
				if i%2 == 0 {
					proxy.Cut()
				} else {
					proxy.CutReplyAfter(i % 40 * 500)
				}
				time.Sleep(10 * time.Millisecond)
			}
			proxy.CutReplyAfter(-1)
			l.goesOn(t)
			l.stop()
			require.Positive(t, l.failed.Load(), "the load met the cuts")

			// A server refuses every connection. Another one accepts and never answers.
			proxy.Refuse(true)
			proxy.Cut()
			f.requireFailures(t, unreached, gocacheHides[name]...)
			proxy.Refuse(false)
			f.requireWorks(t)
			require.NoError(t, server.Pause())
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			_, err := f.Get(ctx, f.key)
			cancel()
			require.ErrorIs(t, f.said.err(err), context.DeadlineExceeded, "a caller's deadline ends a call to a server that hangs")
			require.NoError(t, server.Resume())
			f.requireWorks(t)
			requireNoMoreGoroutines(t, before+2*(8+pipelinePool)) // the proxy has two goroutines for each connection
			f.said.requireNoSecrets(t)
		})
		eventually(t, "closed stores leave no connection", func(context.Context) error {
			if n := proxy.Connections(); n > 0 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
	}
}
