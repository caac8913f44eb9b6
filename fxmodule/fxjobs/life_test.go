package fxjobs_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/fxmodule/fxjobs"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

// Jobs run, fail and run again, and results open. Redis receives and keeps no plaintext.
func TestJobsLife(t *testing.T) {
	t.Parallel()
	server := redistest.StartWith(t, redistest.Options{Password: secret})
	trace := server.Monitor(t)
	var box inbox
	var client *asynqjobs.Client
	var inspector *asynq.Inspector
	var health *fxmodule.Health
	var tries atomic.Int32
	config := jobsConfig(t, server.URL())
	config.Jobs.Queues = map[string]int{"default": 2, "slow": 1}
	app := newApp(config, worker(func(ctx context.Context, args mailArgs) error {
		if strings.HasPrefix(args.To, "again") && tries.Add(1) == 1 {
			return errors.New("no route to " + args.To)
		}
		box.take(args.To)
		return asynqjobs.WriteResult(ctx, []byte("sent to "+args.To))
	}), fx.Populate(&client, &inspector, &health))
	start(t, app)
	ctx := t.Context()
	require.NoError(t, health.Check(ctx))
	info, err := mail().Delay(ctx, client, mailArgs{canary})
	require.NoError(t, err)
	_, err = mail().Delay(ctx, client, mailArgs{"again " + canary}, asynq.Queue("slow"))
	require.NoError(t, err)
	_, err = mail().Delay(ctx, client, mailArgs{"later " + canary}, asynq.Unique(time.Hour), asynq.ProcessIn(time.Hour))
	require.NoError(t, err)
	_, err = mail().Delay(ctx, client, mailArgs{"later " + canary}, asynq.Unique(time.Hour), asynq.ProcessIn(time.Hour))
	require.ErrorIs(t, err, asynq.ErrDuplicateTask)
	sealtest.Eventually(t, func() bool { return box.len() == 2 })
	sealtest.Eventually(t, func() bool {
		info, err = inspector.GetTaskInfo("default", info.ID)
		return err == nil && info.State == asynq.TaskStateCompleted
	})
	result, err := client.OpenResult(ctx, info)
	require.NoError(t, err)
	require.Equal(t, "sent to "+canary, string(result))

	said := string(trace.Bytes(t))
	require.Contains(t, said, "asynq:{slow}", "the search finds commands")
	for name, content := range server.DumpFiles(t) {
		said += name + string(content)
	}
	require.NotContains(t, said, canary)
	require.NotContains(t, said, "canary-type")
}

func TestJobsOnSentinelAndCluster(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"Sentinel": func(t *testing.T) string { t.Helper(); return redistest.StartSentinel(t).URL() },
		"Cluster":  func(t *testing.T) string { t.Helper(); return redistest.StartCluster(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var box inbox
			var client *asynqjobs.Client
			var scheduler *asynqjobs.Scheduler
			var page *monitor.Handler
			var health *fxmodule.Health
			run(t, jobsConfig(t, url(t)), fxjobs.Monitor(operators), worker(func(_ context.Context, args mailArgs) error {
				box.take(args.To)
				return nil
			}), fx.Populate(&client, &scheduler, &page, &health))
			require.NoError(t, health.Check(t.Context()))
			_, err := mail().Delay(t.Context(), client, mailArgs{canary})
			require.NoError(t, err)
			_, err = mail().ScheduleOnce(t.Context(), scheduler, "every second", asynqjobs.Every(time.Second), mailArgs{"tick"})
			require.NoError(t, err)
			sealtest.Eventually(t, func() bool { return box.len() >= 3 })
			w := httptest.NewRecorder()
			page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/queues", nil))
			require.Equal(t, http.StatusOK, w.Code, w.Body)
			require.Contains(t, w.Body.String(), `"default"`)
		})
	}
}

// Two applications run one schedule, and each tick runs once.
func TestSchedulerOverTwoApplications(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	config := jobsConfig(t, server.URL())
	config.Jobs.Schedules = fxmodule.Schedules{CatchUp: time.Second}
	var box inbox
	handle := func(_ context.Context, args mailArgs) error {
		box.take(args.To)
		return nil
	}
	var changes atomic.Int32
	schedule := fx.Invoke(func(lc fx.Lifecycle, s *asynqjobs.Scheduler) {
		lc.Append(fx.StartHook(func(ctx context.Context) error {
			changed, err := mail().ScheduleOnce(ctx, s, "digest", asynqjobs.Every(time.Second), mailArgs{"digest"})
			if changed {
				changes.Add(1)
			}
			return err
		}))
	})
	began := time.Now()
	first, second := newApp(config, worker(handle), schedule), newApp(config, worker(handle), schedule)
	for _, app := range []*fx.App{first, second} {
		require.NoError(t, app.Start(t.Context()))
	}
	sealtest.Eventually(t, func() bool { return box.len() >= 3 })
	stop(t, first) // the other goes on
	sealtest.Eventually(t, func() bool { return box.len() >= 5 })
	stop(t, second)
	require.LessOrEqual(t, box.len(), int(time.Since(began).Seconds()), "once per second")
	require.EqualValues(t, 1, changes.Load())
}

// If no part of the application takes the jobs, no connection is opened and Redis may be absent. A process that takes
// only the client runs no server.
func TestJobsAreLazy(t *testing.T) {
	t.Parallel()
	run(t, jobsConfig(t, "redis://127.0.0.1:1"))

	server := redistest.Start(t)
	rdb := server.Client(t)
	var client *asynqjobs.Client
	var health *fxmodule.Health
	run(t, jobsConfig(t, server.URL()), fx.Populate(&client, &health))
	require.NoError(t, client.Ping())
	_, err := mail().Delay(t.Context(), client, mailArgs{canary})
	require.NoError(t, err)
	servers, err := asynq.NewInspectorFromRedisClient(rdb).Servers()
	require.NoError(t, err)
	require.Empty(t, servers)

	w := httptest.NewRecorder()
	health.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	require.JSONEq(t, `{"status":"ok","caches":{"default":"ok"},"jobs":"ok"}`, w.Body.String())
	require.NoError(t, server.Kill())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var failed *fxmodule.JobsError
	require.ErrorAs(t, health.Check(ctx), &failed)
	require.Equal(t, fxmodule.PartStore, failed.Part)
	w = httptest.NewRecorder()
	health.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.JSONEq(t, `{"status":"failing","caches":{"default":"ok"},"jobs":"store"}`, w.Body.String())
}

// Each state of a rollout has its form of writing, and its rule for plaintext tasks. Sealed tasks always run.
func TestPlaintextPolicies(t *testing.T) {
	t.Parallel()
	until := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		policy                jobs.PlaintextPolicy
		until                 time.Time
		writesPlaintext, runs bool
	}{
		"prepare":  {jobs.WritePlaintext, until, true, true},
		"tolerate": {jobs.ReadPlaintext, until, false, true},
		"require":  {jobs.RejectPlaintext, time.Time{}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			config := jobsConfig(t, server.URL())
			config.Jobs.HiddenTypes = false
			sealing := config
			config.Jobs.Plaintext, config.Jobs.PlaintextUntil = c.policy, c.until
			var box inbox
			var own, other *asynqjobs.Client
			var inspector *asynq.Inspector
			run(t, sealing, fx.Populate(&other))
			run(t, config, fx.Populate(&own, &inspector), worker(func(_ context.Context, args mailArgs) error {
				box.take(args.To)
				return nil
			}))
			state := func(info *asynq.TaskInfo, want asynq.TaskState) (now *asynq.TaskInfo) {
				t.Helper()
				sealtest.Eventually(t, func() bool {
					var err error
					now, err = inspector.GetTaskInfo("default", info.ID)
					return err == nil && now.State == want
				})
				return now
			}
			info, err := mail().Delay(t.Context(), own, mailArgs{"own"})
			require.NoError(t, err)
			require.Equal(t, c.writesPlaintext, !jobs.IsSealed(state(info, asynq.TaskStateCompleted).Payload))
			info, err = mail().Delay(t.Context(), other, mailArgs{"sealed"})
			require.NoError(t, err)
			state(info, asynq.TaskStateCompleted)
			bare := asynq.NewClientFromRedisClient(server.Client(t))
			info, err = bare.Enqueue(asynq.NewTask("mail:canary-type", []byte(`{"To":"plaintext"}`), asynq.Retention(time.Hour)))
			require.NoError(t, err)
			want := []string{"own", "sealed"}
			if c.runs {
				state(info, asynq.TaskStateCompleted)
				want = append(want, "plaintext")
			} else {
				state(info, asynq.TaskStateArchived)
			}
			require.Equal(t, want, box.mail)
		})
	}
}
