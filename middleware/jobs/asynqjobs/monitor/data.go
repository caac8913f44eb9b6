package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
)

// serveData answers requests of the page's scripts.
func (h *Handler) serveData(w http.ResponseWriter, r *http.Request, rel string, viewer *Viewer) {
	if r.Method != http.MethodGet && !h.cfg.actions {
		w.Header().Set("Allow", "GET")
		fail(w, http.StatusMethodNotAllowed)
		return
	}
	rt, ok := parseRoute(r.Method, rel)
	switch {
	case !ok:
		fail(w, http.StatusNotFound)
	case rt.action != "":
		h.act(w, r, &rt, viewer)
	case rt.view == viewEvents && isScheduleID(rt.id):
		h.serveEvents(w, r, rt.id, viewer)
	default:
		h.read(w, r, &rt, viewer)
	}
}

// read gets asynqmon's answer, opens the contents that the viewer may see, and records and writes
// the answer. Recording and writing may be slow, so it first makes room for other requests.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, rt *route, viewer *Viewer) {
	doc, rec, ok := h.compose(w, r, rt, viewer)
	if !ok {
		return
	}
	if len(rec.Tasks) > 0 {
		if err := h.record(r.Context(), rec); err != nil {
			h.auditFailed(w, r, err)
			return
		}
	}
	writeJSON(w, doc)
}

// compose returns the answer and its record, or writes an error.
func (h *Handler) compose(w http.ResponseWriter, r *http.Request, rt *route, viewer *Viewer) (map[string]any, *Record, bool) {
	release, ok := h.begin(r.Context())
	if !ok {
		fail(w, http.StatusServiceUnavailable)
		return nil, nil, false
	}
	defer release()
	ctx, cancel := context.WithTimeout(r.Context(), openTimeout)
	defer cancel()

	c := newCapture(maxAnswerBytes)
	h.reading.next.ServeHTTP(c, bounded(ctx, r))
	if status := h.cause(rt, c.code()); status != 0 {
		fail(w, status)
		return nil, nil, false
	}
	doc, ok := h.answer(w, r, c)
	if !ok {
		return nil, nil, false
	}
	l := &view{
		h: h, ctx: ctx, viewer: viewer, limit: listBytes, left: maxOpenTasks,
		rec: Record{Time: h.cfg.now(), Viewer: viewer.Name, Action: View, Page: rt.view, Queue: rt.queue, Group: rt.group},
	}
	switch {
	case rt.view == viewTask:
		if doc["id"] != rt.id || doc["queue"] != rt.queue {
			// The stored bytes belong to another task.
			fail(w, http.StatusNotFound)
			return nil, nil, false
		}
		l.limit = maxShownBytes
		l.reveal(doc, taskFields)
	case isTaskList(rt.view):
		l.revealAll(doc["tasks"], taskFields)
	case rt.view == viewServers:
		servers, _ := doc["servers"].([]any)
		for _, s := range servers {
			if s, ok := s.(map[string]any); ok {
				l.revealAll(s["active_workers"], workerFields)
			}
		}
	case rt.view == viewSchedules:
		l.schedules(doc)
	case rt.view == viewRedis:
		completeInfo(doc)
	}
	return doc, &l.rec, true
}

// cause returns a better status for a request that asynqmon answered with status 500, or 0. asynqmon does so if the queue
// or the task does not exist, and if the action does not fit the state of the task or queue.
func (h *Handler) cause(rt *route, status int) int {
	if status < http.StatusInternalServerError || rt.queue == "" {
		return 0
	}
	queues, err := h.inspector.Queues()
	switch {
	case err != nil:
		return 0
	case !slices.Contains(queues, rt.queue):
		return http.StatusNotFound
	case rt.action == Pause || rt.action == Resume:
		info, err := h.inspector.GetQueueInfo(rt.queue)
		if err == nil && info.Paused == (rt.action == Pause) {
			return http.StatusConflict
		}
	case rt.action != "" && rt.id != "":
		info, err := h.inspector.GetTaskInfo(rt.queue, rt.id)
		if errors.Is(err, asynq.ErrTaskNotFound) {
			return http.StatusNotFound
		}
		if err == nil && !rt.action.fits(info.State) {
			return http.StatusConflict
		}
	}
	return 0
}

// fits reports whether asynq does the action with a task in state s.
func (a Action) fits(s asynq.TaskState) bool {
	switch a {
	case Run:
		return s != asynq.TaskStateActive && s != asynq.TaskStatePending
	case Archive:
		return s != asynq.TaskStateActive && s != asynq.TaskStateArchived
	case Delete:
		return s != asynq.TaskStateActive
	default:
		return true
	}
}

// completeInfo adds the fields of INFO that the page shows and the server does not
// report. The page would show "undefined" and "NaN" in their place.
func completeInfo(doc map[string]any) {
	info, ok := doc["info"].(map[string]any)
	if !ok || doc["cluster"] == true {
		return
	}
	for _, field := range []string{
		"redis_version", "uptime_in_days", "used_memory_human", "used_memory_peak_human", "mem_fragmentation_ratio",
		"connected_clients", "connected_slaves", "rdb_changes_since_last_save",
	} {
		if _, ok := info[field]; !ok {
			info[field] = "unknown"
		}
	}
	if _, ok := info["rdb_last_save_time"]; !ok {
		info["rdb_last_save_time"] = "0" // shown as nothing
	}
}

// begin waits until there is room for another request that opens tasks.
func (h *Handler) begin(ctx context.Context) (release func(), ok bool) {
	select {
	case h.opening <- struct{}{}:
		return func() { <-h.opening }, true
	case <-ctx.Done():
		return nil, false
	}
}

// bounded returns r with a bounded page size and number.
func bounded(ctx context.Context, r *http.Request) *http.Request {
	asked := r.URL.Query()
	q := url.Values{}
	for name, most := range map[string]int{"size": maxPageSize, "page": maxPage} {
		if n, err := strconv.Atoi(asked.Get(name)); err == nil {
			q.Set(name, strconv.Itoa(min(max(n, 1), most)))
		}
	}
	r = r.Clone(ctx)
	r.URL.RawQuery = q.Encode()
	return r
}

// answer parses asynqmon's answer, or answers with its status and without its text.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, c *capture) (map[string]any, bool) {
	status := c.code()
	switch {
	case c.over:
		if h.complain.Allow() {
			h.cfg.logger.WarnContext(r.Context(), "sealcache: job monitor: asynqmon's answer is over the limit (show fewer tasks per page)", "limit_bytes", c.limit)
		}
		fail(w, http.StatusInternalServerError)
		return nil, false
	case status >= http.StatusInternalServerError:
		// The text is an error of asynq, which contains an error of Redis.
		if h.complain.Allow() {
			text := rediserr.CutText(strings.TrimSpace(c.body.String()))
			h.cfg.logger.WarnContext(r.Context(), "sealcache: job monitor: a request failed", "status", status, "error", asynqwire.Shorten(text, 300))
		}
		fail(w, http.StatusInternalServerError)
		return nil, false
	case status >= http.StatusBadRequest:
		fail(w, status)
		return nil, false
	case status == http.StatusNoContent:
		w.WriteHeader(status)
		return nil, false
	case status != http.StatusOK:
		fail(w, http.StatusNotFound)
		return nil, false
	}
	var doc map[string]any
	dec := json.NewDecoder(&c.body)
	dec.UseNumber() // rounds no number
	if err := dec.Decode(&doc); err != nil || doc == nil {
		fail(w, http.StatusNotFound) // asynqmon answers unknown requests with its page
		return nil, false
	}
	return doc, true
}

// act does an action, if the viewer may act.
func (h *Handler) act(w http.ResponseWriter, r *http.Request, rt *route, viewer *Viewer) {
	rec := Record{
		Time: h.cfg.now(), Viewer: viewer.Name, Action: rt.action, Page: rt.view,
		Queue: rt.queue, Group: rt.group, All: rt.all, Refused: !viewer.CanAct,
	}
	if rec.Refused {
		h.refuse(w, r, rt, &rec)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err != nil {
		fail(w, http.StatusRequestEntityTooLarge)
		return
	}
	if rt.batch {
		var batch struct {
			IDs []string `json:"task_ids"`
		}
		if err := json.Unmarshal(body, &batch); err != nil {
			fail(w, http.StatusBadRequest)
			return
		}
		for _, id := range batch.IDs {
			rec.Tasks = append(rec.Tasks, Seen{Queue: rt.queue, ID: id})
		}
		// asynqmon may parse the same JSON differently. The body is written again, so that asynqmon
		// acts on exactly the recorded tasks.
		if body, err = json.Marshal(map[string][]string{"task_ids": batch.IDs}); err != nil {
			fail(w, http.StatusBadRequest)
			return
		}
	} else if rt.id != "" {
		rec.Tasks = []Seen{{Queue: rt.queue, ID: rt.id}}
	}
	if err := h.record(r.Context(), &rec); err != nil {
		h.auditFailed(w, r, err)
		return
	}
	forwarded := bounded(r.Context(), r)
	forwarded.Body, forwarded.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	c := newCapture(maxAnswerBytes)
	h.acting.next.ServeHTTP(c, forwarded)
	if status := h.cause(rt, c.code()); status != 0 {
		fail(w, status)
		return
	}
	if doc, ok := h.answer(w, r, c); ok {
		writeJSON(w, doc)
	}
}

// maxRefusedName bounds each name in the record of a refused action.
const maxRefusedName = 128

// refuse records an action that the viewer may not do. The viewer chose its names and
// must not fill the log with them: they are cut, and the body is not read.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, rt *route, rec *Record) {
	rec.Queue, rec.Group = asynqwire.Shorten(rt.queue, maxRefusedName), asynqwire.Shorten(rt.group, maxRefusedName)
	if rt.id != "" {
		rec.Tasks = []Seen{{Queue: rec.Queue, ID: asynqwire.Shorten(rt.id, maxRefusedName)}}
	}
	if err := h.record(r.Context(), rec); err != nil {
		h.auditFailed(w, r, err)
		return
	}
	fail(w, http.StatusForbidden)
}

func (h *Handler) auditFailed(w http.ResponseWriter, r *http.Request, err error) {
	h.cfg.logger.ErrorContext(r.Context(), "sealcache: job monitor: the audit function failed, so nothing was shown or done", "error", errtext.Guard(err))
	fail(w, http.StatusInternalServerError)
}

func writeJSON(w http.ResponseWriter, doc map[string]any) {
	b, err := json.Marshal(doc)
	if err != nil {
		fail(w, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // the client is gone if the write fails
}
