package fxjobs_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/fxmodule/fxjobs"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// The application's aggregator sees opened tasks, and its handler sees the task that the aggregator made.
func TestGroups(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	trace := server.Monitor(t)
	var box inbox
	var client *asynqjobs.Client
	run(t, jobsConfig(t, server.URL()), fxjobs.Worker, fx.Populate(&client),
		fx.Supply(asynq.Config{
			TaskCheckInterval: 20 * time.Millisecond, GroupGracePeriod: time.Hour, GroupMaxSize: 2, // the size ends the wait
			GroupAggregator: asynq.GroupAggregatorFunc(func(_ string, tasks []*asynq.Task) *asynq.Task {
				var all []byte
				for _, task := range tasks {
					all = append(append(all, task.Payload()...), ' ')
				}
				return asynq.NewTask("mail:all", all)
			}),
		}),
		fx.Provide(func() *asynq.ServeMux {
			mux := asynq.NewServeMux()
			mux.HandleFunc("mail:all", func(_ context.Context, task *asynq.Task) error {
				box.take(string(task.Payload()))
				return nil
			})
			return mux
		}))
	for range 2 {
		_, err := client.EnqueueContext(t.Context(), asynq.NewTask("mail:one", []byte(canary)), asynq.Group("g"))
		require.NoError(t, err)
	}
	sealtest.Eventually(t, func() bool { return box.len() == 1 })
	require.Equal(t, canary+" "+canary+" ", box.mail[0])
	require.NotContains(t, string(trace.Bytes(t)), canary)
}

// A group member under a key that the worker does not have yet returns to its group, and runs when the worker has it.
func TestGroupsOfAKeyToCome(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	config := jobsConfig(t, server.URL())
	ahead, path := config, filepath.Join(t.TempDir(), "ahead.json")
	ahead.Caches = map[string]fxmodule.Cache{"default": {Store: "memory://", KEK: "file://" + path + "?reload=off", Namespace: "shop"}}
	own := strings.TrimPrefix(config.Caches["default"].KEK, "file://")
	rotated := sealtest.WithNewPrimary(t, own)
	require.NoError(t, os.WriteFile(path, rotated, 0o600))
	config.Caches["default"] = fxmodule.Cache{Store: "memory://", KEK: "file://" + own + "?reload=off", Namespace: "shop"}

	var box inbox
	var inspector *asynq.Inspector
	run(t, config, fxjobs.Worker, fx.Populate(&inspector), fx.Supply(asynq.Config{
		TaskCheckInterval: 20 * time.Millisecond, DelayedTaskCheckInterval: 50 * time.Millisecond, GroupGracePeriod: time.Second,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Second },
		GroupAggregator: asynq.GroupAggregatorFunc(func(_ string, tasks []*asynq.Task) *asynq.Task {
			return asynq.NewTask("mail:all", tasks[0].Payload())
		}),
	}), fx.Provide(func() *asynq.ServeMux {
		mux := asynq.NewServeMux()
		mux.HandleFunc("mail:all", func(_ context.Context, task *asynq.Task) error {
			box.take(string(task.Payload()))
			return nil
		})
		return mux
	}))
	var client *asynqjobs.Client
	run(t, ahead, fx.Populate(&client))
	_, err := client.EnqueueContext(t.Context(), asynq.NewTask("mail:one", []byte(canary)), asynq.Group("g"))
	require.NoError(t, err)
	sealtest.Eventually(t, func() bool {
		waiting, err := inspector.ListRetryTasks("default")
		return err == nil && len(waiting) == 1
	})
	require.Zero(t, box.len())
	require.NoError(t, os.WriteFile(own, rotated, 0o600))
	require.Eventually(t, func() bool { return box.len() == 1 }, time.Minute, 20*time.Millisecond)
	require.Equal(t, canary, box.mail[0])
}
