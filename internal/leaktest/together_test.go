package leaktest_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/leaktest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/reporttest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// application is a program that uses every feature on one Redis, and a record of all that it must not show.
type application struct {
	*leaktest.Set
	*reporttest.Reports
	server *redistest.Server

	mu      sync.Mutex
	planted map[string]string // all secrets, by name
}

func newApplication(server *redistest.Server) *application {
	return &application{Set: new(leaktest.Set), Reports: reporttest.New(), server: server, planted: map[string]string{}}
}

// text plants a text.
func (a *application) text(name string) string {
	text := a.Text(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.planted[name] = text
	return text
}

// number plants a number.
func (a *application) number(name string) int64 {
	n := a.Int(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.planted[name] = strconv.FormatInt(n, 10)
	return n
}

// issued adds a secret that the application has made itself.
func (a *application) issued(t *testing.T, name, token string) {
	t.Helper()
	a.AddText(name, token)
	a.mu.Lock()
	a.planted[name] = token
	a.mu.Unlock()
	raw, err := base64.RawURLEncoding.DecodeString(token)
	require.NoError(t, err)
	a.AddText(name+" in bytes", string(raw))
}

// reporting returns options of a cache that reports everything that it can.
func (a *application) reporting(opts ...middleware.Option) []middleware.Option {
	return append([]middleware.Option{
		middleware.WithLogger(a.Logger), middleware.WithMeterProvider(a.Meters), middleware.WithTracerProvider(a.Tracers),
	}, opts...)
}

func (a *application) open(t *testing.T, options string) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(t.Context(), a.server.URL()+options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// The search of everything that redis-server wrote and showed, and of everything that the program reported, finds no value,
// key, tag, token, user or job. Then all of them are planted as plaintext, and the same search finds each.
func TestAllFeaturesTogetherShowNothing(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{AppendOnly: true, Args: []string{
		"--appendfsync", "no", "--loglevel", "debug", "--slowlog-log-slower-than", "0", "--slowlog-max-len", "100000",
	}})
	monitor := server.Monitor(t)
	a := newApplication(server)
	var tenants leaktest.Set // a log names tenants, Redis must not
	tenant := tenants.Text("tenant")
	tenantKEK := sealtest.Keyring(t)
	keys := sealtest.Envelope(t, aead.WithLogger(a.Logger), aead.WithMaxMessages(200),
		aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) { return tenantKEK, nil }))
	tenantKeys, err := keys.Tenant(tenant)
	require.NoError(t, err)

	near := a.open(t, "?near_cache=4MiB&near_cache_max_staleness=5s")
	combined := a.open(t, "?pool_size=4&pool_timeout=30s")
	caches := []cache{
		{"hidden", near, keys, middleware.WithHiddenKeys(sealtest.PRF(t, 2)), middleware.WithCompression(0)},
		{"one-way", combined, keys, middleware.WithOneWayKeys(sealtest.PRF(t, 2)), middleware.WithFastCompression(0)},
		{"tenant", combined, tenantKeys, middleware.WithHiddenKeys(sealtest.PRF(t, 1)), middleware.WithFastCompression(0)},
	}
	for _, c := range caches {
		a.useCache(t, c)
	}
	require.Positive(t, near.Stats().NearHits, "the near cache was in use")
	require.Positive(t, combined.Stats().Batches, "commands were combined")
	a.useSessions(t, combined, keys)
	a.useJobs(t, keys)

	written := a.written(t, monitor)
	for place, b := range written {
		require.NotEmpty(t, b, place)
		require.Empty(t, append(a.Find(b), tenants.Find(b)...), "in %s", place)
	}
	for place, b := range a.Places(t) {
		require.NotEmpty(t, b, place)
		for line := range bytes.Lines(b) {
			require.Empty(t, a.Find(line), "in %s: %s", place, line)
		}
	}
	// The run used each kind of command.
	sent := bytes.ToLower(written["MONITOR"])
	for _, command := range []string{
		`"hidden:`, `"one-way:`, `"tenant:`, `"sessions:`, `"evalsha"`, `"getrange"`, `"scan"`, `"del"`, `"smembers"`, `"pexpire"`,
		"asynq:{default}:unique:", "asynq:{default}:g:", "asynq:{default}:archived", "{sealcache:jobs:}:schedules",
	} {
		require.True(t, bytes.Contains(sent, []byte(command)), command)
	}

	names := a.plantAll(t)
	written = a.written(t, monitor)
	for place, b := range map[string][]byte{"MONITOR": written["MONITOR"], "RDB": written["dump.rdb"], "AOF": aof(written)} {
		require.Subset(t, a.Find(b), names, place)
	}
}

// plantAll writes each secret as plaintext, as a value, a key or the member of a set, and returns their names.
func (a *application) plantAll(t *testing.T) (names []string) {
	t.Helper()
	rdb := a.server.Client(t)
	a.mu.Lock()
	defer a.mu.Unlock()
	names = slices.Sorted(maps.Keys(a.planted))
	for i, name := range names {
		secret := a.planted[name]
		var err error
		switch i % 3 {
		case 0:
			err = rdb.Set(t.Context(), fmt.Sprint("control", i), secret, time.Hour).Err()
		case 1:
			err = rdb.Set(t.Context(), secret, "", time.Hour).Err()
		default:
			err = rdb.SAdd(t.Context(), "control", secret).Err()
		}
		require.NoError(t, err)
	}
	return names
}

// written returns everything that the server wrote and showed, by its place.
func (a *application) written(t *testing.T, monitor *redistest.Monitor) map[string][]byte {
	t.Helper()
	found := map[string][]byte{"MONITOR": monitor.Bytes(t)}
	slow, err := a.server.Client(t).SlowLogGet(t.Context(), -1).Result()
	require.NoError(t, err)
	found["SLOWLOG"], err = json.Marshal(slow)
	require.NoError(t, err)
	a.server.DumpFiles(t) // makes the server write its dump
	require.NoError(t, filepath.WalkDir(a.server.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		found[strings.TrimPrefix(path, a.server.Dir()+"/")] = b
		return err
	}))
	require.Contains(t, found, "dump.rdb")
	require.Contains(t, found, "redis.log")
	require.NotEmpty(t, aof(found))
	return found
}

// aof joins the parts of the append-only file.
func aof(found map[string][]byte) []byte {
	var parts [][]byte
	for name, b := range found {
		if strings.HasPrefix(name, "appendonlydir/") {
			parts = append(parts, b)
		}
	}
	return bytes.Join(parts, []byte("\n"))
}
