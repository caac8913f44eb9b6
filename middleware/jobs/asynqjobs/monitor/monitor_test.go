package monitor_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

// everything returns all paths that the page requests.
func everything(ids map[string]string) []string {
	return []string{
		"/api/queues", "/api/queues/default", "/api/queues/idle", "/api/queue_stats", "/api/queues/idle/groups",
		"/api/queues/default/active_tasks", "/api/queues/idle/pending_tasks?page=1&size=20",
		"/api/queues/default/scheduled_tasks", "/api/queues/default/retry_tasks",
		"/api/queues/default/archived_tasks", "/api/queues/default/completed_tasks",
		"/api/queues/idle/groups/batch/aggregating_tasks",
		"/api/queues/default/tasks/" + ids["completed"], "/api/queues/default/tasks/" + ids["retry"],
		"/api/queues/default/tasks/" + ids["archived"], "/api/queues/default/tasks/" + ids["active"],
		"/api/queues/idle/tasks/" + ids["aggregating"], "/api/queues/idle/tasks/" + ids["plaintext"],
		"/api/servers", "/api/scheduler_entries", "/api/redis_info",
	}
}

func TestWhatEachViewerSees(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	_, err := s.scheduler.ScheduleOnce(t.Context(), schedule, asynqjobs.Every(time.Hour), asynq.NewTask(hiddenType, []byte(argument+" tick")))
	require.NoError(t, err)
	ids := s.fill(t)

	t.Run("without an authorizer nothing is opened", func(t *testing.T) { seesNothingByDefault(t, s, ids) })
	t.Run("types without payloads", func(t *testing.T) { seesTypes(t, s, ids) })
	t.Run("contents", func(t *testing.T) { seesPayloads(t, s, ids) })
	t.Run("some tasks only", func(t *testing.T) { seesSomeTasks(t, s, ids) })
	t.Run("nobody", func(t *testing.T) { seesForbidden(t, s, ids) })
	t.Run("an audit that fails", func(t *testing.T) { seesNothingUnrecorded(t, s, ids) })
	t.Run("logs name no contents", func(t *testing.T) { logsNoContents(t, s, ids) })
}

// seesNothingByDefault checks that no task is opened without an authorizer.
func seesNothingByDefault(t *testing.T, s *shop, ids map[string]string) {
	t.Parallel()
	var rec records
	h := s.monitor(t, monitor.WithAudit(rec.audit))
	for _, target := range everything(ids) {
		text, _ := get(t, h, target)
		for _, c := range append(contents, hiddenType, schedule) {
			assert.NotContains(t, text, c, target)
		}
	}
	_, doc := get(t, h, "/api/queues/default/scheduled_tasks")
	task := find(t, doc["tasks"], "id", ids["scheduled"])
	assert.Equal(t, openType, task["type"], "it stands in plaintext in Redis")
	assert.Equal(t, "[withheld]", task["payload"])
	assert.Empty(t, rec.take())
}

// seesTypes checks that a viewer of types sees no payloads.
func seesTypes(t *testing.T, s *shop, ids map[string]string) {
	t.Parallel()
	var rec records
	h := s.monitor(t, monitor.WithAudit(rec.audit), as(monitor.Viewer{Name: "op", Access: monitor.AccessTypes}))
	for _, target := range everything(ids) {
		text, _ := get(t, h, target)
		for _, c := range contents {
			assert.NotContains(t, text, c, target)
		}
		assert.NotContains(t, text, `"sealed:`, "%s: a pseudonym", target)
	}
	for list, name := range map[string]string{"active_tasks": "active", "retry_tasks": "retry", "completed_tasks": "completed"} {
		_, doc := get(t, h, "/api/queues/default/"+list)
		task := find(t, doc["tasks"], "id", ids[name])
		assert.Equal(t, hiddenType, task["type"])
		assert.Equal(t, "[withheld]", task["payload"])
	}
	_, doc := get(t, h, "/api/queues/default/retry_tasks")
	assert.Equal(t, "[withheld]", find(t, doc["tasks"], "id", ids["retry"])["error_message"])
	_, doc = get(t, h, "/api/queues/default/completed_tasks")
	assert.Equal(t, "[withheld]", find(t, doc["tasks"], "id", ids["completed"])["result"])
	_, doc = get(t, h, "/api/scheduler_entries")
	entries := doc["entries"].([]any)
	require.Len(t, entries, 1)
	entry := entries[0].(map[string]any)
	assert.Equal(t, hiddenType, entry["task_type"])
	assert.Equal(t, "[withheld]", entry["task_payload"])
	assert.Equal(t, "@every 1h0m0s", entry["spec"])
	assert.Contains(t, entry["options"], `Name("`+schedule+`")`)
	assert.NotContains(t, entry["id"], schedule, "ids appear in addresses")
	assert.Empty(t, rec.take())
}

// seesPayloads checks that a viewer of payloads sees each payload in its list and on the page of its task. Each view is one
// record.
func seesPayloads(t *testing.T, s *shop, ids map[string]string) {
	t.Parallel()
	var rec records
	h := s.monitor(t, monitor.WithAudit(rec.audit), as(monitor.Viewer{Name: "ann", Access: monitor.AccessPayloads}))
	lists := []struct{ target, name, what string }{
		{"/api/queues/default/active_tasks", "active", "block"},
		{"/api/queues/idle/pending_tasks", "pending", "pend"},
		{"/api/queues/default/scheduled_tasks", "scheduled", "later"},
		{"/api/queues/default/scheduled_tasks", "unique", "unique"},
		{"/api/queues/default/retry_tasks", "retry", "fail"},
		{"/api/queues/default/archived_tasks", "archived", "panic"},
		{"/api/queues/default/completed_tasks", "completed", "complete"},
		{"/api/queues/idle/groups/batch/aggregating_tasks", "aggregating", "gather"},
	}
	for _, l := range lists {
		_, doc := get(t, h, l.target)
		task := find(t, doc["tasks"], "id", ids[l.name])
		assert.Equal(t, `{"note":"`+argument+` `+l.what+`"}`, task["payload"], l.name)
		queue := task["queue"].(string)
		all := rec.take()
		require.Len(t, all, 1, "one record of one look")
		assert.Equal(t, monitor.View, all[0].Action)
		assert.Equal(t, "ann", all[0].Viewer)
		assert.Equal(t, queue, all[0].Queue)
		seen := false
		for _, s := range all[0].Tasks {
			if s.ID == ids[l.name] {
				seen = true
				assert.True(t, s.Payload)
				assert.Equal(t, l.name == "completed", s.Result)
				assert.Equal(t, l.name == "retry" || l.name == "archived", s.Failure)
			}
		}
		assert.True(t, seen, "%s is not in the record", l.name)

		_, doc = get(t, h, "/api/queues/"+queue+"/tasks/"+ids[l.name])
		assert.Equal(t, task["payload"], doc["payload"], "the task's own page")
		assert.Equal(t, task["type"], doc["type"])
		assert.Len(t, rec.take(), 1)
	}
	_, doc := get(t, h, "/api/queues/default/tasks/"+ids["retry"])
	assert.Equal(t, failed, doc["error_message"])
	assert.Equal(t, "", doc["result"])
	_, doc = get(t, h, "/api/queues/default/tasks/"+ids["archived"])
	assert.Contains(t, doc["error_message"], panicked)
	_, doc = get(t, h, "/api/queues/default/tasks/"+ids["completed"])
	assert.Equal(t, result, doc["result"])
	_, doc = get(t, h, "/api/queues/idle/tasks/"+ids["plaintext"])
	assert.Equal(t, "[not sealed] "+unsealedText, doc["payload"])

	_, doc = get(t, h, "/api/servers")
	var worker map[string]any
	for _, srv := range doc["servers"].([]any) {
		worker = find(t, srv.(map[string]any)["active_workers"], "task_id", ids["active"])
	}
	require.NotNil(t, worker)
	assert.Equal(t, hiddenType, worker["task_type"])
	assert.Contains(t, worker["task_payload"], "block")

	rec.take()
	_, doc = get(t, h, "/api/scheduler_entries")
	entry := doc["entries"].([]any)[0].(map[string]any)
	assert.Equal(t, argument+" tick", entry["task_payload"])
	all := rec.take()
	require.Len(t, all, 1)
	assert.Equal(t, entry["id"], all[0].Tasks[0].ID)
}

// seesSomeTasks checks that CanView decides for each task.
func seesSomeTasks(t *testing.T, s *shop, ids map[string]string) {
	t.Parallel()
	h := s.monitor(t, as(monitor.Viewer{Access: monitor.AccessPayloads, CanView: func(task monitor.Task) bool {
		return task.Type == hiddenType && task.Queue == "default"
	}}))
	_, doc := get(t, h, "/api/queues/default/scheduled_tasks")
	assert.Contains(t, find(t, doc["tasks"], "id", ids["unique"])["payload"], argument)
	assert.Equal(t, "[withheld]", find(t, doc["tasks"], "id", ids["scheduled"])["payload"])
	_, doc = get(t, h, "/api/queues/idle/tasks/"+ids["pending"])
	assert.Equal(t, hiddenType, doc["type"])
	assert.Equal(t, "[withheld]", doc["payload"])
}

// seesForbidden checks that a viewer without valid access gets no page.
func seesForbidden(t *testing.T, s *shop, ids map[string]string) {
	t.Parallel()
	for _, v := range []monitor.Viewer{{}, {Access: -1}, {Access: monitor.AccessPayloads + 1}} {
		h := s.monitor(t, as(v))
		for _, target := range append(everything(ids), "/", "/favicon.ico", "/queues/default") {
			assert.Equal(t, http.StatusForbidden, ask(h, http.MethodGet, target, "").Code, target)
		}
	}
}

// seesNothingUnrecorded checks that a payload is not shown if its record cannot be written.
func seesNothingUnrecorded(t *testing.T, s *shop, ids map[string]string) {
	t.Parallel()
	rec := records{err: context.DeadlineExceeded}
	h := s.monitor(t, monitor.WithAudit(rec.audit), as(monitor.Viewer{Access: monitor.AccessPayloads}))
	w := ask(h, http.MethodGet, "/api/queues/default/tasks/"+ids["completed"], "")
	assert.Equal(t, http.StatusInternalServerError, w.Code)
	assert.NotContains(t, w.Body.String(), argument)
	assert.Equal(t, http.StatusOK, ask(h, http.MethodGet, "/api/queues", "").Code, "nothing to audit")
}

// logsNoContents checks that the log names tasks but no content.
func logsNoContents(t *testing.T, s *shop, ids map[string]string) {
	t.Parallel()
	var log sealtest.Logs
	h := s.monitor(t, monitor.WithLogger(slog.New(slog.NewJSONHandler(&log, nil))), as(monitor.Viewer{Name: "ann", Access: monitor.AccessPayloads}))
	for _, target := range everything(ids) {
		get(t, h, target)
	}
	text := log.String()
	assert.Contains(t, text, `"viewer":"ann","action":"view","page":"task","queue":"default","tasks":["`+ids["completed"]+`"]`)
	for _, c := range append(contents, hiddenType, openType, schedule) {
		assert.NotContains(t, text, c)
	}
}
