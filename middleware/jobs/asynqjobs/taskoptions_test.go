package asynqjobs

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
)

func TestBakedOptionsAreFound(t *testing.T) {
	t.Parallel()
	require.NoError(t, proveBakedOptions())
	now := time.Now()
	want := []asynq.Option{
		asynq.MaxRetry(3), asynq.Queue("q"), asynq.Timeout(time.Minute), asynq.Deadline(now), asynq.Unique(time.Hour),
		asynq.ProcessAt(now), asynq.ProcessIn(time.Second), asynq.TaskID("id"), asynq.Retention(time.Hour), asynq.Group("g"),
	}
	task := asynq.NewTask("type", nil, want...)
	got, err := bakedOptions(task)
	require.NoError(t, err)
	require.Equal(t, want, got)
	got[0] = asynq.MaxRetry(99)
	again, err := bakedOptions(task)
	require.NoError(t, err)
	require.Equal(t, want, again, "the task's own are not touched")
	none, err := bakedOptions(asynq.NewTaskWithHeaders("type", nil, map[string]string{"a": "b"}))
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestOptionsAreReadAsAsynqDoes(t *testing.T) {
	t.Parallel()
	c, err := parseOptions([]asynq.Option{asynq.Queue("a"), nil, asynq.TaskID("1"), asynq.Queue("b"), asynq.TaskID("2"), asynq.Group("g"), asynq.Unique(time.Hour)})
	require.NoError(t, err)
	require.Equal(t, taskOptions{identity: identity{queue: "b", id: "2", group: "g"}, unique: true, hasID: true}, c)
	c, err = parseOptions(nil)
	require.NoError(t, err)
	require.Equal(t, taskOptions{identity: identity{queue: "default"}}, c)
	_, err = parseOptions([]asynq.Option{strange{asynq.QueueOpt}})
	require.Error(t, err, "asynq would ignore it, and the task would be bound to a queue that it is not in")
	_, err = storeOption(strange{asynq.QueueOpt})
	require.Error(t, err)
}

// strange is an option that asynq does not know.
type strange struct{ kind asynq.OptionType }

func (strange) String() string           { return "strange" }
func (s strange) Type() asynq.OptionType { return s.kind }
func (strange) Value() any               { return "low" }

// Options of a later asynq are refused, also if their Type is a known one.
func TestUnknownOptionsAreRefused(t *testing.T) {
	t.Parallel()
	for kind := asynq.MaxRetryOpt; kind <= asynq.GroupOpt+3; kind++ {
		require.Error(t, known(strange{kind}), kind)
	}
	// asynq's own type under another number is not the option of that number either.
	require.Error(t, known(renumbered{asynq.Queue("q")}))
}

type renumbered struct{ asynq.Option }

func (renumbered) Type() asynq.OptionType { return asynq.MaxRetryOpt }

func TestServedQueues(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"default"}, servedQueues(nil))
	require.Equal(t, []string{"a"}, servedQueues(map[string]int{"a": 1, "b": 0}))
	require.Equal(t, []string{"a", "b"}, servedQueues(map[string]int{"b": 2, "a": 1}))
}
