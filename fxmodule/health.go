package fxmodule

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// healthTimeout bounds a readiness request, whose client seldom sets a deadline: what takes longer is not ready.
const healthTimeout = 5 * time.Second

// Health checks all caches, and the Redis of the jobs if the application uses it, for a readiness endpoint:
// http.Handle("/readyz", health). It is safe for concurrent use.
//
// It is not for a liveness endpoint: to restart a service does not mend the Redis that it cannot reach.
type Health struct{ system *system }

// Check returns nil if, for each cache, the keys seal and open a random value, which sealed is another, and the store
// answers, and the Redis of the jobs answers. Otherwise it joins a *CacheError for each cache that fails and a *JobsError.
// It writes nothing to the stores, and asks key services only as far as sealing any value does.
func (h *Health) Check(ctx context.Context) error {
	queue := h.system.askQueue(ctx)
	err := h.system.check(ctx)
	if failed := <-queue; failed != nil {
		err = errors.Join(err, failed)
	}
	return err
}

// askQueue asks the jobs' Redis, while the caches are asked.
func (s *system) askQueue(ctx context.Context) <-chan *JobsError {
	answer := make(chan *JobsError, 1)
	if s.queue == nil {
		answer <- nil
	} else {
		go func() { answer <- s.queue.failure(ctx) }()
	}
	return answer
}

// report is the body of an answer. It names caches and parts, and no reasons: errors may name hosts.
type report struct {
	Status string          `json:"status"` // ok or failing
	Caches map[string]Part `json:"caches"` // by name: ok, or the part that fails
	Jobs   Part            `json:"jobs,omitempty"`
}

// ServeHTTP answers 200 if Check finds nothing within 5 seconds, otherwise 503, with a JSON object that says which part
// of which cache fails:
//
//	{"status":"failing","caches":{"default":"ok","sessions":"store"},"jobs":"ok"}
//
// "jobs" is there if the application uses their Redis.
// The reasons are not told but logged.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	body := report{Status: "ok", Caches: make(map[string]Part)}
	for _, name := range h.system.caches.names {
		body.Caches[name] = "ok"
	}
	status := http.StatusOK
	queue := h.system.askQueue(ctx)
	for _, failed := range h.system.failures(ctx) {
		status, body.Status = http.StatusServiceUnavailable, "failing"
		body.Caches[failed.Cache] = failed.Part
		h.system.log.WarnContext(ctx, "sealcache: not ready", "cache", failed.Cache, "part", string(failed.Part), "error", failed.Err)
	}
	if h.system.queue != nil {
		body.Jobs = "ok"
	}
	if failed := <-queue; failed != nil {
		status, body.Status, body.Jobs = http.StatusServiceUnavailable, "failing", failed.Part
		h.system.log.WarnContext(ctx, "sealcache: not ready", "jobs", string(failed.Part), "error", failed.Err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone: nobody to tell
}
