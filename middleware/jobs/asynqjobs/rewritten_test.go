package asynqjobs_test

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// dropHeaders does what a worker older than asynq 0.26 does when it writes a task again: it knows no headers.
func (b *bench) dropHeaders(t *testing.T, queue, id string) {
	t.Helper()
	const headers = 15 // in asynq's TaskMessage
	key := "asynq:{" + queue + "}:t:" + id
	msg, err := b.rdb.HGet(t.Context(), key, "msg").Bytes()
	require.NoError(t, err)
	var out []byte
	for len(msg) > 0 {
		field, _, n := protowire.ConsumeField(msg)
		require.Positive(t, n)
		if field != headers {
			out = append(out, msg[:n]...)
		}
		msg = msg[n:]
	}
	require.NoError(t, b.rdb.HSet(t.Context(), key, "msg", out).Err())
}

// A unique task that an old worker has rewritten has lost its payload. It stays where an operator sees which job it was, says
// why, and keeps its uniqueness. Other tasks lose nothing.
func TestTasksThatOldWorkersRewrite(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	unique := asynq.NewTask("mail", []byte("unique"), asynq.Unique(time.Hour), asynq.MaxRetry(2))
	lost, err := b.client.Enqueue(unique, asynq.TaskID("unique"))
	require.NoError(t, err)
	b.dropHeaders(t, "default", lost.ID)
	other, err := b.client.Enqueue(asynq.NewTaskWithHeaders("mail", []byte("other"), map[string]string{"h": "v"}))
	require.NoError(t, err)
	b.dropHeaders(t, "default", other.ID)

	last, err := b.client.Enqueue(asynq.NewTask("mail", []byte("last"), asynq.Unique(time.Hour), asynq.MaxRetry(0)))
	require.NoError(t, err)
	b.dropHeaders(t, "default", last.ID)

	var rec recorder
	serve(t, b.conn, b.e, asynq.Config{}, rec.handler())
	for range 4 { // more often than it may be retried
		info := b.awaitState(t, "default", lost.ID, asynq.TaskStateRetry)
		require.Zero(t, info.Retried, "no try is used up")
		require.Contains(t, info.LastErr, "a worker older than asynq 0.26 has rewritten this task")
		reason, ok := asynqjobs.ReasonOf(info)
		require.True(t, ok)
		require.Equal(t, asynqjobs.ReasonRewritten, reason)
		require.WithinDuration(t, time.Now().Add(time.Hour), info.NextProcessAt, 5*time.Minute)
		failed := info.LastFailedAt
		require.NoError(t, b.inspector.RunTask("default", lost.ID))
		eventually(t, "tried again", patience, func() bool {
			again, err := b.inspector.GetTaskInfo("default", lost.ID)
			return err == nil && (again.LastFailedAt.After(failed) || again.State == asynq.TaskStateRetry)
		})
	}
	_, err = b.client.Enqueue(unique)
	require.ErrorIs(t, err, asynq.ErrDuplicateTask)
	_, err = asynqjobs.OpenTask(t.Context(), b.e, b.awaitState(t, "default", lost.ID, asynq.TaskStateRetry))
	require.ErrorContains(t, err, "(delete the task, enqueue the job again)")
	require.NoError(t, b.inspector.DeleteTask("default", lost.ID))
	_, err = b.client.Enqueue(unique, asynq.ProcessIn(time.Hour))
	require.NoError(t, err)
	eventually(t, "the other one", patience, func() bool { return len(rec.all()) > 0 })
	require.Equal(t, []string{"mail: other"}, rec.all())

	// asynq archives a task without a try left after any error.
	reason, ok := asynqjobs.ReasonOf(b.awaitState(t, "default", last.ID, asynq.TaskStateArchived))
	require.True(t, ok)
	require.Equal(t, asynqjobs.ReasonRewritten, reason)
}
