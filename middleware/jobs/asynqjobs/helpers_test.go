package asynqjobs_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(child(role))
	}
	goleak.VerifyTestMain(m)
}

// keysets writes an encryption keyset and a PRF keyset into a directory, to be shared with other processes.
func keysets(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	var b bytes.Buffer
	require.NoError(t, insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "aead.json"), b.Bytes(), 0o600))
	b.Reset()
	require.NoError(t, insecurecleartextkeyset.CreateKeyset(&b, prf.HMACSHA256PRFKeyTemplate()))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "prf.json"), b.Bytes(), 0o600))
	return dir
}

// openKeysets opens what keysets wrote.
func openKeysets(ctx context.Context, dir string) (*aead.Keyring, *prf.Set, error) {
	k, err := insecurecleartextkeyset.OpenKeyring(ctx, aead.FileSource(filepath.Join(dir, "aead.json")))
	if err != nil {
		return nil, nil, err
	}
	set, err := insecurecleartextkeyset.OpenPRF(ctx, aead.FileSource(filepath.Join(dir, "prf.json")))
	return k, set, err
}

func newKeyring(t testing.TB) *aead.Keyring { t.Helper(); return sealtest.Keyring(t) }

func newPRF(t testing.TB) *prf.Set { t.Helper(); return sealtest.PRF(t, 1) }

func newEncryptor(t testing.TB, a tink.AEADWithContext, opts ...jobs.Option) *jobs.Encryptor {
	t.Helper()
	return sealtest.Encryptor(t, a, opts...)
}

// bench is a Redis with what an application has around it.
type bench struct {
	srv       *redistest.Server
	conn      asynq.RedisConnOpt
	rdb       *redis.Client
	e         *jobs.Encryptor
	client    *asynqjobs.Client
	plain     *asynq.Client // of a process without keys
	inspector *asynq.Inspector
}

// connTo returns a connection to a Redis. Its timeouts are long, because a command that times out is sent again. Its second
// answer is another one: a task that is there already is a conflict.
func connTo(addr string) asynq.RedisClientOpt {
	return asynq.RedisClientOpt{Addr: addr, DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience}
}

// patient returns options of a client with the timeouts of connTo.
func patient(addr string) *redis.Options {
	return &redis.Options{Addr: addr, DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience}
}

// clientOf returns a client of a server with the timeouts of connTo. It is closed when the test ends.
func clientOf(t testing.TB, srv *redistest.Server) *redis.Client {
	t.Helper()
	o := srv.ClientOptions()
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = patience, patience, patience
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func newBench(t *testing.T, e *jobs.Encryptor, opts ...asynqjobs.Option) *bench {
	t.Helper()
	return benchOn(t, redistest.Start(t), e, opts...)
}

func benchOn(t *testing.T, srv *redistest.Server, e *jobs.Encryptor, opts ...asynqjobs.Option) *bench {
	t.Helper()
	if e == nil {
		e = newEncryptor(t, nil)
	}
	b := benchAt(t, connTo(srv.Addr()), e, opts...)
	b.srv, b.rdb = srv, clientOf(t, srv)
	return b
}

// benchAt is a bench without srv and rdb.
func benchAt(t *testing.T, conn asynq.RedisConnOpt, e *jobs.Encryptor, opts ...asynqjobs.Option) *bench {
	t.Helper()
	b := &bench{conn: conn, e: e}
	b.client = newClient(t, b.conn, e, opts...)
	b.plain = asynq.NewClient(b.conn)
	b.inspector = asynq.NewInspector(b.conn)
	t.Cleanup(func() {
		_ = b.plain.Close()
		_ = b.inspector.Close()
	})
	return b
}

func newClient(t testing.TB, conn asynq.RedisConnOpt, e *jobs.Encryptor, opts ...asynqjobs.Option) *asynqjobs.Client {
	t.Helper()
	c, err := asynqjobs.NewClient(asynq.NewClient(conn), e, append(opts, asynqjobs.WithLogger(quiet))...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// fast is a server that polls often and says nothing.
func fast(cfg asynq.Config) asynq.Config {
	cfg.TaskCheckInterval = 20 * time.Millisecond
	cfg.DelayedTaskCheckInterval = 100 * time.Millisecond
	cfg.GroupGracePeriod = time.Second
	cfg.JanitorInterval = time.Second
	cfg.LogLevel = asynq.FatalLevel
	cfg.ShutdownTimeout = patience // a task that is given up runs again
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 4
	}
	return cfg
}

// serve runs h, sealed, until the test ends or the returned function is called.
func serve(t testing.TB, conn asynq.RedisConnOpt, e *jobs.Encryptor, cfg asynq.Config, h asynq.Handler, opts ...asynqjobs.Option) (stop func()) {
	t.Helper()
	group := asynq.NewClient(conn)
	t.Cleanup(func() { _ = group.Close() })
	opts = append([]asynqjobs.Option{asynqjobs.WithGroupClient(group), asynqjobs.WithLogger(quiet)}, opts...)
	cfg, err := asynqjobs.Config(e, fast(cfg), opts...)
	require.NoError(t, err)
	sealed, err := asynqjobs.Handler(e, h, opts...)
	require.NoError(t, err)
	srv := asynq.NewServer(conn, cfg)
	require.NoError(t, srv.Start(sealed))
	var once sync.Once
	stop = func() { once.Do(srv.Shutdown) }
	t.Cleanup(stop)
	return stop
}

// eventually waits for what other processes do.
func eventually(t testing.TB, what string, within time.Duration, holds func() bool) {
	t.Helper()
	sealtest.Within(t, within, what, holds)
}

// patience is how long a busy machine may take.
const patience = time.Minute

// awaitState waits until the task is in the state.
func (b *bench) awaitState(t testing.TB, queue, id string, state asynq.TaskState) *asynq.TaskInfo {
	t.Helper()
	var info *asynq.TaskInfo
	eventually(t, "task "+state.String(), patience, func() bool {
		got, err := b.inspector.GetTaskInfo(queue, id)
		if err != nil {
			return false
		}
		info = got
		return info.State == state
	})
	return info
}

// recorder collects what handlers saw.
type recorder struct {
	mu   sync.Mutex
	seen []string
}

func (r *recorder) add(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, s)
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.seen...)
}

func (r *recorder) count(s string) int {
	n := 0
	for _, x := range r.all() {
		if x == s {
			n++
		}
	}
	return n
}

// never is a handler that must not be called.
func never(t testing.TB) asynq.Handler {
	t.Helper()
	return asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		t.Errorf("handler was given %s %q", task.Type(), task.Payload())
		return nil
	})
}
