package monitor_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

// Every list and every task's page, for each kind of viewer and over each kind of connection. All see counts. From
// AccessTypes on they see real names, and with AccessPayloads contents. Each view is recorded.
func TestEveryListForEveryViewer(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) asynq.RedisConnOpt{
		"single": func(t *testing.T) asynq.RedisConnOpt {
			t.Helper()
			return connTo(redistest.Start(t))
		},
		"sentinel": func(t *testing.T) asynq.RedisConnOpt {
			t.Helper()
			o := redistest.StartSentinel(t).ClientOptions()
			return asynq.RedisFailoverClientOpt{MasterName: o.MasterName, SentinelAddrs: o.SentinelAddrs, Password: o.Password, SentinelPassword: o.SentinelPassword}
		},
		"cluster": func(t *testing.T) asynq.RedisConnOpt {
			t.Helper()
			return asynq.RedisClusterClientOpt{Addrs: redistest.StartCluster(t).Addrs()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := shopOn(t, start(t), nil)
			rdb, ok := s.conn.MakeRedisClient().(redis.UniversalClient)
			require.True(t, ok)
			t.Cleanup(func() { _ = rdb.Close() })
			var err error
			s.scheduler, err = asynqjobs.NewScheduler(rdb, s.hidden)
			require.NoError(t, err)
			_, err = s.scheduler.ScheduleOnce(t.Context(), schedule, asynqjobs.Every(time.Hour), asynq.NewTask(hiddenType, []byte(argument+" tick")))
			require.NoError(t, err)
			ids := s.fill(t)
			for _, access := range []monitor.Access{monitor.AccessCounts, monitor.AccessTypes, monitor.AccessPayloads} {
				t.Run(access.String(), func(t *testing.T) {
					t.Parallel()
					s.lists(t, ids, access)
				})
			}
		})
	}
}

func (s *shop) lists(t *testing.T, ids map[string]string, access monitor.Access) {
	t.Helper()
	var rec records
	h := s.monitor(t, monitor.WithAudit(rec.audit), as(monitor.Viewer{Name: "ann", Access: access}))
	looked := func(where, id string) {
		t.Helper()
		all := rec.take()
		if access < monitor.AccessPayloads {
			assert.Empty(t, all, where)
			return
		}
		if assert.Len(t, all, 1, where) {
			found := false
			for _, seen := range all[0].Tasks {
				found = found || seen.ID == id && seen.Payload
			}
			assert.True(t, found, "%s: not recorded", where)
		}
	}
	typename := func(where string, hidden bool, got any) {
		t.Helper()
		switch {
		case !hidden:
			assert.Equal(t, openType, got, where)
		case access >= monitor.AccessTypes:
			assert.Equal(t, hiddenType, got, where)
		default:
			text, _ := got.(string)
			assert.True(t, asynqjobs.IsHiddenType(text), "%s: %v", where, got)
		}
	}
	content := func(where, want string, got any) {
		t.Helper()
		if access >= monitor.AccessPayloads {
			assert.Contains(t, got, want, where)
		} else {
			assert.Equal(t, "[withheld]", got, where)
		}
	}
	for _, l := range []struct {
		list, queue, name string
		hidden            bool
		more, want        string
	}{
		{"active_tasks", "default", "active", true, "", ""},
		{"pending_tasks", "idle", "pending", true, "", ""},
		{"groups/batch/aggregating_tasks", "idle", "aggregating", true, "", ""},
		{"scheduled_tasks", "default", "scheduled", false, "", ""},
		{"scheduled_tasks", "default", "unique", true, "", ""},
		{"retry_tasks", "default", "retry", true, "error_message", failed},
		{"archived_tasks", "default", "archived", false, "error_message", panicked},
		{"completed_tasks", "default", "completed", true, "result", result},
	} {
		where := l.list + " " + l.name
		_, doc := get(t, h, "/api/queues/"+l.queue+"/"+l.list)
		row := find(t, doc["tasks"], "id", ids[l.name])
		looked(where, ids[l.name])
		_, page := get(t, h, "/api/queues/"+l.queue+"/tasks/"+ids[l.name])
		looked(where, ids[l.name])
		for _, task := range []map[string]any{row, page} {
			typename(where, l.hidden, task["type"])
			content(where, argument, task["payload"])
			if l.more != "" {
				content(where, l.want, task[l.more])
			}
		}
	}

	_, doc := get(t, h, "/api/servers")
	servers, _ := doc["servers"].([]any)
	if assert.Len(t, servers, 1) {
		worker := find(t, servers[0].(map[string]any)["active_workers"], "task_id", ids["active"])
		typename("servers", true, worker["task_type"])
		content("servers", argument, worker["task_payload"])
	}
	looked("servers", ids["active"])

	_, doc = get(t, h, "/api/scheduler_entries")
	entries, _ := doc["entries"].([]any)
	if access < monitor.AccessTypes {
		assert.Empty(t, entries)
	} else if assert.Len(t, entries, 1) {
		entry := entries[0].(map[string]any)
		typename("schedules", true, entry["task_type"])
		content("schedules", argument, entry["task_payload"])
		assert.Contains(t, entry["options"], `Name("`+schedule+`")`)
		id, _ := entry["id"].(string)
		looked("schedules", id)
		get(t, h, "/api/scheduler_entries/"+id+"/enqueue_events")
	}

	// All viewers see numbers, which are not recorded.
	_, doc = get(t, h, "/api/queues")
	queue := find(t, doc["queues"], "queue", "default")
	for _, state := range []string{"active", "retry", "archived", "completed"} {
		assert.EqualValues(t, 1, queue[state], state)
	}
	assert.EqualValues(t, 2, queue["scheduled"])
	_, doc = get(t, h, "/api/queues/idle/groups")
	assert.EqualValues(t, 1, find(t, doc["groups"], "group", "batch")["size"])
	for _, target := range []string{"/api/queues/idle", "/api/queue_stats", "/api/redis_info"} {
		text, _ := get(t, h, target)
		for _, c := range append(contents, hiddenType, schedule) {
			assert.NotContains(t, text, c, target)
		}
	}
	assert.Empty(t, rec.take())
}

// A list of servers may hold any number of tasks. The page opens at most 500 for one answer.
func TestFewTasksAreOpenedAtATime(t *testing.T) {
	t.Parallel()
	const most, n = 500, 503
	s := newShop(t, nil)
	release := make(chan struct{})
	cfg, err := asynqjobs.Config(s.e, asynq.Config{Concurrency: n, TaskCheckInterval: 20 * time.Millisecond, LogLevel: asynq.FatalLevel}, asynqjobs.WithLogger(quiet))
	require.NoError(t, err)
	sealed, err := asynqjobs.Handler(s.e, asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		<-release
		return nil
	}), asynqjobs.WithLogger(quiet))
	require.NoError(t, err)
	for range n {
		s.enqueue(t, s.hidden, hiddenType, "busy")
	}
	srv := asynq.NewServer(s.conn, cfg)
	require.NoError(t, srv.Start(sealed))
	defer srv.Shutdown()
	defer close(release)
	h := s.monitor(t, seesAll())
	eventually(t, "all are shown", func() bool {
		text, _ := get(t, h, "/api/servers")
		opened, left := strings.Count(text, argument), strings.Count(text, "[not opened: too many tasks on one page]")
		assert.LessOrEqual(t, opened, most)
		return opened == most && left == n-most
	})
}
