package monitor_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

// An unknown queue is answered with 404 and is not an error of the page.
func TestUnknownQueues(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	s.enqueue(t, s.client, openType, "x")
	h := s.monitor(t, admin(), monitor.WithActions())
	for _, target := range []string{"", "/pending_tasks", "/retry_tasks", "/groups", "/tasks/x", "/groups/g/aggregating_tasks"} {
		assert.Equal(t, http.StatusNotFound, ask(h, http.MethodGet, "/api/queues/nowhere"+target, "").Code, target)
	}
	for _, req := range [][2]string{{http.MethodPost, "/pending_tasks:archive_all"}, {http.MethodDelete, "/pending_tasks/x"}} {
		assert.Equal(t, http.StatusNotFound, ask(h, req[0], "/api/queues/nowhere"+req[1], "").Code, req)
	}
	get(t, h, "/api/queues/default")
}

// The page does not fail if an action does not fit a task or queue: two operators may click the same button.
func TestActionsThatDoNotFit(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	id := s.enqueue(t, s.client, openType, "x").ID
	var log sealtest.Logs
	h := s.monitor(t, admin(), monitor.WithActions(), monitor.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))))
	for _, c := range []struct {
		method, target string
		want           int
	}{
		{http.MethodPost, "/pending_tasks/none:archive", http.StatusNotFound},
		{http.MethodPost, "/archived_tasks/none:run", http.StatusNotFound},
		{http.MethodDelete, "/pending_tasks/none", http.StatusNotFound},
		{http.MethodGet, "/tasks/none", http.StatusNotFound},
		{http.MethodPost, "/scheduled_tasks/" + id + ":run", http.StatusConflict},
		{http.MethodPost, "/pending_tasks/" + id + ":archive", http.StatusNoContent},
		{http.MethodPost, "/pending_tasks/" + id + ":archive", http.StatusConflict},
		{http.MethodPost, "/archived_tasks/" + id + ":run", http.StatusNoContent},
		{http.MethodPost, "/archived_tasks/" + id + ":run", http.StatusConflict},
		{http.MethodPost, ":resume", http.StatusConflict},
		{http.MethodPost, ":pause", http.StatusNoContent},
		{http.MethodPost, ":pause", http.StatusConflict},
		{http.MethodPost, ":resume", http.StatusNoContent},
	} {
		assert.Equal(t, c.want, ask(h, c.method, "/api/queues/default"+c.target, "").Code, c.method+" "+c.target)
	}
	assert.Empty(t, log.String())
}

// Managed services do not offer MEMORY in scripts. The page works without the estimate of memory.
func TestServerWithoutMemoryCommand(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	id := s.enqueue(t, s.client, openType, "x").ID
	rdb := s.srv.Client(t)
	require.NoError(t, rdb.Do(t.Context(), "ACL", "SETUSER", "default", "-memory").Err())
	h := s.monitor(t, admin())
	for range 2 { // the server knows the script from the second time on
		_, doc := get(t, h, "/api/queues")
		assert.EqualValues(t, 0, find(t, doc["queues"], "queue", "default")["memory_usage_bytes"])
		get(t, h, "/api/queues/default")
		_, doc = get(t, h, "/api/queues/default/pending_tasks")
		find(t, doc["tasks"], "id", id)
	}
	require.NoError(t, rdb.Do(t.Context(), "ACL", "SETUSER", "default", "+memory").Err())
	_, doc := get(t, h, "/api/queues")
	assert.NotEqualValues(t, 0, find(t, doc["queues"], "queue", "default")["memory_usage_bytes"])
}

// The log tells the status and the kind of the error, and not what an error of the server quotes.
func TestRedisErrorsInTheLog(t *testing.T) {
	t.Parallel()
	addr := redistest.Answering(t, func(command string) string {
		return "-ERR unknown command '" + command + "', with args beginning with: 'canary-value' "
	})
	for _, target := range []string{
		"queues", "queues/default", "queues/default/pending_tasks", "queues/default/groups", "queues/default/tasks/id",
		"servers", "scheduler_entries", "redis_info", "queue_stats",
	} {
		var logs sealtest.Logs
		h := shopOn(t, asynq.RedisClientOpt{Addr: addr}, nil).monitor(t, admin(), monitor.WithLogger(logs.Logger()))
		w := ask(h, http.MethodGet, "/api/"+target, "")
		require.Equal(t, http.StatusInternalServerError, w.Code, target)
		require.NotContains(t, w.Body.String(), "canary", target)
		require.Contains(t, logs.String(), "ERR unknown command '", target)
		require.NotContains(t, logs.String(), "canary", target)
	}
}

// A list that names a missing task, which Redis has evicted or an attacker has added, does not stop the page.
func TestMissingTasks(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	rdb, h := s.srv.Client(t), s.monitor(t, admin())
	lists := map[string][]asynq.Option{
		"pending_tasks":                  nil,
		"scheduled_tasks":                {asynq.ProcessIn(time.Hour)},
		"groups/batch/aggregating_tasks": {asynq.Group("batch")},
	}
	stays := map[string]string{}
	for list, opts := range lists {
		stays[list] = s.enqueue(t, s.client, openType, "stays", opts...).ID
		gone := s.enqueue(t, s.client, openType, "gone", opts...).ID
		require.EqualValues(t, 1, rdb.Del(t.Context(), "asynq:{default}:t:"+gone).Val())
	}
	for range 2 { // the server knows the script from the second time on
		_, doc := get(t, h, "/api/queues")
		assert.EqualValues(t, 0, find(t, doc["queues"], "queue", "default")["memory_usage_bytes"])
		get(t, h, "/api/queues/default")
		for list, id := range stays {
			_, doc = get(t, h, "/api/queues/default/"+list)
			find(t, doc["tasks"], "id", id)
		}
	}
}

// Data that a server does not report are shown as unknown.
func TestServerThatReportsLittle(t *testing.T) {
	t.Parallel()
	s := shopOn(t, asynq.RedisClientOpt{Addr: miniredis.RunT(t).Addr()}, nil)
	s.enqueue(t, s.client, openType, "x")
	_, doc := get(t, s.monitor(t, admin()), "/api/redis_info")
	info, _ := doc["info"].(map[string]any)
	for _, field := range []string{"redis_version", "used_memory_human", "used_memory_peak_human", "mem_fragmentation_ratio", "uptime_in_days", "rdb_changes_since_last_save"} {
		assert.NotEmpty(t, info[field], field)
	}
	assert.Equal(t, "0", info["rdb_last_save_time"])
}

func TestBannerWherePayloadsAreWithheld(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	page := func(opts ...monitor.Option) string {
		return ask(s.monitor(t, opts...), http.MethodGet, "/", "").Body.String()
	}
	assert.Contains(t, page(), "Payloads are withheld: you are not identified, with access to counts.")
	assert.Contains(t, page(as(monitor.Viewer{Name: "<op>", Access: monitor.AccessTypes})), "Payloads are withheld: you are &lt;op&gt;, with access to types.")
	assert.NotContains(t, page(as(monitor.Viewer{Name: "ann", Access: monitor.AccessPayloads})), "withheld")
}

// The release of asynqmon in use has the function that cuts ids, and the page replaces it.
func TestListsShowWholeIDs(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	h := s.monitor(t)
	html := ask(h, http.MethodGet, "/", "").Body.String()
	_, rest, ok := strings.Cut(html, `src="/static/js/main.`)
	require.True(t, ok)
	name, _, _ := strings.Cut(rest, `"`)
	script := ask(h, http.MethodGet, "/static/js/main."+name, "").Body.String()
	assert.Contains(t, script, `{return/^[0-9a-f]{8}-/.test(e)?e.substr(0,8):e}`)
	assert.NotContains(t, script, `{var t=e.indexOf("-");return-1===t?e:e.substr(0,t)}`)
}
