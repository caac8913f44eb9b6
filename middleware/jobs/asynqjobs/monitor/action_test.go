package monitor_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

func TestReadOnlyUnlessAsked(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	id := s.enqueue(t, s.client, openType, "x").ID
	var rec records
	readOnly := s.monitor(t, admin(), monitor.WithAudit(rec.audit))
	looker := s.monitor(t, monitor.WithActions(), as(monitor.Viewer{Name: "op", Access: monitor.AccessPayloads}), monitor.WithAudit(rec.audit))
	for _, req := range [][2]string{
		{http.MethodPost, "/api/queues/default:pause"},
		{http.MethodDelete, "/api/queues/default"},
		{http.MethodDelete, "/api/queues/default/pending_tasks/" + id},
		{http.MethodPost, "/api/queues/default/pending_tasks/" + id + ":archive"},
		{http.MethodDelete, "/api/queues/default/pending_tasks:delete_all"},
	} {
		w := ask(readOnly, req[0], req[1], "")
		assert.Equal(t, http.StatusMethodNotAllowed, w.Code, req)
		assert.Equal(t, "GET", w.Header().Get("Allow"))
		assert.Empty(t, rec.take())
		assert.Equal(t, http.StatusForbidden, ask(looker, req[0], req[1], "").Code, req)
		all := rec.take()
		require.Len(t, all, 1)
		assert.True(t, all[0].Refused)
	}
	assert.Contains(t, ask(looker, http.MethodGet, "/", "").Body.String(), `window.FLAG_READ_ONLY="true"`)
	info, err := s.inspector.GetTaskInfo("default", id)
	require.NoError(t, err)
	assert.Equal(t, asynq.TaskStatePending, info.State)
}

func TestActions(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	var rec records
	h := s.monitor(t, admin(), monitor.WithActions(), monitor.WithAudit(rec.audit))
	assert.Contains(t, ask(h, http.MethodGet, "/", "").Body.String(), `window.FLAG_READ_ONLY="false"`)
	act := func(method, target, body string) monitor.Record {
		t.Helper()
		w := ask(h, method, target, body, "Sec-Fetch-Site", "same-origin")
		require.Less(t, w.Code, 300, "%s %s: %s", method, target, w.Body)
		all := rec.take()
		require.Len(t, all, 1)
		assert.Equal(t, "adm", all[0].Viewer)
		assert.False(t, all[0].Time.IsZero())
		assert.False(t, all[0].Refused)
		all[0].Time = time.Time{}
		return all[0]
	}
	state := func(id string, want asynq.TaskState) {
		t.Helper()
		info, err := s.inspector.GetTaskInfo("default", id)
		require.NoError(t, err)
		assert.Equal(t, want, info.State)
	}
	one := s.enqueue(t, s.hidden, hiddenType, "1").ID
	two := s.enqueue(t, s.hidden, hiddenType, "2").ID
	refs := func(ids ...string) []monitor.Seen {
		var out []monitor.Seen
		for _, id := range ids {
			out = append(out, monitor.Seen{Queue: "default", ID: id})
		}
		return out
	}

	got := act(http.MethodPost, "/api/queues/default:pause", "")
	assert.Equal(t, monitor.Record{Viewer: "adm", Action: monitor.Pause, Page: "queue", Queue: "default"}, got)
	got = act(http.MethodPost, "/api/queues/default:resume", "")
	assert.Equal(t, monitor.Resume, got.Action)
	got = act(http.MethodPost, "/api/queues/default/pending_tasks/"+one+":archive", "")
	assert.Equal(t, monitor.Record{Viewer: "adm", Action: monitor.Archive, Page: "pending_tasks", Queue: "default", Tasks: refs(one)}, got)
	state(one, asynq.TaskStateArchived)
	got = act(http.MethodPost, "/api/queues/default/pending_tasks:batch_archive", `{"task_ids":["`+two+`","none"]}`)
	assert.Equal(t, monitor.Record{Viewer: "adm", Action: monitor.Archive, Page: "pending_tasks", Queue: "default", Tasks: refs(two, "none")}, got)
	state(two, asynq.TaskStateArchived)
	got = act(http.MethodPost, "/api/queues/default/archived_tasks:run_all", "")
	assert.Equal(t, monitor.Record{Viewer: "adm", Action: monitor.Run, Page: "archived_tasks", Queue: "default", All: true}, got)
	state(one, asynq.TaskStatePending)
	act(http.MethodDelete, "/api/queues/default/pending_tasks/"+one, "")
	_, err := s.inspector.GetTaskInfo("default", one)
	require.ErrorIs(t, err, asynq.ErrTaskNotFound)
	grouped := s.enqueue(t, s.hidden, hiddenType, "3", asynq.Group("g")).ID
	got = act(http.MethodDelete, "/api/queues/default/groups/g/aggregating_tasks:delete_all", "")
	assert.Equal(t, "g", got.Group)
	_, err = s.inspector.GetTaskInfo("default", grouped)
	require.ErrorIs(t, err, asynq.ErrTaskNotFound)

	assert.Equal(t, http.StatusBadRequest, ask(h, http.MethodPost, "/api/queues/default/pending_tasks:batch_run", "{").Code)
	assert.Equal(t, http.StatusRequestEntityTooLarge,
		ask(h, http.MethodPost, "/api/queues/default/pending_tasks:batch_run", strings.Repeat(" ", 2<<20)).Code)
	assert.Equal(t, http.StatusBadRequest, ask(h, http.MethodDelete, "/api/queues/default", "").Code, "it is not empty")

	// An action that cannot be recorded is not run.
	rec.err = errors.New("no room")
	w := ask(h, http.MethodDelete, "/api/queues/default/pending_tasks/"+two, "")
	assert.Equal(t, http.StatusInternalServerError, w.Code)
	state(two, asynq.TaskStatePending)
}

// A viewer without the right to act cannot fill the log, neither with a body nor with long names.
func TestRefusedActionsAreRecordedInShort(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	var rec records
	var log sealtest.Logs
	h := s.monitor(t, monitor.WithActions(), as(monitor.Viewer{Name: "op", Access: monitor.AccessPayloads}), monitor.WithAudit(rec.audit), monitor.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	long := strings.Repeat("x", 100_000)
	for target, tasks := range map[string]int{
		"/api/queues/default/pending_tasks:batch_delete":                             0,
		"/api/queues/" + long + "/pending_tasks/" + long + ":run":                    1,
		"/api/queues/default/groups/" + long + "/aggregating_tasks/" + long + ":run": 1,
	} {
		w := ask(h, http.MethodPost, target, `{"task_ids":["`+long+`"]}`)
		assert.Equal(t, http.StatusForbidden, w.Code)
		all := rec.take()
		require.Len(t, all, 1)
		assert.True(t, all[0].Refused)
		assert.Len(t, all[0].Tasks, tasks)
	}
	assert.Less(t, len(log.String()), 3000)
	assert.Contains(t, log.String(), "refused=true")
}

// The page runs the action that it recorded, although a body may hold others.
func TestActionsMatchTheirRecords(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	var rec records
	h := s.monitor(t, admin(), monitor.WithActions(), monitor.WithAudit(rec.audit))
	one, two := s.enqueue(t, s.client, openType, "1").ID, s.enqueue(t, s.client, openType, "2").ID
	for _, body := range []string{
		`{"task_ids":["` + one + `"],"task_ids":["` + two + `"]}`,
		`{"other":["` + one + `"],"TASK_IDS":["` + two + `"]}`,
	} {
		w := ask(h, http.MethodPost, "/api/queues/default/pending_tasks:batch_archive", body)
		require.Equal(t, http.StatusOK, w.Code, "%s", w.Body)
		all := rec.take()
		require.Len(t, all, 1)
		assert.Equal(t, []monitor.Seen{{Queue: "default", ID: two}}, all[0].Tasks)
		info, err := s.inspector.GetTaskInfo("default", one)
		require.NoError(t, err)
		assert.Equal(t, asynq.TaskStatePending, info.State)
		info, err = s.inspector.GetTaskInfo("default", two)
		require.NoError(t, err)
		assert.Equal(t, asynq.TaskStateArchived, info.State)
		require.NoError(t, s.inspector.RunTask("default", two))
	}
	w := ask(h, http.MethodPost, "/api/queues/default/pending_tasks:batch_archive", `{"task_ids":["`+one+`"]}{"task_ids":["`+two+`"]}`)
	assert.Equal(t, http.StatusBadRequest, w.Code)
	assert.Empty(t, rec.take())
}

// An action leaves a job sealed.
func TestRunAgainFromThePage(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	h := s.monitor(t, admin(), monitor.WithActions())
	id := s.enqueue(t, s.hidden, hiddenType, "again", asynq.ProcessIn(time.Hour)).ID
	ran := make(chan string, 1)
	s.serve(t, func(_ context.Context, task *asynq.Task) error {
		ran <- string(task.Payload())
		return nil
	})
	require.Equal(t, http.StatusNoContent, ask(h, http.MethodPost, "/api/queues/default/scheduled_tasks/"+id+":run", "").Code)
	select {
	case payload := <-ran:
		assert.Contains(t, payload, "again")
	case <-time.After(patience):
		t.Fatal("it was not run")
	}
}
