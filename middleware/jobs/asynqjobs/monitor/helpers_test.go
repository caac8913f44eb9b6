package monitor_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

func TestMain(m *testing.M) {
	// A pool whose server has stopped looks once a second whether it was closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

var quiet = slog.New(slog.DiscardHandler)

func newKeyring(t testing.TB) *aead.Keyring { t.Helper(); return sealtest.Keyring(t) }

func newEncryptor(t testing.TB, a tink.AEADWithContext) *jobs.Encryptor {
	t.Helper()
	return sealtest.Encryptor(t, a, jobs.WithNamespace("shop"))
}

func plainEncryptor(t testing.TB) *jobs.Encryptor {
	t.Helper()
	e, err := jobs.NewEncryptor(newKeyring(t), jobs.WithLogger(quiet))
	require.NoError(t, err)
	return e
}

// These canaries are planted, each in one kind of place.
const (
	argument     = "canary-argument"
	result       = "canary-result"
	failed       = "canary-failure"
	panicked     = "canary-panic"
	hiddenType   = "canary:hidden"
	openType     = "report:open"
	schedule     = "canary-schedule"
	unsealedText = "canary-plaintext"
)

var contents = []string{argument, result, failed, panicked, unsealedText}

// shop is a Redis with jobs in every state, and the parts of an application around it.
type shop struct {
	srv       *redistest.Server
	conn      asynq.RedisConnOpt
	e         *jobs.Encryptor
	client    *asynqjobs.Client // with open type names
	hidden    *asynqjobs.Client // with hidden type names
	plain     *asynq.Client     // without keys
	inspector *asynq.Inspector
	scheduler *asynqjobs.Scheduler
}

func newShop(t testing.TB, e *jobs.Encryptor) *shop {
	t.Helper()
	srv := redistest.Start(t)
	s := shopOn(t, connTo(srv), e)
	s.srv = srv
	var err error
	s.scheduler, err = asynqjobs.NewScheduler(srv.Client(t), s.client)
	require.NoError(t, err)
	return s
}

// connTo returns a connection that does not send a command again because the machine is busy.
func connTo(srv *redistest.Server) asynq.RedisClientOpt {
	return asynq.RedisClientOpt{Addr: srv.Addr(), ReadTimeout: patience, WriteTimeout: patience}
}

func shopOn(t testing.TB, conn asynq.RedisConnOpt, e *jobs.Encryptor) *shop {
	t.Helper()
	if e == nil {
		e = newEncryptor(t, nil)
	}
	s := &shop{conn: conn, e: e, plain: asynq.NewClient(conn), inspector: asynq.NewInspector(conn)}
	var err error
	s.client, err = asynqjobs.NewClient(asynq.NewClient(conn), e, asynqjobs.WithLogger(quiet))
	require.NoError(t, err)
	s.hidden, err = asynqjobs.NewClient(asynq.NewClient(conn), e, asynqjobs.WithLogger(quiet), asynqjobs.WithHiddenTypes())
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = s.client.Close()
		_ = s.hidden.Close()
		_ = s.plain.Close()
		_ = s.inspector.Close()
	})
	return s
}

func (s *shop) enqueue(t testing.TB, c *asynqjobs.Client, typename, what string, opts ...asynq.Option) *asynq.TaskInfo {
	t.Helper()
	info, err := c.Enqueue(asynq.NewTask(typename, []byte(`{"note":"`+argument+` `+what+`"}`)), opts...)
	require.NoError(t, err)
	return info
}

// serve runs a worker of the default queue until the test ends.
func (s *shop) serve(t testing.TB, h asynq.HandlerFunc) {
	t.Helper()
	cfg, err := asynqjobs.Config(s.e, asynq.Config{
		Concurrency: 4, TaskCheckInterval: 20 * time.Millisecond, DelayedTaskCheckInterval: 100 * time.Millisecond,
		LogLevel: asynq.FatalLevel, ShutdownTimeout: patience, HealthCheckInterval: time.Hour,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
	}, asynqjobs.WithLogger(quiet))
	require.NoError(t, err)
	sealed, err := asynqjobs.Handler(s.e, h, asynqjobs.WithLogger(quiet))
	require.NoError(t, err)
	srv := asynq.NewServer(s.conn, cfg)
	require.NoError(t, srv.Start(sealed))
	t.Cleanup(srv.Shutdown)
}

// fill brings tasks into every state. Its worker runs until the test ends, with one active task. It returns the ids of
// the tasks.
func (s *shop) fill(t testing.TB) map[string]string {
	t.Helper()
	release := make(chan struct{})
	ids := map[string]string{}
	add := func(name string, info *asynq.TaskInfo) { ids[name] = info.ID }
	add("completed", s.enqueue(t, s.hidden, hiddenType, "complete", asynq.Retention(time.Hour)))
	add("retry", s.enqueue(t, s.hidden, hiddenType, "fail", asynq.MaxRetry(5)))
	add("archived", s.enqueue(t, s.client, openType, "panic", asynq.MaxRetry(0)))
	add("active", s.enqueue(t, s.hidden, hiddenType, "block", asynq.Timeout(time.Hour)))
	add("scheduled", s.enqueue(t, s.client, openType, "later", asynq.ProcessIn(time.Hour)))
	add("unique", s.enqueue(t, s.hidden, hiddenType, "unique", asynq.Unique(time.Hour), asynq.ProcessIn(time.Hour)))
	add("pending", s.enqueue(t, s.hidden, hiddenType, "pend", asynq.Queue("idle")))
	add("aggregating", s.enqueue(t, s.hidden, hiddenType, "gather", asynq.Queue("idle"), asynq.Group("batch")))
	info, err := s.plain.Enqueue(asynq.NewTask(openType, []byte(unsealedText)), asynq.Queue("idle"))
	require.NoError(t, err)
	add("plaintext", info)
	s.serveUntil(t, release)
	t.Cleanup(func() { close(release) }) // runs before the server is shut down
	for name, state := range map[string]asynq.TaskState{
		"completed": asynq.TaskStateCompleted, "retry": asynq.TaskStateRetry,
		"archived": asynq.TaskStateArchived, "active": asynq.TaskStateActive,
	} {
		eventually(t, name, func() bool {
			info, err := s.inspector.GetTaskInfo("default", ids[name])
			return err == nil && info.State == state
		})
	}
	eventually(t, "heartbeat", func() bool { // every five seconds
		servers, err := s.inspector.Servers()
		return err == nil && len(servers) == 1 && len(servers[0].ActiveWorkers) == 1
	})
	return ids
}

// serveUntil runs a worker whose "block" tasks end with release.
func (s *shop) serveUntil(t testing.TB, release <-chan struct{}) {
	t.Helper()
	s.serve(t, func(ctx context.Context, task *asynq.Task) error {
		switch p := string(task.Payload()); {
		case strings.Contains(p, "complete"):
			return asynqjobs.WriteResult(ctx, []byte(result))
		case strings.Contains(p, "fail"):
			return errors.New(failed)
		case strings.Contains(p, "panic"):
			panic(panicked)
		case strings.Contains(p, "block"):
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return nil
	})
}

// patience is how long a busy machine may take.
const patience = time.Minute

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	sealtest.Within(t, patience, what, holds)
}

// as makes every viewer v.
func as(v monitor.Viewer) monitor.Option {
	return monitor.WithAuthorizer(func(*http.Request) monitor.Viewer { return v })
}

func (s *shop) monitor(t testing.TB, opts ...monitor.Option) *monitor.Handler {
	t.Helper()
	h, err := monitor.New(s.conn, s.e, append([]monitor.Option{monitor.WithLogger(quiet)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// ask sends a request with headers in pairs.
func ask(h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// get returns the answer to a request for data, as text and as JSON.
func get(t testing.TB, h http.Handler, target string) (string, map[string]any) {
	t.Helper()
	w := ask(h, http.MethodGet, target, "")
	require.Equal(t, http.StatusOK, w.Code, "%s: %s", target, w.Body)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	text := w.Body.String()
	var doc map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &doc))
	return text, doc
}

// find returns the object of list that has id under key.
func find(t testing.TB, list any, key, id string) map[string]any {
	t.Helper()
	items, ok := list.([]any)
	require.True(t, ok, "%T is not a list", list)
	for _, it := range items {
		if m, ok := it.(map[string]any); ok && m[key] == id {
			return m
		}
	}
	require.Fail(t, "not in the list", "%s in %v", id, list)
	return nil
}

// records keeps the records that the audit gets.
type records struct {
	mu  sync.Mutex
	all []monitor.Record
	err error
}

func (r *records) audit(_ context.Context, rec monitor.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, rec)
	return r.err
}

func (r *records) take() []monitor.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}
