package asynqjobs_test

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/leaktest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// A payload that is changed is sealed, for the same place, and everything else stays.
func TestPayloadsAreChangedSealed(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]asynqjobs.Option{"open": nil, "hidden": {asynqjobs.WithHiddenTypes()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil, opts...)
			var c leaktest.Set
			for _, task := range []*asynq.Task{
				asynq.NewTask("part", []byte("before")),
				asynq.NewTaskWithHeaders("part", nil, map[string]string{"trace": "1"}),
			} {
				for _, opts := range [][]asynq.Option{nil, {asynq.Group("g")}, {asynq.Queue("low"), asynq.TaskID("7")}} {
					info, err := b.client.Enqueue(task, append(opts, asynq.ProcessIn(time.Hour))...)
					require.NoError(t, err)
					payload := c.Text("after")
					require.NoError(t, b.client.UpdateTaskPayload(t.Context(), b.inspector, info.Queue, info.ID, []byte(payload)))
					require.Empty(t, c.Find(database(t, b.rdb)))
					info, err = b.inspector.GetTaskInfo(info.Queue, info.ID)
					require.NoError(t, err)
					got, err := asynqjobs.OpenTask(t.Context(), b.e, info)
					require.NoError(t, err)
					require.Equal(t, payload, string(got.Payload()))
					require.Equal(t, "part", got.Type())
					require.Equal(t, task.Headers(), got.Headers())
					var rec recorder
					require.NoError(t, b.inspector.RunTask(info.Queue, info.ID))
					stop := serve(t, b.conn, b.e, asynq.Config{Queues: map[string]int{"default": 1, "low": 1}}, rec.handler())
					eventually(t, "run", patience, func() bool { return len(rec.all()) == 1 })
					stop()
					require.Equal(t, []string{"part: " + payload}, rec.all())
				}
			}
		})
	}
}

func TestPayloadsThatCannotBeChanged(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	update := func(info *asynq.TaskInfo) error {
		before, err := b.inspector.GetTaskInfo(info.Queue, info.ID)
		require.NoError(t, err)
		err = b.client.UpdateTaskPayload(t.Context(), b.inspector, info.Queue, info.ID, []byte("after"))
		after, infoErr := b.inspector.GetTaskInfo(info.Queue, info.ID)
		require.NoError(t, infoErr)
		require.Equal(t, before.Payload, after.Payload)
		return err
	}
	later := asynq.ProcessIn(time.Hour)
	info, err := b.client.Enqueue(asynq.NewTask("part", []byte("before")), asynq.Unique(time.Hour), later)
	require.NoError(t, err)
	require.ErrorContains(t, update(info), "a unique task keeps its payload (delete it and enqueue another)")
	info, err = b.plain.Enqueue(asynq.NewTask("part", []byte("before")), later)
	require.NoError(t, err)
	require.ErrorIs(t, update(info), jobs.ErrNotSealed)
	info, err = newClient(t, b.conn, newEncryptor(t, nil)).Enqueue(asynq.NewTask("part", []byte("before")), later)
	require.NoError(t, err)
	require.ErrorIs(t, update(info), jobs.ErrUnknownKey)
	info, err = b.client.Enqueue(asynq.NewTask("part", []byte("before")))
	require.NoError(t, err)
	require.Error(t, update(info), "asynq changes those that are scheduled")
	require.ErrorIs(t, b.client.UpdateTaskPayload(t.Context(), b.inspector, "default", "none", nil), asynq.ErrTaskNotFound)
	require.Error(t, b.client.UpdateTaskPayload(t.Context(), nil, "default", "none", nil))

	g := newGroupAggregation(t)
	_, out := g.aggregate(b.e, g.members(newEncryptor(t, nil), 1, 10), nil)
	info, err = b.plain.Enqueue(out, later)
	require.NoError(t, err)
	require.ErrorContains(t, update(info), "only stores a group's unopened task")
}
