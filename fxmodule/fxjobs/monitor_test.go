package fxjobs_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule/fxjobs"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

// Two users of the mounted page: only the auditor sees payloads, and the audit records it.
func TestMonitorOverHTTP(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var page *monitor.Handler
	var client *asynqjobs.Client
	var seen inbox
	authorize := func(r *http.Request) monitor.Viewer {
		switch user, _, _ := r.BasicAuth(); user {
		case "auditor":
			return monitor.Viewer{Name: user, Access: monitor.AccessPayloads}
		case "operator":
			return monitor.Viewer{Name: user, Access: monitor.AccessTypes}
		}
		return monitor.Viewer{}
	}
	audit := func(_ context.Context, r monitor.Record) error {
		seen.take(r.Viewer)
		return nil
	}
	anyone := func(*http.Request) monitor.Viewer { return monitor.Viewer{Name: "x", Access: monitor.AccessPayloads} }
	run(t, jobsConfig(t, server.URL()), fx.Populate(&page, &client),
		fxjobs.Monitor(authorize, monitor.WithRootPath("/admin/jobs"), monitor.WithAudit(audit),
			monitor.WithAuthorizer(anyone))) // Monitor's own authorizer counts
	_, err := mail().Delay(t.Context(), client, mailArgs{canary}, asynq.TaskID("1"))
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle(page.RootPath()+"/", page)
	web := httptest.NewServer(mux)
	defer web.Close()
	get := func(user string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL+"/admin/jobs/api/queues/default/tasks/1", nil)
		require.NoError(t, err)
		r.SetBasicAuth(user, "")
		answer, err := web.Client().Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		var b bytes.Buffer
		_, err = io.Copy(&b, answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, b.String()
	}
	code, body := get("auditor")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, canary)
	require.Contains(t, body, "mail:canary-type")
	code, body = get("operator")
	require.Equal(t, http.StatusOK, code)
	require.NotContains(t, body, canary)
	require.Contains(t, body, "mail:canary-type")
	code, body = get("nobody")
	require.Equal(t, http.StatusForbidden, code)
	require.NotContains(t, body, canary)
	require.Equal(t, []string{"auditor"}, seen.mail)
}

// An application that closes the page at stop, as its package says, leaves the connection to the others: a running job ends.
func TestMonitorClosedByItsOwner(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var client *asynqjobs.Client
	begun, closed := make(chan struct{}), make(chan struct{})
	app := newApp(jobsConfig(t, server.URL()), fxjobs.Monitor(operators), fx.Populate(&client),
		worker(func(context.Context, mailArgs) error {
			close(begun)
			<-closed
			return client.Ping()
		}),
		fx.Invoke(func(lc fx.Lifecycle, page *monitor.Handler) {
			lc.Append(fx.StopHook(func() error {
				defer close(closed)
				return page.Close()
			}))
		}))
	require.NoError(t, app.Start(t.Context()))
	_, err := mail().Delay(t.Context(), client, mailArgs{canary}, asynq.TaskID("1"), asynq.MaxRetry(0))
	require.NoError(t, err)
	<-begun
	stop(t, app)
	info, err := asynq.NewInspectorFromRedisClient(server.Client(t)).GetTaskInfo("default", "1")
	require.NoError(t, err)
	require.Equal(t, asynq.TaskStateCompleted, info.State)
}
