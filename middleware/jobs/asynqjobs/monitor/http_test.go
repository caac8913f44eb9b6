package monitor_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

// admin may see names and act.
func admin() monitor.Option {
	return as(monitor.Viewer{Name: "adm", Access: monitor.AccessTypes, CanAct: true})
}

func TestNewChecksItsArguments(t *testing.T) {
	t.Parallel()
	e := newEncryptor(t, nil)
	conn := asynq.RedisClientOpt{Addr: "127.0.0.1:1"}
	_, err := monitor.New(nil, e)
	require.ErrorContains(t, err, "the Redis connection is nil")
	_, err = monitor.New(conn, nil)
	require.ErrorContains(t, err, "the encryptor is nil")
	_, err = monitor.New(strange{}, e)
	require.ErrorContains(t, err, "makes no redis.UniversalClient")
	for want, o := range map[string]monitor.Option{
		"option 1 of 1 is nil":        nil,
		"function is nil":             monitor.WithAuthorizer(nil),
		"WithAudit":                   monitor.WithAudit(nil),
		"WithFormatter":               monitor.WithFormatter(nil),
		"logger is nil":               monitor.WithLogger(nil),
		"needs the option WithAuthor": monitor.WithActions(),
		"WithTrustedOrigin":           monitor.WithTrustedOrigin("example.com"),
		"begins with a slash":         monitor.WithRootPath("admin"),
		"clean path":                  monitor.WithRootPath("/a/../b"),
		"\"\" is not a clean path":    monitor.WithRootPath(""),
		"is not allowed":              monitor.WithRootPath(`/"><script>`),
		`byte "\xc3" at position 1`:   monitor.WithRootPath("/é"),
	} {
		_, err := monitor.New(conn, e, o)
		require.ErrorContains(t, err, want)
	}
	h, err := monitor.New(conn, e)
	require.NoError(t, err, "no service is called")
	assert.Equal(t, `monitor.Handler(jobs.Encryptor(namespace "shop"))`, fmt.Sprintf("%v", h))
	assert.Equal(t, h.String(), fmt.Sprintf("%#v", h))
	assert.Equal(t, h.String(), h.LogValue().String())
	require.NoError(t, h.Close())
	require.NoError(t, h.Close(), "twice")
}

type strange struct{}

func (strange) MakeRedisClient() any { return 1 }

func TestPage(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	for root, under := range map[string]string{"/": "", "/admin/jobs": "/admin/jobs", "/x/": "/x"} {
		t.Run(root, func(t *testing.T) {
			t.Parallel()
			h := s.monitor(t, monitor.WithRootPath(root))
			assert.Equal(t, under, h.RootPath())
			mux := http.NewServeMux()
			mux.Handle(h.RootPath()+"/", h)
			first := ask(mux, http.MethodGet, under+"/", "")
			require.Equal(t, http.StatusOK, first.Code)
			html := first.Body.String()
			assert.Equal(t, "text/html; charset=utf-8", first.Header().Get("Content-Type"))
			assert.NotContains(t, html, "://", "another host")
			assert.Contains(t, html, `window.FLAG_ROOT_PATH="`+strings.ReplaceAll(under, "/", `\/`)+`"`)
			assert.Regexp(t, `window\.FLAG_READ_ONLY="?\s*true`, html)

			policy := first.Header().Get("Content-Security-Policy")
			assert.NotContains(t, policy, "unsafe")
			for _, script := range regexp.MustCompile(`(?s)<script>(.*?)</script>`).FindAllStringSubmatch(html, -1) {
				sum := sha256.Sum256([]byte(script[1]))
				assert.Contains(t, policy, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
			}
			nonce := regexp.MustCompile(`csp-nonce" content="([A-Z2-7]{26})"`).FindStringSubmatch(html)
			require.NotNil(t, nonce)
			assert.Contains(t, policy, "'nonce-"+nonce[1]+"'")
			assert.NotContains(t, ask(mux, http.MethodGet, under+"/", "").Body.String(), nonce[1], "a new one each time")

			for _, deep := range []string{"/queues/default", "/queues/default/tasks/report.json", "/queues/q/tasks/a.js"} {
				w := ask(mux, http.MethodGet, under+deep, "")
				assert.Equal(t, http.StatusOK, w.Code)
				assert.Contains(t, w.Body.String(), "csp-nonce", deep)
				assert.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
			}
			for _, asset := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(html, -1) {
				w := ask(mux, http.MethodGet, asset[1], "")
				assert.Equal(t, http.StatusOK, w.Code, asset[1])
				assert.NotContains(t, w.Header().Get("Content-Type"), "html", asset[1])
				assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
				assert.Positive(t, w.Body.Len())
				w = ask(mux, http.MethodHead, asset[1], "")
				assert.Zero(t, w.Body.Len())
			}
			_, doc := get(t, mux, under+"/api/queues")
			assert.Contains(t, doc, "queues")
			if under != "" {
				assert.Equal(t, http.StatusNotFound, ask(h, http.MethodGet, "/api/queues", "").Code)
				assert.Equal(t, http.StatusNotFound, ask(h, http.MethodGet, under+"s/api/queues", "").Code)
				assert.Equal(t, http.StatusOK, ask(h, http.MethodGet, under, "").Code)
			}
		})
	}
}

func TestEveryAnswerIsProtected(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	h := s.monitor(t, admin(), monitor.WithActions())
	for _, target := range []string{"/", "/static/js/none.js", "/api/queues", "/api/none", "/api/queues/none/tasks/none", "/favicon.ico"} {
		header := ask(h, http.MethodGet, target, "").Header()
		assert.Equal(t, "no-store", header.Get("Cache-Control"), target)
		assert.Contains(t, header.Get("Content-Security-Policy"), "default-src 'none'", target)
		assert.Contains(t, header.Get("Content-Security-Policy"), "frame-ancestors 'none'", target)
		assert.Equal(t, "nosniff", header.Get("X-Content-Type-Options"), target)
		assert.Equal(t, "no-referrer", header.Get("Referrer-Policy"), target)
		assert.Equal(t, "DENY", header.Get("X-Frame-Options"), target)
		assert.Equal(t, "same-origin", header.Get("Cross-Origin-Resource-Policy"), target)
		assert.Empty(t, header.Get("Etag")+header.Get("Last-Modified")+header.Get("Access-Control-Allow-Origin"), target)
	}
}

func TestUnknownPathsAreNotServed(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	s.enqueue(t, s.client, openType, "x")
	h := s.monitor(t, admin(), monitor.WithActions())
	for _, target := range []string{
		"/api", "/api/", "/api/metrics?duration_sec=60", "/api/queues/default/pending_tasks/", "/api/queues//pending_tasks",
		"/api/queues/default/unknown_tasks", "/api/queues/default/aggregating_tasks", "/api/queues/default/tasks/a/b",
		"/api/scheduler_entries/x", "/api/servers/x", "/x/../api/queues", "//api/queues", "/./api/queues", "/api/../api/queues",
		"/%2e%2e/api/queues", "/api/queues/default/pending_tasks%2F..",
	} {
		w := ask(h, http.MethodGet, target, "")
		assert.Equal(t, http.StatusNotFound, w.Code, target)
		assert.Equal(t, "not found", w.Body.String(), target)
	}
	for _, target := range []string{"/api/queues/default:explode", "/api/queues/default/pending_tasks:explode_all", "/api/queues/default/pending_tasks/id:explode",
		"/api/queues/default/pending_tasks/:run", "/api/queues/default/groups/g/pending_tasks:run_all", "/api/servers", "/api/queues/:pause"} {
		assert.Equal(t, http.StatusNotFound, ask(h, http.MethodPost, target, "").Code, target)
	}
	for _, method := range []string{http.MethodPost, http.MethodDelete, http.MethodPut} {
		assert.Equal(t, http.StatusMethodNotAllowed, ask(h, method, "/", "").Code)
	}
}

func TestOtherOriginsAreRefused(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	s.enqueue(t, s.client, openType, "x")
	called := false
	h := s.monitor(t, monitor.WithActions(), monitor.WithTrustedOrigin("https://trusted.example"),
		monitor.WithAuthorizer(func(*http.Request) monitor.Viewer {
			called = true
			return monitor.Viewer{Access: monitor.AccessPayloads, CanAct: true}
		}))
	const pause = "/api/queues/default:pause"
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"},
		{"Origin", "https://evil.example"}, {"Origin", "null"}, {"Origin", "http://example.com:81"},
	} {
		assert.Equal(t, http.StatusForbidden, ask(h, http.MethodPost, pause, "", headers...).Code, headers)
		assert.Equal(t, http.StatusForbidden, ask(h, http.MethodDelete, "/api/queues/default", "", headers...).Code, headers)
	}
	assert.Equal(t, http.StatusForbidden, ask(h, http.MethodGet, "/api/queues", "", "Sec-Fetch-Site", "cross-site").Code)
	assert.Equal(t, http.StatusForbidden, ask(h, http.MethodGet, "/api/queues", "", "Sec-Fetch-Site", "same-site").Code)
	assert.False(t, called, "refused before the authorizer is asked")
	info, err := s.inspector.GetQueueInfo("default")
	require.NoError(t, err)
	assert.False(t, info.Paused)

	assert.Equal(t, http.StatusOK, ask(h, http.MethodGet, "/", "", "Sec-Fetch-Site", "cross-site").Code, "a link to the page")
	assert.Equal(t, http.StatusOK, ask(h, http.MethodGet, "/api/queues", "", "Sec-Fetch-Site", "same-origin").Code)
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "same-origin"}, {"Origin", "http://example.com"}, {"Origin", "https://trusted.example"}, nil,
	} {
		assert.Equal(t, http.StatusNoContent, ask(h, http.MethodPost, pause, "", headers...).Code, headers)
		require.NoError(t, s.inspector.UnpauseQueue("default"))
	}
}

func TestFailuresTellNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	var log sealtest.Logs
	h := s.monitor(t, admin(), monitor.WithActions(), monitor.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	w := ask(h, http.MethodGet, "/api/queues/nowhere/tasks/nothing", "")
	assert.Equal(t, http.StatusNotFound, w.Code)
	assert.Equal(t, "not found", w.Body.String())
	require.NoError(t, s.srv.Stop())
	for _, target := range []string{"/api/queues", "/api/queues/default/tasks/x", "/api/scheduler_entries", "/api/redis_info"} {
		w := ask(h, http.MethodGet, target, "")
		assert.Equal(t, http.StatusInternalServerError, w.Code, target)
		assert.Equal(t, "failed (see the application's log)", w.Body.String())
	}
	assert.Equal(t, http.StatusOK, ask(h, http.MethodGet, "/", "").Code, "the page itself")
	assert.Contains(t, log.String(), "connection refused", "the log says why")
}

func TestClosed(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	h := s.monitor(t)
	get(t, h, "/api/queues")
	require.NoError(t, h.Close())
	assert.Equal(t, http.StatusInternalServerError, ask(h, http.MethodGet, "/api/queues", "").Code)
}

// sharedClient is a connection whose client belongs to the application.
type sharedClient struct{ client redis.UniversalClient }

func (h sharedClient) MakeRedisClient() any { return h.client }

func TestSharedConnectionIsNotClosed(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	for _, shared := range []bool{true, false} {
		rdb := redis.NewClient(&redis.Options{Addr: s.srv.Addr()})
		opts := []monitor.Option{monitor.WithLogger(quiet)}
		if shared {
			opts = append(opts, monitor.WithSharedConnection())
		}
		h, err := monitor.New(sharedClient{rdb}, s.e, opts...)
		require.NoError(t, err)
		get(t, h, "/api/queues")
		require.NoError(t, h.Close())
		if !shared {
			require.ErrorIs(t, rdb.Ping(t.Context()).Err(), redis.ErrClosed)
			continue
		}
		require.NoError(t, rdb.Ping(t.Context()).Err())
		get(t, h, "/api/queues")
		require.NoError(t, h.Close(), "again")
		require.NoError(t, rdb.Close())
	}
}

func TestCanceledRequestWaitsForNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	started, release := make(chan struct{}, 8), make(chan struct{})
	h := s.monitor(t, as(monitor.Viewer{Access: monitor.AccessPayloads, CanView: func(monitor.Task) bool {
		started <- struct{}{}
		<-release
		return true
	}}))
	target := "/api/queues/default/tasks/" + s.enqueue(t, s.client, openType, "x").ID
	done := make(chan struct{})
	for range 4 {
		go func() {
			ask(h, http.MethodGet, target, "")
			done <- struct{}{}
		}()
	}
	for range 4 {
		<-started
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil).WithContext(ctx))
	assert.Equal(t, http.StatusServiceUnavailable, w.Code, "four are under way")
	close(release)
	for range 4 {
		<-done
	}
}

// The value of a panic in the error of the audit function is not logged.
func TestAuditErrorThatPanics(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	var log bytes.Buffer
	h := s.monitor(t, as(monitor.Viewer{Access: monitor.AccessPayloads}), monitor.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))),
		monitor.WithAudit(func(context.Context, monitor.Record) error { return sealtest.PanickingError{} }))
	target := "/api/queues/default/tasks/" + s.enqueue(t, s.client, openType, "x").ID
	assert.Equal(t, http.StatusInternalServerError, ask(h, http.MethodGet, target, "").Code)
	assert.Contains(t, log.String(), "the audit function failed")
	assert.NotContains(t, log.String(), sealtest.PanicSecret)
}

// An audit that hangs does not block other viewers, and its context ends.
func TestSlowAuditBlocksNoOtherViewer(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	started, release := make(chan time.Duration, 8), make(chan struct{})
	h := s.monitor(t, as(monitor.Viewer{Access: monitor.AccessPayloads}), monitor.WithAudit(func(ctx context.Context, _ monitor.Record) error {
		deadline, ok := ctx.Deadline()
		if !ok {
			deadline = time.Now().Add(time.Hour)
		}
		started <- time.Until(deadline)
		<-release
		return errors.New("too late")
	}))
	target := "/api/queues/default/tasks/" + s.enqueue(t, s.client, openType, "x").ID
	codes := make(chan int)
	for range 8 {
		go func() { codes <- ask(h, http.MethodGet, target, "").Code }()
	}
	for range 8 { // more than the page opens at a time
		select {
		case left := <-started:
			assert.LessOrEqual(t, left, 10*time.Second)
		case <-time.After(patience):
			t.Error("an audit waits for another")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/queues", nil).WithContext(ctx))
	assert.Equal(t, http.StatusOK, w.Code)
	close(release)
	for range 8 {
		assert.Equal(t, http.StatusInternalServerError, <-codes)
	}
}
