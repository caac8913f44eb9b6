//go:build browser

package browsertest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

// visit is a sequence of steps, and seen its result; look.mjs runs them.
type (
	step struct {
		At    string `json:"at"`
		Hover bool   `json:"hover,omitempty"`
	}
	visit struct {
		User   string `json:"user"`
		Name   string `json:"name"`
		Path   string `json:"path"`
		Expect string `json:"expect,omitempty"`
		Width  int    `json:"width,omitempty"`
		Steps  []step `json:"steps,omitempty"`
	}
	seen struct {
		Texts      map[string]string `json:"texts"`
		Overflow   map[string]int    `json:"overflow"`
		Actions    map[string]int    `json:"actions"`
		Requests   []string          `json:"requests"`
		Violations []string          `json:"violations"`
		Errors     []string          `json:"errors"`
	}
)

func browse(t *testing.T, base string, visits []visit) seen {
	t.Helper()
	chromium := cmp.Or(os.Getenv("CHROMIUM"), "chromium")
	chromium, err := exec.LookPath(chromium)
	require.NoError(t, err, "Debian: apt-get install chromium; or set CHROMIUM")
	require.DirExists(t, "node_modules", "npm ci --prefix middleware/jobs/asynqjobs/monitor/browsertest")
	job, err := json.Marshal(map[string]any{
		"chromium": chromium, "base": base, "screenshots": os.Getenv("SCREENSHOTS"), "visits": visits,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "look.mjs")
	cmd.Stdin = bytes.NewReader(job)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Run(), "%s", &errs)
	var s seen
	require.NoError(t, json.Unmarshal(out.Bytes(), &s))
	return s
}

const (
	secret   = "4111 1111 1111 1111"
	answer   = "booked-77"
	trouble  = "declined for Jane Roe"
	typename = "payment:charge"
	root     = "/admin/jobs"
)

func TestPageInBrowser(t *testing.T) {
	srv := redistest.Start(t)
	conn := asynq.RedisClientOpt{Addr: srv.Addr()}
	e := sealtest.Encryptor(t, nil)
	client, err := asynqjobs.NewClient(asynq.NewClient(conn), e, asynqjobs.WithHiddenTypes())
	require.NoError(t, err)
	defer client.Close()
	inspector := asynq.NewInspector(conn)
	defer inspector.Close()
	ids := fill(t, srv, conn, client, e, inspector)

	// The application gives its users a cookie. A real application would sign it.
	h, err := monitor.New(conn, e, monitor.WithRootPath(root), monitor.WithActions(),
		monitor.WithLogger(slog.New(slog.DiscardHandler)),
		monitor.WithAuthorizer(func(r *http.Request) monitor.Viewer {
			c, err := r.Cookie("user")
			if err != nil {
				return monitor.Viewer{}
			}
			switch c.Value {
			case "operator":
				return monitor.Viewer{Name: c.Value, Access: monitor.AccessTypes}
			case "auditor":
				return monitor.Viewer{Name: c.Value, Access: monitor.AccessPayloads}
			case "admin":
				return monitor.Viewer{Name: c.Value, Access: monitor.AccessTypes, CanAct: true}
			case "guest":
				return monitor.Viewer{Name: c.Value, Access: monitor.AccessCounts}
			default:
				return monitor.Viewer{}
			}
		}))
	require.NoError(t, err)
	defer h.Close()
	mux := http.NewServeMux()
	mux.Handle(h.RootPath()+"/", h)
	app := httptest.NewServer(mux)
	defer app.Close()

	// Another application on the same host gets the same cookies, because another port is another origin but not
	// another site.
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `<!doctype html><body><script>
			const o = {method: "POST", mode: "no-cors", credentials: "include"};
			Promise.allSettled([fetch(%[1]q, o), fetch(%[2]q, {mode: "no-cors", credentials: "include"})])
				.then(() => document.body.append("sent"))
			</script><form method="post" action=%[1]q></form></body>`,
			app.URL+root+"/api/queues/idle:pause", app.URL+root+"/api/queues/default/retry_tasks")
	}))
	defer evil.Close()

	var visits []visit
	for _, user := range []string{"guest", "operator", "auditor"} {
		for name, path := range map[string]string{
			"queues":      "/",
			"active":      "/queues/default?status=active",
			"pending":     "/queues/idle?status=pending",
			"aggregating": "/queues/idle?status=aggregating",
			"scheduled":   "/queues/default?status=scheduled",
			"retry":       "/queues/default?status=retry",
			"archived":    "/queues/default?status=archived",
			"completed":   "/queues/default?status=completed",
			"details":     "/queues/default/tasks/" + ids["retry"],
			"result":      "/queues/default/tasks/" + ids["completed"],
			"schedulers":  "/schedulers",
			"servers":     "/servers",
			"redis":       "/redis",
			"settings":    "/settings",
		} {
			v := visit{User: user, Name: name, Path: root + path}
			switch name {
			case "servers":
				v.Steps = []step{{At: `[aria-label="expand row"]`}}
			case "schedulers":
				v.Expect = map[bool]string{true: "No entries", false: typename}[user == "guest"]
			case "aggregating":
				v.Steps = []step{{At: `input[role="combobox"], .MuiAutocomplete-root input`}, {At: `[role="option"]`}, {At: `table`, Hover: true}}
			case "queues", "redis", "settings":
			case "details", "result":
				v.Expect = "Task Info"
			default:
				v.Expect = map[bool]string{true: "sealed:", false: typename}[user == "guest"]
			}
			visits = append(visits, v)
		}
	}
	visits = append(visits,
		visit{User: "nobody", Name: "queues", Path: root + "/", Expect: "forbidden"},
		visit{User: "operator", Name: "history", Path: root + "/schedulers", Steps: []step{{At: `[aria-label="expand row"]`}}, Expect: typename},
		visit{User: "operator", Name: "hover", Path: root + "/", Expect: "default", Steps: []step{{At: `tbody tr:has-text("idle") td:last-child`, Hover: true}}},
		visit{User: "admin", Name: "evil", Path: evil.URL, Expect: "sent"},
		visit{User: "admin", Name: "hover", Path: root + "/", Expect: "default", Steps: []step{{At: `tbody tr:has-text("idle") td:last-child`, Hover: true}}},
	)
	narrow := map[string]string{"queues": "/", "scheduled": "/queues/default?status=scheduled", "details": "/queues/default/tasks/" + ids["retry"], "schedulers": "/schedulers", "servers": "/servers", "redis": "/redis"}
	for name, path := range narrow {
		visits = append(visits, visit{User: "operator", Name: "narrow " + name, Path: root + path, Width: 420})
	}
	s := browse(t, app.URL, visits)
	for name := range narrow {
		assert.LessOrEqual(t, s.Overflow["operator/narrow "+name], 0, "%s is wider than the window", name)
	}
	assert.Contains(t, s.Texts["operator/queues"], "Payloads are withheld: you are operator")
	assert.NotContains(t, s.Texts["auditor/queues"], "Payloads are withheld")

	for _, list := range []string{"active", "pending", "aggregating", "scheduled", "retry", "archived", "completed", "details", "result", "schedulers", "servers"} {
		guest, operator, auditor := s.Texts["guest/"+list], s.Texts["operator/"+list], s.Texts["auditor/"+list]
		assert.NotContains(t, guest, typename, list)
		if list != "servers" { // asynqmon has no column for it in the others
			assert.Contains(t, operator, typename, list)
			assert.Contains(t, auditor, typename, list)
		}
		for _, c := range []string{secret, answer, trouble} {
			assert.NotContains(t, guest, c, list)
			assert.NotContains(t, operator, c, list)
		}
		assert.Contains(t, operator, "[withheld]", list)
		assert.Contains(t, auditor, secret, list)
		assert.NotContains(t, auditor, "[withheld]", list)
	}
	assert.Contains(t, s.Texts["auditor/completed"], answer)
	assert.Contains(t, s.Texts["auditor/result"], answer)
	for _, list := range []string{"retry", "archived", "details"} {
		assert.Contains(t, s.Texts["auditor/"+list], trouble)
	}
	assert.Contains(t, s.Texts["operator/schedulers"], `Name("nightly settlement")`)
	assert.Contains(t, s.Texts["operator/history"], "Recent History")
	assert.Contains(t, s.Texts["guest/queues"], "default", "numbers are shown to the guest")
	assert.NotContains(t, s.Texts["nobody/queues"], "default")

	assert.Zero(t, s.Actions["operator/hover"], "read-only")
	assert.NotZero(t, s.Actions["admin/hover"], "buttons")
	info, err := inspector.GetQueueInfo("idle")
	require.NoError(t, err)
	assert.False(t, info.Paused, "another origin paused the queue")
	browse(t, app.URL, []visit{{User: "admin", Name: "pause", Path: root + "/", Expect: "default", Steps: []step{
		{At: `tbody tr:has-text("idle") td:last-child`, Hover: true}, {At: `tbody tr:has-text("idle") button[title="Pause"]`},
	}}})
	info, err = inspector.GetQueueInfo("idle")
	require.NoError(t, err)
	assert.True(t, info.Paused, "who may act can")

	require.NotEmpty(t, s.Requests)
	for _, url := range s.Requests {
		ok := strings.HasPrefix(url, app.URL+root) || strings.HasPrefix(url, "data:") ||
			strings.HasPrefix(url, evil.URL) || url == app.URL+"/favicon.ico"
		assert.True(t, ok, "asked for %s", url)
	}
	assert.Empty(t, s.Violations, "of the content security policy")
	for _, text := range s.Errors {
		expected := strings.HasPrefix(text, "nobody/") || strings.HasPrefix(text, "admin/evil")
		assert.True(t, expected, "error in the console: %s", text)
	}
	if dir := os.Getenv("SCREENSHOTS"); dir != "" {
		shots, err := filepath.Glob(filepath.Join(dir, "*.png"))
		require.NoError(t, err)
		require.NotEmpty(t, shots)
	}
}

// fill brings jobs into every state. Its worker runs until the test ends.
func fill(t *testing.T, srv *redistest.Server, conn asynq.RedisConnOpt, client *asynqjobs.Client, e *jobs.Encryptor, inspector *asynq.Inspector) map[string]string {
	t.Helper()
	ids := map[string]string{}
	add := func(name string, opts ...asynq.Option) {
		payload, err := json.Marshal(map[string]any{"card": secret, "amount": 4200, "then": name})
		require.NoError(t, err)
		info, err := client.Enqueue(asynq.NewTask(typename, payload), opts...)
		require.NoError(t, err)
		ids[name] = info.ID
	}
	add("completed", asynq.Retention(time.Hour))
	add("retry", asynq.MaxRetry(5))
	add("archived", asynq.MaxRetry(0))
	add("active", asynq.Timeout(time.Hour))
	add("scheduled", asynq.ProcessIn(time.Hour))
	add("pending", asynq.Queue("idle"))
	add("aggregating", asynq.Queue("idle"), asynq.Group("batch"))
	scheduler, err := asynqjobs.NewScheduler(srv.Client(t), client)
	require.NoError(t, err)
	_, err = scheduler.ScheduleOnce(t.Context(), "nightly settlement", asynqjobs.Cron("30 4 * * *"), asynq.NewTask(typename, []byte(`{"card":"`+secret+`"}`)))
	require.NoError(t, err)

	release := make(chan struct{})
	sealed, err := asynqjobs.Handler(e, asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		var args struct{ Then string }
		if err := json.Unmarshal(task.Payload(), &args); err != nil {
			return err
		}
		switch args.Then {
		case "completed":
			return asynqjobs.WriteResult(ctx, []byte(`{"receipt":"`+answer+`"}`))
		case "active":
			<-release
			return nil
		default:
			return errors.New(trouble)
		}
	}))
	require.NoError(t, err)
	cfg, err := asynqjobs.Config(e, asynq.Config{
		TaskCheckInterval: 20 * time.Millisecond, LogLevel: asynq.FatalLevel,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
	})
	require.NoError(t, err)
	worker := asynq.NewServer(conn, cfg)
	require.NoError(t, worker.Start(sealed))
	t.Cleanup(worker.Shutdown)
	t.Cleanup(func() { close(release) })
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		info, err := inspector.GetQueueInfo("default")
		if !assert.NoError(c, err) {
			return
		}
		assert.Equal(c, []int{1, 1, 1, 1}, []int{info.Completed, info.Retry, info.Archived, info.Active})
		servers, err := inspector.Servers()
		assert.NoError(c, err)
		if assert.Len(c, servers, 1) {
			assert.Len(c, servers[0].ActiveWorkers, 1) // its heartbeat comes every five seconds
		}
	}, time.Minute, 50*time.Millisecond)
	return ids
}
