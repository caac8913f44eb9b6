package monitor

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/middleware/internal/telemetry"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

const (
	// maxOpenBytes bounds the stored size of what is opened for the page.
	maxOpenBytes = 4 << 20
	// listBytes bounds each field of a task in a list.
	listBytes = 4 << 10
	// maxPageSize bounds a page of a list.
	maxPageSize = 100
	// maxPage bounds the number of a page.
	maxPage = 1 << 20
	// maxOpenTasks bounds the tasks that are opened for one answer. A list of servers may
	// hold more tasks than a page.
	maxOpenTasks = 500
	// maxAnswerBytes bounds what asynqmon may answer.
	maxAnswerBytes = 16 << 20
	// maxBodyBytes bounds a request's body, as asynqmon does.
	maxBodyBytes = 1 << 20
	// maxOpening bounds the requests that open tasks at a time, and thus their memory.
	maxOpening = 4
	// openTimeout bounds the time of one of these requests.
	openTimeout = 10 * time.Second
)

// Handler is the admin page, an http.Handler. It is safe for concurrent use.
//
// A banner of the page shows the user's name and access. The page in the browser reloads its data every few seconds. Each
// reload that shows payloads makes a Record.
//
// # Limits
//
//   - A list shows at most 100 tasks per page, and 4 KiB of each field. The page of one task shows 64 KiB of each
//     field.
//   - The page does not decrypt tasks of more than 4 MiB. asynq still reads each task of a list completely into memory.
//   - At most 4 requests decrypt tasks at the same time, each for at most 10 seconds. Further requests wait.
//   - The page decrypts a schedule at most once per minute. If a request ends before a schedule is decrypted, the list
//     omits the schedule and shows a note.
//   - A task has no separate page if its queue, group or id contains a slash. This is a limit of asynqmon.
type Handler struct {
	e         *jobs.Encryptor
	cfg       *config
	client    redis.UniversalClient
	inspector *asynq.Inspector
	scheduler *asynqjobs.Scheduler // nil without jobs.WithPRF
	reading   *page
	acting    *page // nil without WithActions
	opening   chan struct{}
	complain  telemetry.Limiter

	closing  sync.Once
	closeErr error
}

// New returns the admin page for the Redis of conn. Its jobs were sealed with e, or with
// encryptors of the same keys and namespace. New does not call Redis or the key service.
// It takes one client from conn. Close closes the client, except with
// WithSharedConnection. e is not closed.
func New(conn asynq.RedisConnOpt, e *jobs.Encryptor, opts ...Option) (*Handler, error) {
	if nilcheck.IsNil(conn) {
		return nil, errors.New("monitor: New: the Redis connection is nil")
	}
	if e == nil {
		return nil, errors.New("monitor: New: the encryptor is nil (make one with jobs.NewEncryptor)")
	}
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("monitor: New: %w", err)
	}
	client, ok := conn.MakeRedisClient().(redis.UniversalClient)
	if !ok || nilcheck.IsNil(client) {
		return nil, fmt.Errorf("monitor: New: the asynq.RedisConnOpt %T makes no redis.UniversalClient (use asynq.RedisClientOpt)", conn)
	}
	client.AddHook(withoutMemory{})
	h := &Handler{
		e: e, cfg: cfg, client: client, inspector: asynq.NewInspectorFromRedisClient(client),
		opening: make(chan struct{}, maxOpening), complain: telemetry.NewLimiter(),
	}
	if err := h.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("monitor: New: %w", err), h.Close())
	}
	return h, nil
}

func (h *Handler) build() error {
	if h.e.Tokens() != nil {
		c, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(h.client), h.e, asynqjobs.WithLogger(h.cfg.logger))
		if err != nil {
			return err
		}
		if h.scheduler, err = asynqjobs.NewScheduler(h.client, c); err != nil {
			return err
		}
	}
	var err error
	if h.reading, err = newPage(h.cfg.root, h.asynqmon(true)); err != nil {
		return err
	}
	if h.cfg.actions {
		h.acting, err = newPage(h.cfg.root, h.asynqmon(false))
	}
	return err
}

// asynqmon returns asynqmon's handler over the one client. It shows only whether there
// are payloads and results. So no mistake in later steps can show them to a user for
// whom they were not opened.
func (h *Handler) asynqmon(readOnly bool) http.Handler {
	hide := func(_ string, b []byte) string {
		if len(b) == 0 {
			return ""
		}
		return withheld
	}
	return asynqmon.New(asynqmon.Options{
		RootPath:         h.cfg.root,
		RedisConnOpt:     shared{h.client},
		PayloadFormatter: asynqmon.PayloadFormatterFunc(hide),
		ResultFormatter:  asynqmon.ResultFormatterFunc(hide),
		ReadOnly:         readOnly,
	})
}

// shared gives asynqmon the client that exists already.
type shared struct{ client redis.UniversalClient }

func (s shared) MakeRedisClient() any { return s.client }

// RootPath returns the path where the page expects to be mounted, without a slash at its
// end. It is empty for "/".
func (h *Handler) RootPath() string { return h.cfg.root }

// Close closes the connections to Redis. Requests that are being served fail. With
// WithSharedConnection it does nothing.
func (h *Handler) Close() error {
	if h.cfg.shared {
		return nil
	}
	h.closing.Do(func() { h.closeErr = h.client.Close() })
	return h.closeErr
}

// ServeHTTP serves the page, its data and its actions.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	rel, ok := h.relative(r.URL.Path)
	if !ok {
		fail(w, http.StatusNotFound)
		return
	}
	data := rel == "/api" || strings.HasPrefix(rel, "/api/")
	if !h.sameOrigin(r, data) {
		if h.complain.Allow() {
			h.cfg.logger.WarnContext(r.Context(), "sealcache: job monitor: refused a request from another origin", "method", r.Method)
		}
		fail(w, http.StatusForbidden)
		return
	}
	viewer := Viewer{Access: AccessCounts}
	if h.cfg.authorize != nil {
		viewer = h.cfg.authorize(r)
	}
	switch {
	case viewer.access() == NoAccess:
		fail(w, http.StatusForbidden)
	case data:
		h.serveData(w, r, strings.TrimPrefix(rel, "/api/"), &viewer)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		fail(w, http.StatusMethodNotAllowed)
	case h.acting != nil && viewer.CanAct:
		h.acting.serve(w, r, rel, &viewer)
	default:
		h.reading.serve(w, r, rel, &viewer)
	}
}

// relative returns the path below the root. It does not accept paths that a router would
// clean: the path that is checked here must be the path that asynqmon sees.
func (h *Handler) relative(p string) (string, bool) {
	rel, ok := strings.CutPrefix(p, h.cfg.root)
	if !ok {
		return "", false
	}
	if rel == "" {
		return "/", true
	}
	if clean := path.Clean(rel); rel[0] != '/' || rel != clean && rel != clean+"/" {
		return "", false
	}
	return rel, true
}

// sameOrigin reports whether r is allowed from its origin. A request that changes something must
// not come from another origin. A request for data is refused if the browser says that it comes
// from another origin (https://www.w3.org/TR/fetch-metadata/). Links to the page may come from
// anywhere.
func (h *Handler) sameOrigin(r *http.Request, data bool) bool {
	if h.cfg.origins.Check(r) != nil {
		return false
	}
	if !data || r.Method != http.MethodGet {
		return true
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return true
	default:
		return false
	}
}

// protect sets the headers of every answer.
func protect(header http.Header) {
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
}

// fail answers with a status, and with a text that shows no cause.
func fail(w http.ResponseWriter, status int) {
	text := strings.ToLower(http.StatusText(status))
	if status == http.StatusInternalServerError {
		text = "failed (see the application's log)"
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // a failed write has no reader
}

// String describes the Handler without its keys.
func (h *Handler) String() string { return "monitor.Handler(" + h.e.String() + ")" }

// GoString returns String.
func (h *Handler) GoString() string { return h.String() }

// LogValue returns String.
func (h *Handler) LogValue() slog.Value { return slog.StringValue(h.String()) }
