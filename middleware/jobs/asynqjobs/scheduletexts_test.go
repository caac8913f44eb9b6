package asynqjobs_test

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// The JSON of a definition holds no other bytes than UTF-8. Two names that it holds as one text would be one schedule.
func TestScheduleTextsAreUTF8(t *testing.T) {
	t.Parallel()
	w := newClockwork(t, asynqjobs.WithHiddenTypes())
	ctx, minutely, task := t.Context(), asynqjobs.Every(time.Minute), asynq.NewTask("t", nil)
	header := func(name, value string) *asynq.Task {
		return asynq.NewTaskWithHeaders("t", nil, map[string]string{name: value})
	}
	for want, tasks := range map[string][]asynqjobs.PeriodicTask{
		"the name is not valid UTF-8":              {{Name: "caf\xe9", When: minutely, Task: task}},
		"the schedule is not valid UTF-8":          {{Name: "a", When: asynqjobs.Cron("TZ=caf\xe9 * * * * *"), Task: task}},
		"the type of the task is not valid UTF-8":  {{Name: "a", When: minutely, Task: asynq.NewTask("caf\xe9", nil)}},
		"a header of the task is not valid UTF-8":  {{Name: "a", When: minutely, Task: header("h\xff", "v")}, {Name: "a", When: minutely, Task: header("h", "v\xff")}},
		"the name of the queue is not valid UTF-8": {{Name: "a", When: minutely, Task: task, Options: []asynq.Option{asynq.Queue("q\xff")}}},
	} {
		for _, p := range tasks {
			_, err := w.s.ScheduleOnce(ctx, p.Name, p.When, p.Task, p.Options...)
			require.ErrorContains(t, err, want)
			result, err := w.s.Sync(ctx, []asynqjobs.PeriodicTask{periodic("sound", time.Minute), p})
			require.ErrorContains(t, err, "task 1: periodic job: "+want)
			require.Zero(t, result)
		}
	}
	for _, name := range []string{"", "caf\xe9"} {
		_, err := w.s.Cancel(ctx, name)
		require.ErrorContains(t, err, "asynqjobs: Cancel: periodic job: the name", name)
	}
	require.Empty(t, w.m.Keys())

	// All other texts come back as they are. The replacement character is one of them.
	const text = "\ufffd<\u2028\x00é>"
	sound := asynq.NewTaskWithHeaders("t"+text, []byte("\xff\xfe"), map[string]string{"h" + text: "v" + text})
	for i := range 2 {
		changed, err := w.s.ScheduleOnce(ctx, text, minutely, sound, asynq.Queue("q"+text))
		require.NoError(t, err)
		require.Equal(t, i == 0, changed)
	}
	w.advance(time.Minute)
	w.run()
	infos, err := w.insp.ListPendingTasks("q" + text)
	require.NoError(t, err)
	require.Len(t, infos, 1)
	got, err := asynqjobs.OpenTask(ctx, w.e, infos[0])
	require.NoError(t, err)
	require.Equal(t, []any{sound.Type(), sound.Payload(), sound.Headers()}, []any{got.Type(), got.Payload(), got.Headers()})
	require.Equal(t, []string{text}, w.names(w.s))
	canceled, err := w.s.Cancel(ctx, text)
	require.NoError(t, err)
	require.True(t, canceled)
}

// A task that is enqueued once keeps headers of any bytes, because the frame holds them after their lengths.
func TestHeadersOfAnyBytes(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	headers := map[string]string{"h\xff": "v\xfe", "h\ufffd": "v\ufffd"}
	info, err := w.c.EnqueueContext(t.Context(), asynq.NewTaskWithHeaders("t", nil, headers))
	require.NoError(t, err)
	info, err = w.insp.GetTaskInfo("default", info.ID)
	require.NoError(t, err)
	got, err := asynqjobs.OpenTask(t.Context(), w.e, info)
	require.NoError(t, err)
	require.Equal(t, headers, got.Headers())
}
