package fxmodule

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/fx"
	"golang.org/x/time/rate"

	"github.com/sealcache/sealcache/fxmodule/internal/early"
	"github.com/sealcache/sealcache/middleware"
)

// HealthTimeout bounds a readiness request, since its client rarely sets a deadline.
const HealthTimeout = 5 * time.Second

// Health checks all caches, and the Redis of the jobs with fxjobs.Module, for a readiness endpoint:
// http.Handle("/readyz", health). It is safe for concurrent use.
//
// Do not use it for a liveness endpoint: a restart does not repair an unreachable Redis.
type Health struct {
	system *system
	jobs   JobsCheck
	mu     sync.Mutex
	lines  map[logLine]*rate.Sometimes
}

// logLine is what a log line of Health is about. An empty cache stands for the jobs.
type logLine struct {
	cache string
	part  Part
}

// logInterval is the interval at which a failure that each request finds again is logged. The endpoint may be public.
const logInterval = time.Minute

// JobsCheck checks the Redis of the jobs. Package fxjobs provides it to Health.
type JobsCheck func(context.Context) error

type healthInputs struct {
	fx.In

	Opened opened
	Jobs   JobsCheck `optional:"true"`
}

func newHealth(in healthInputs) *Health {
	return &Health{system: in.Opened.system, jobs: in.Jobs, lines: make(map[logLine]*rate.Sometimes)}
}

// Check returns nil if the keys of each cache seal and open a random value, and no keyset was replaced by an unrelated
// one. Every store and the Redis of the jobs must also answer. Otherwise it joins a *CacheError for each failed cache
// and a *JobsError.
func (h *Health) Check(ctx context.Context) error {
	failed, err := h.check(ctx)
	errs := []error{err}
	for _, f := range failed {
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

func (h *Health) check(ctx context.Context) (failed []*CacheError, jobs error) {
	answer := make(chan error, 1)
	go func() {
		if h.jobs == nil {
			answer <- nil
			return
		}
		answer <- h.jobs(ctx)
	}()
	return h.system.failures(ctx), <-answer
}

// Report is the body of an answer of Health. It names caches and parts but no reasons, because errors may name hosts.
type Report struct {
	Status string          `json:"status"`         // "ok" or "failing"
	Caches map[string]Part `json:"caches"`         // by name: PartNone, or the part that fails
	Jobs   Part            `json:"jobs,omitempty"` // with fxjobs.Module
	// KeysDiffer names the caches whose key check this process cannot open, or whose store refuses to read or write the
	// key check. Such a cache works, but other processes may use other keys: see middleware.Store.KeysDiffer. It does not
	// change the status.
	KeysDiffer []string `json:"keys_differ,omitempty"`
}

// ServeHTTP answers 200 if Check succeeds within HealthTimeout, and 503 otherwise. The body is a Report:
//
//	{"status":"failing","caches":{"default":"ok","sessions":"store"},"jobs":"ok"}
//
// The reasons are logged, the same part of a cache once a minute.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this address answers only GET and HEAD requests", http.StatusMethodNotAllowed)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), HealthTimeout)
	defer cancel()
	body := Report{Status: "ok", Caches: make(map[string]Part)}
	for _, name := range h.system.caches.names {
		body.Caches[name] = PartNone
	}
	if h.jobs != nil {
		body.Jobs = PartNone
	}
	status := http.StatusOK
	failed, err := h.check(ctx)
	for _, f := range failed {
		status, body.Status = http.StatusServiceUnavailable, "failing"
		body.Caches[f.Cache] = f.Part
		h.log(logLine{f.Cache, f.Part}, func() {
			h.system.log.WarnContext(ctx, "sealcache: health check: the keys or the store of a cache failed", "cache", f.Cache, "part", string(f.Part), "error", f.Err)
		})
	}
	if err != nil {
		status, body.Status, body.Jobs = http.StatusServiceUnavailable, "failing", PartStore
		h.log(logLine{"", PartStore}, func() {
			h.system.log.WarnContext(ctx, "sealcache: health check: the Redis of the jobs failed", "part", string(PartStore), "error", err)
		})
	}
	for _, name := range h.system.caches.names {
		if s := h.system.caches.sealed[name]; s != nil && s.KeysDiffer() != nil {
			body.KeysDiffer = append(body.KeysDiffer, name)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone
}

// log calls write unless a line about the same was written within logInterval.
func (h *Health) log(line logLine, write func()) {
	h.mu.Lock()
	if h.lines[line] == nil {
		h.lines[line] = &rate.Sometimes{Interval: logInterval}
	}
	sometimes := h.lines[line]
	h.mu.Unlock()
	sometimes.Do(write)
}

// check joins the failures of caches.
func (s *system) check(ctx context.Context) error {
	var errs []error
	for _, f := range s.failures(ctx) {
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

// failures checks all caches at once, so that one that hangs does not hide the others. A check that heeds its deadline has the
// time to say which part failed. After that, only a store that ignores its context can still run.
func (s *system) failures(ctx context.Context) []*CacheError {
	found := make([]*CacheError, len(s.caches.names))
	checking, cancel := early.WithDeadline(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for i, name := range s.caches.names {
		wg.Go(func() {
			if err := early.Wait(ctx, func() error { return s.failure(checking, name) }); err != nil && !errors.As(err, &found[i]) {
				found[i] = &CacheError{name, PartStore, err}
			}
		})
	}
	wg.Wait()
	return slices.DeleteFunc(found, func(e *CacheError) bool { return e == nil })
}

func (s *system) failure(ctx context.Context, name string) error {
	if c := s.in.Config.Caches[name]; c.Unsealed {
		if err := middleware.Ping(ctx, s.backing[name], c.Namespace); err != nil {
			return &CacheError{name, PartStore, err}
		}
		return nil
	}
	if err := s.keys.check(name); err != nil {
		return &CacheError{name, PartKeys, err}
	}
	if err := s.caches.sealed[name].Check(ctx); err != nil {
		return &CacheError{name, partOf(err), err}
	}
	return nil
}
