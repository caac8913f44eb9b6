package fxmodule_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/store"
	gocacheredis "github.com/eko/gocache/store/redis/v4"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/stores/memorystore"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// requireNoPlaintext searches everything that the server received and keeps.
func requireNoPlaintext(t *testing.T, server *redistest.Server, monitor *redistest.Monitor) {
	t.Helper()
	said := string(monitor.Bytes(t))
	require.Contains(t, said, "patient", "the search finds commands")
	require.NotContains(t, said, canary)
	files := server.DumpFiles(t)
	require.NotEmpty(t, files)
	for name, content := range files {
		require.NotContains(t, string(content), canary, name)
	}
}

// Sealed and unsealed caches on one Redis, by URL.
func TestRedisByURL(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{Password: secret})
	monitor := server.Monitor(t)
	kek := sealtest.KEKFile(t)
	var caches *fxmodule.Caches
	var health *fxmodule.Health
	run(t, fxmodule.Config{Caches: map[string]fxmodule.Cache{
		"default":  {Store: server.URL(), Namespace: "shop", KEK: kek},
		"sessions": {Store: server.URL(), Namespace: "sessions", KEK: kek, TTL: time.Minute},
		"insecure": {Store: server.URL(), Namespace: "insecure", Unsealed: true, TTL: time.Hour},
	}}, fx.Populate(&caches, &health))
	ctx := t.Context()
	require.NoError(t, health.Check(ctx))
	rdb := server.Client(t)

	for _, name := range []string{"default", "sessions"} {
		s, err := caches.Cache(name)
		require.NoError(t, err)
		users := cache.New[string](s)
		require.NoError(t, users.Set(ctx, "patient", canary, store.WithTags([]string{"patients"})))
		got, err := users.Get(ctx, "patient")
		require.NoError(t, err)
		require.Equal(t, canary, got)
	}
	require.Positive(t, rdb.PTTL(ctx, "sessions:patient").Val())
	require.Negative(t, rdb.PTTL(ctx, "shop:patient").Val())

	insecure, err := caches.Cache("insecure")
	require.NoError(t, err)
	require.NoError(t, insecure.Set(ctx, "motd", "hello", store.WithTags([]string{"t"})))
	require.Equal(t, "hello", rdb.Get(ctx, "insecure:motd").Val())
	require.Positive(t, rdb.PTTL(ctx, "insecure:motd").Val())

	// Invalidate ignores a foreign name that an attacker added to a tag set.
	require.NoError(t, rdb.Set(ctx, "neighbour", "here", 0).Err())
	require.NoError(t, rdb.SAdd(ctx, "gocache_tag_insecure:t", "neighbour").Err())
	require.NoError(t, insecure.Set(ctx, "other", "x", store.WithTags([]string{"t"})))
	require.NoError(t, insecure.Invalidate(ctx, store.WithInvalidateTags([]string{"t"})))
	require.Zero(t, rdb.Exists(ctx, "insecure:other", "insecure:motd").Val())
	require.EqualValues(t, 1, rdb.Exists(ctx, "neighbour").Val())
	require.NoError(t, insecure.Set(ctx, "motd", "hello"))

	// A value that was moved to another cache with the same keys does not open.
	require.NoError(t, rdb.Copy(ctx, "shop:patient", "sessions:patient", 0, true).Err())
	sessions, err := caches.Sealed("sessions")
	require.NoError(t, err)
	_, err = sessions.Get(ctx, "patient")
	require.Error(t, err)

	requireNoPlaintext(t, server, monitor)
	require.NoError(t, insecure.Clear(ctx))
	require.Zero(t, rdb.Exists(ctx, "insecure:motd").Val())
	require.EqualValues(t, 2, rdb.Exists(ctx, "shop:patient", "sessions:patient").Val())
}

// A Sentinel answers PING, and would fail each operation.
func TestASentinelInPlaceOfAServer(t *testing.T) {
	t.Parallel()
	url := "redis://" + redistest.StartSentinel(t).Addr()
	for _, c := range []fxmodule.Cache{{Store: url, KEK: sealtest.KEKFile(t)}, {Store: url, Unsealed: true}} {
		app := newApp(one(c))
		require.NoError(t, app.Err())
		err := app.Start(t.Context())
		requireFailure(t, err, "default", fxmodule.PartStore)
		require.ErrorContains(t, err, "use redis+sentinel://")
	}
}

// Redis stops and starts again. The application reports it and recovers.
func TestRedisGoesAndComesBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var s store.StoreInterface
	var health *fxmodule.Health
	run(t, one(fxmodule.Cache{Store: server.URL() + "?max_retries=0", KEK: sealtest.KEKFile(t)}), fx.Populate(&s, &health))
	require.NoError(t, server.Kill())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	requireFailure(t, health.Check(ctx), "default", fxmodule.PartStore)
	require.NoError(t, server.Restart())
	require.Eventually(t, func() bool { return health.Check(t.Context()) == nil }, 2*time.Minute, 10*time.Millisecond)
	require.NoError(t, s.Set(t.Context(), "patient", canary))
}

// A Redis that does not answer at start is named in the error, although fx itself only reports that the time is up.
func TestStartNamesTheStoreThatHangs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	app := newApp(one(fxmodule.Cache{Store: server.URL(), KEK: sealtest.KEKFile(t)}))
	require.NoError(t, app.Err())
	require.NoError(t, server.Pause())
	t.Cleanup(func() { require.NoError(t, server.Resume()) })
	err := app.Start(sealtest.EarlyDeadline(t, 4*time.Second))
	requireFailure(t, err, "default", fxmodule.PartStore)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// A client for Sentinel does not close while it waits for a Sentinel that hangs. The error of the start is
// in time, and names the cache.
func TestStartNamesTheSentinelThatHangs(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts connections, and nothing reads from them
	require.NoError(t, err)
	var caches *fxmodule.Caches
	app := newApp(one(fxmodule.Cache{Store: "redis+sentinel://" + silent.Addr().String() + "/0?master=m&dial_timeout=1h&read_timeout=1h", KEK: sealtest.KEKFile(t)}), fx.Populate(&caches))
	require.NoError(t, app.Err())
	err = app.Start(sealtest.EarlyDeadline(t, 4*time.Second))
	requireFailure(t, err, "default", fxmodule.PartStore)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, silent.Close())
	require.NoError(t, caches.Close(), "waits for the end of the closing at start")
}

// quotingRedis starts a server that answers every command with an error reply that quotes a value. It returns its address.
func quotingRedis(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = client.Close() }()
				lines := bufio.NewScanner(client)
				for lines.Scan() {
					if !strings.HasPrefix(lines.Text(), "*") { // not the first line of a command
						continue
					}
					if _, err := io.WriteString(client, "-ERR unknown command, with args beginning with: '"+canary+"'\r\n"); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// A server, a proxy or a managed service may quote a value in an error reply. Start, health checks and the log withhold it.
func TestErrorRepliesOfRedisAreCut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]fxmodule.Cache{"sealed": {KEK: sealtest.KEKFile(t)}, "unsealed": {Unsealed: true}} {
		for client, newStore := range map[string]func(redis.UniversalClient) (store.StoreInterface, error){
			"gocache":    func(rdb redis.UniversalClient) (store.StoreInterface, error) { return gocacheredis.NewRedis(rdb), nil },
			"redisstore": func(rdb redis.UniversalClient) (store.StoreInterface, error) { return redisstore.New(rdb) },
		} {
			t.Run(name+"/"+client, func(t *testing.T) {
				t.Parallel()
				rdb := redis.NewClient(&redis.Options{Addr: quotingRedis(t), MaxRetries: -1})
				t.Cleanup(func() { require.NoError(t, rdb.Close()) })
				backing, err := newStore(rdb)
				require.NoError(t, err)
				require.ErrorContains(t, rdb.Ping(t.Context()).Err(), canary)
				var health *fxmodule.Health
				var l sealtest.Logs
				app := fx.New(fx.NopLogger, fx.Supply(one(c), l.Logger()), fxmodule.Decorator, provideStore(backing), fx.Populate(&health))
				require.NoError(t, app.Err())
				w := httptest.NewRecorder()
				health.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
				require.Contains(t, l.String(), "rest of the text not shown")
				require.NotContains(t, l.String()+w.Body.String(), canary)
				for _, err := range []error{health.Check(t.Context()), app.Start(t.Context())} {
					requireFailure(t, err, "default", fxmodule.PartStore)
					require.ErrorContains(t, err, "ERR unknown command (rest of the text not shown)")
					require.NotContains(t, err.Error(), canary)
				}
			})
		}
	}
}

// pinged counts its pings.
type pinged struct {
	*memorystore.Store
	pings atomic.Int64
}

func (p *pinged) Capabilities() (owner any, names []string) { return p, []string{"Pinger"} }

func (p *pinged) Ping(ctx context.Context) error {
	p.pings.Add(1)
	return p.Store.Ping(ctx)
}

// A health check asks the store of a cache once, whether the cache is sealed or not.
func TestHealthPingsOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]fxmodule.Cache{"sealed": {KEK: sealtest.KEKFile(t)}, "unsealed": {Unsealed: true}} {
		backing := &pinged{Store: newMemory(t)}
		var health *fxmodule.Health
		start(t, decorated(one(c), backing, fx.Populate(&health)))
		require.NoError(t, health.Check(t.Context()))
		require.EqualValues(t, 2, backing.pings.Load(), "%s: at start and by Check", name)
	}
}

// The application has stores already: gocache's own and redisstore. It closes their clients itself.
func TestExistingApplicationOverRedis(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	for name, newStore := range map[string]func(t *testing.T, server *redistest.Server) store.StoreInterface{
		"gocache": func(t *testing.T, server *redistest.Server) store.StoreInterface {
			t.Helper()
			return gocacheredis.NewRedis(server.Client(t))
		},
		"redisstore": func(t *testing.T, server *redistest.Server) store.StoreInterface {
			t.Helper()
			s, err := redisstore.New(server.Client(t))
			require.NoError(t, err)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			monitor := server.Monitor(t)
			backing := newStore(t, server)
			type users struct{ cache *cache.Cache[string] }
			app := decorated(one(fxmodule.Cache{KEK: kek}), backing,
				fx.Provide(func(s store.StoreInterface) *users { return &users{cache.New[string](s)} }),
				fx.Invoke(func(lc fx.Lifecycle, u *users) {
					lc.Append(fx.StartHook(func(ctx context.Context) error { return u.cache.Set(ctx, "patient", canary) }))
				}))
			require.NoError(t, app.Start(t.Context()))
			require.NoError(t, app.Stop(context.Background()))
			requireNoPlaintext(t, server, monitor)
			_, err := backing.Get(t.Context(), "patient")
			require.NoError(t, err, "the application's client is still open")
		})
	}
}
