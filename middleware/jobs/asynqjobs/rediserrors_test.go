package asynqjobs_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// Text that an error of the server quotes is not passed on.
func TestRedisErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	ctx := t.Context()
	// asynq's script fails on a key of another type.
	require.NoError(t, b.rdb.Set(ctx, "asynq:{default}:t:an-id", "x", 0).Err())
	require.NoError(t, b.rdb.Set(ctx, "asynq:{default}:pending", "x", 0).Err())
	_, err := b.client.Enqueue(asynq.NewTask("secret-type", []byte("secret")), asynq.TaskID("another"))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
	_, err = b.client.Enqueue(asynq.NewTask("t", nil), asynq.TaskID("an-id"))
	require.ErrorIs(t, err, asynq.ErrTaskIDConflict)
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	_, err = b.client.EnqueueContext(ctx, asynq.NewTask("t", nil))
	require.ErrorIs(t, err, context.Canceled)
}

// quotingRedis returns the address of a Redis whose every answer is an error that quotes a canary.
func quotingRedis(t *testing.T) string {
	t.Helper()
	return redistest.Answering(t, func(command string) string {
		return "-ERR unknown command '" + command + "', with args beginning with: 'canary-value' "
	})
}

// No output of this package quotes what an error of the server quotes, but an operator sees the operation that failed.
func TestRedisErrorsOfAllParts(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: quotingRedis(t), MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	e := newEncryptor(t, nil)
	var logs sealtest.Logs
	opts := []asynqjobs.Option{asynqjobs.WithLogger(logs.Logger()), asynqjobs.WithPipeline(rdb)}
	c, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), e, opts...)
	require.NoError(t, err)
	s, err := asynqjobs.NewScheduler(rdb, c)
	require.NoError(t, err)
	ctx := t.Context()
	task := asynq.NewTask("t", nil)
	for name, call := range map[string]func() error{
		"Ping":    c.Ping,
		"Enqueue": func() error { _, err := c.Enqueue(task); return err },
		"EnqueueMany": func() error {
			_, err := c.EnqueueMany(ctx, []*asynq.Task{task, task})
			return err
		},
		"UpdateTaskPayload": func() error {
			return c.UpdateTaskPayload(ctx, asynq.NewInspectorFromRedisClient(rdb), "default", "id", nil)
		},
		"ScheduleOnce": func() error { _, err := s.ScheduleOnce(ctx, "n", asynqjobs.Every(time.Hour), task); return err },
		"Cancel":       func() error { _, err := s.Cancel(ctx, "n"); return err },
		"List":         func() error { _, err := s.List(ctx); return err },
		"Sync":         func() error { _, err := s.Sync(ctx, nil); return err },
	} {
		err := call()
		require.ErrorContains(t, err, "ERR unknown command '", name)
		require.NotContains(t, err.Error(), "canary", name)
	}
	require.NotContains(t, logs.String(), "canary")

	running, end := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(running) }()
	sealtest.Eventually(t, func() bool { return strings.Contains(logs.String(), "the scheduler failed") })
	end()
	require.NoError(t, <-ended)
	require.Contains(t, logs.String(), "cannot read the schedules in Redis: ERR unknown command")
	require.NotContains(t, logs.String(), "canary")
}

// asynq prints errors of Redis into its log lines and passes them to HealthCheckFunc.
func TestRedisErrorsInLinesOfAsynq(t *testing.T) {
	t.Parallel()
	for name, own := range map[string]bool{"the logger of WithLogger": false, "the logger of asynq.Config": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := redis.NewClient(&redis.Options{Addr: quotingRedis(t), MaxRetries: -1})
			t.Cleanup(func() { _ = rdb.Close() })
			var logs sealtest.Logs
			checks := make(chan error, 1)
			cfg := asynq.Config{
				TaskCheckInterval: 10 * time.Millisecond, DelayedTaskCheckInterval: 10 * time.Millisecond, JanitorInterval: 10 * time.Millisecond,
				HealthCheckInterval: 10 * time.Millisecond, LogLevel: asynq.DebugLevel,
				GroupAggregator: asynq.GroupAggregatorFunc(func(string, []*asynq.Task) *asynq.Task { return nil }),
				HealthCheckFunc: func(err error) {
					select {
					case checks <- err:
					default:
					}
				},
			}
			opts := []asynqjobs.Option{asynqjobs.WithLogger(logs.Logger()), asynqjobs.WithGroupClient(asynq.NewClientFromRedisClient(rdb))}
			if own {
				cfg.Logger = linesOf{&logs}
				opts[0] = asynqjobs.WithLogger(quiet)
			}
			cfg, err := asynqjobs.Config(newEncryptor(t, nil), cfg, opts...)
			require.NoError(t, err)
			server := asynq.NewServerFromRedisClient(rdb, cfg)
			require.NoError(t, server.Start(never(t)))
			err = <-checks
			require.ErrorContains(t, err, "ERR unknown command 'ping'")
			require.NotContains(t, err.Error(), "canary")
			for _, operation := range []string{
				"Dequeue error: ", "Failed to forward scheduled tasks: ", "Failed to write server state data: ",
				"Failed to list groups in queue: ", "Failed to delete expired completed tasks from queue ",
			} {
				sealtest.Eventually(t, func() bool { return strings.Contains(logs.String(), operation) }, operation)
			}
			server.Shutdown()
			require.Contains(t, logs.String(), "ERR unknown command")
			require.Contains(t, logs.String(), "Starting processing")
			require.NotContains(t, logs.String(), "canary")
		})
	}
}

// linesOf is an asynq.Logger that writes lines as asynq's own does.
type linesOf struct{ w io.Writer }

func (l linesOf) Debug(args ...any) { _, _ = fmt.Fprintln(l.w, fmt.Sprint(args...)) }
func (l linesOf) Info(args ...any)  { l.Debug(args...) }
func (l linesOf) Warn(args ...any)  { l.Debug(args...) }
func (l linesOf) Error(args ...any) { l.Debug(args...) }
func (l linesOf) Fatal(args ...any) { l.Debug(args...) }

// The stack trace of a panic stays in asynq's log, without the arguments of functions.
func TestStackTracesInLinesOfAsynq(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	var logs sealtest.Logs
	cfg, err := asynqjobs.Config(b.e, asynq.Config{Concurrency: 1, TaskCheckInterval: 10 * time.Millisecond}, asynqjobs.WithLogger(logs.Logger()))
	require.NoError(t, err)
	handler, err := asynqjobs.Handler(b.e, asynq.HandlerFunc(func(context.Context, *asynq.Task) error { panic("canary-panic") }), asynqjobs.WithLogger(quiet))
	require.NoError(t, err)
	server := asynq.NewServer(b.conn, cfg)
	require.NoError(t, server.Start(handler))
	_, err = b.client.Enqueue(asynq.NewTask("t", nil))
	require.NoError(t, err)
	sealtest.Eventually(t, func() bool { return strings.Contains(logs.String(), "recovering from panic") })
	server.Shutdown()
	require.Contains(t, logs.String(), "rediserrors_test.go:")
	require.Contains(t, logs.String(), "processor.go:")
	require.NotContains(t, logs.String(), "canary-panic")
	require.NotContains(t, logs.String(), "rest of the text not shown")
}
