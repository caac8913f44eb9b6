package asynqjobs_test

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

func TestIsHiddenType(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, asynqjobs.WithHiddenTypes())
	info, err := b.client.Enqueue(asynq.NewTask("mail:welcome", nil), asynq.ProcessIn(time.Hour))
	require.NoError(t, err)
	require.False(t, asynqjobs.IsHiddenType(info.Type), "the client's own answer has the real name")
	info, err = b.inspector.GetTaskInfo("default", info.ID)
	require.NoError(t, err)
	require.True(t, asynqjobs.IsHiddenType(info.Type))
	task, err := asynqjobs.OpenTask(t.Context(), b.e, info)
	require.NoError(t, err)
	require.Equal(t, "mail:welcome", task.Type())
	for _, name := range []string{"", "mail:welcome", "sealed", "Sealed:x", "x sealed:"} {
		require.False(t, asynqjobs.IsHiddenType(name), name)
	}
}
