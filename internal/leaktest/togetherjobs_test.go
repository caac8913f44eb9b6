package leaktest_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/reporttest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// asynqLog writes the log of asynq itself to the reports.
type asynqLog struct{ r *reporttest.Reports }

func (l asynqLog) Debug(args ...any) { l.r.Logger.Debug("asynq", "text", fmt.Sprint(args...)) }
func (l asynqLog) Info(args ...any)  { l.Debug(args...) }
func (l asynqLog) Warn(args ...any)  { l.Debug(args...) }
func (l asynqLog) Error(args ...any) { l.Debug(args...) }
func (l asynqLog) Fatal(args ...any) { l.Debug(args...) }

// useJobs runs jobs of every kind.
func (a *application) useJobs(t *testing.T, keys tink.AEADWithContext) {
	t.Helper()
	ctx, conn := t.Context(), asynq.RedisClientOpt{Addr: a.server.Addr()}
	e, err := jobs.NewEncryptor(keys, jobs.WithPRF(sealtest.PRF(t, 1)), jobs.WithLogger(a.Logger), jobs.WithMeterProvider(a.Meters))
	require.NoError(t, err)
	group := asynq.NewClient(conn)
	defer group.Close()
	opts := []asynqjobs.Option{
		asynqjobs.WithHiddenTypes(), asynqjobs.WithLogger(a.Logger), asynqjobs.WithMeterProvider(a.Meters),
		asynqjobs.WithTracerProvider(a.Tracers), asynqjobs.WithGroupClient(group),
	}
	client, err := asynqjobs.NewClient(asynq.NewClient(conn), e, opts...)
	require.NoError(t, err)
	defer client.Close()
	ended := a.serveJobs(t, conn, e, opts)

	typename := a.text("type of a job")
	task := func(kind string) *asynq.Task {
		return asynq.NewTaskWithHeaders(typename+":"+kind, []byte(kind+" "+a.text("payload of "+kind)), map[string]string{"trace": a.text("header of " + kind)})
	}
	s, err := asynqjobs.NewScheduler(a.server.Client(t), client)
	require.NoError(t, err)
	running, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- s.Run(running) }()
	_, err = s.ScheduleOnce(ctx, a.text("name of a schedule"), asynqjobs.Every(time.Second), task("tick"))
	require.NoError(t, a.Err(err))

	for kind, o := range map[string][]asynq.Option{
		"success": {asynq.Retention(time.Hour)},
		"unique":  {asynq.Unique(time.Hour), asynq.Retention(time.Hour)},
		"pending": {asynq.Queue("unserved"), asynq.Unique(time.Hour)},
		"later":   {asynq.ProcessIn(time.Hour)},
		"retry":   {asynq.Retention(time.Hour)},
		"fail":    nil,
		"panic":   nil,
		"member":  {asynq.Group("g")},
		"waiting": {asynq.Group("g"), asynq.Queue("unserved")},
	} {
		one := task(kind)
		_, err := client.EnqueueContext(ctx, one, o...)
		require.NoError(t, a.Err(err))
		if kind == "unique" {
			_, err = client.EnqueueContext(ctx, one, o...)
			require.ErrorIs(t, a.Err(err), asynq.ErrDuplicateTask)
		}
	}
	// Plaintext and a moved payload are refused.
	plain := asynq.NewClient(conn)
	defer plain.Close()
	_, err = plain.EnqueueContext(ctx, asynq.NewTask("planted", []byte("planted")))
	require.NoError(t, err)
	inspector := asynq.NewInspector(conn)
	defer inspector.Close()
	sealtest.Eventually(t, func() bool {
		archived, err := inspector.ListArchivedTasks("default")
		return err == nil && len(archived) == 2 && ended("success", "unique", "retry", "fail", "panic", "batch", "tick")
	})
	_, err = s.List(ctx)
	require.NoError(t, a.Err(err))
	stop()
	require.NoError(t, <-ran)
}

// serveJobs runs workers until the test ends. The function that it returns reports whether jobs of these kinds have run.
func (a *application) serveJobs(t *testing.T, conn asynq.RedisConnOpt, e *jobs.Encryptor, opts []asynqjobs.Option) (ended func(kinds ...string) bool) {
	t.Helper()
	var mu sync.Mutex
	runs := map[string]int{}
	text := func(name string) string {
		mu.Lock()
		defer mu.Unlock()
		return a.text(name)
	}
	cfg, err := asynqjobs.Config(e, asynq.Config{
		Concurrency: 4, TaskCheckInterval: 20 * time.Millisecond, DelayedTaskCheckInterval: 100 * time.Millisecond,
		GroupGracePeriod: time.Second, Logger: asynqLog{a.Reports}, LogLevel: asynq.InfoLevel, ShutdownTimeout: 2 * time.Second,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return 100 * time.Millisecond },
		ErrorHandler:   asynq.ErrorHandlerFunc(func(context.Context, *asynq.Task, error) {}),
		GroupAggregator: asynq.GroupAggregatorFunc(func(_ string, tasks []*asynq.Task) *asynq.Task {
			return asynq.NewTask(tasks[0].Type(), append([]byte("batch "), tasks[0].Payload()...), asynq.Retention(time.Hour))
		}),
	}, opts...)
	require.NoError(t, err)
	h, err := asynqjobs.Handler(e, asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		kind, _, _ := strings.Cut(string(task.Payload()), " ")
		mu.Lock()
		runs[kind]++
		first := runs[kind] == 1
		mu.Unlock()
		switch {
		case kind == "retry" && first:
			return fmt.Errorf("the handler quotes %s", text("error text"))
		case kind == "panic" && first:
			panic(text("panic text"))
		case kind == "fail":
			return fmt.Errorf("%s: %w", text("last error text"), asynq.SkipRetry)
		}
		return asynqjobs.WriteResult(ctx, []byte(text("result")))
	}), opts...)
	require.NoError(t, err)
	server := asynq.NewServer(conn, cfg)
	require.NoError(t, server.Start(h))
	t.Cleanup(server.Shutdown)
	return func(kinds ...string) bool {
		mu.Lock()
		defer mu.Unlock()
		for _, kind := range kinds {
			if again := map[string]int{"retry": 2, "panic": 2}[kind]; runs[kind] < max(1, again) {
				return false
			}
		}
		return true
	}
}
