package asynqjobs_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// While plaintext is written, everything of a plaintext task stays plaintext: old workers and old tools can read it. What
// belongs to a sealed task stays sealed.
func TestWritePlaintext(t *testing.T) {
	t.Parallel()
	prepare := asynqjobs.WithPlaintext(jobs.WritePlaintext)
	b := newBench(t, nil)
	c := newClient(t, b.conn, b.e, prepare, asynqjobs.WithHiddenTypes())
	serve(t, b.conn, b.e, grouping(nil), asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		if strings.HasPrefix(task.Type(), "fail") {
			return errors.New("went wrong")
		}
		return asynqjobs.WriteResult(ctx, []byte("result"))
	}), prepare)
	enqueue := func(enqueue func(*asynq.Task, ...asynq.Option) (*asynq.TaskInfo, error), typename, id string, opts ...asynq.Option) {
		_, err := enqueue(asynq.NewTaskWithHeaders(typename, []byte("payload"), map[string]string{"h": "v"}), append(opts, asynq.TaskID(id))...)
		require.NoError(t, err)
	}
	enqueue(c.Enqueue, "t", "plain", asynq.Retention(time.Hour))
	enqueue(b.client.Enqueue, "t", "sealed", asynq.Retention(time.Hour))
	enqueue(c.Enqueue, "fail", "plain-fail", asynq.MaxRetry(0))
	enqueue(b.client.Enqueue, "fail", "sealed-fail", asynq.MaxRetry(0))
	enqueue(c.Enqueue, "part", "p1", asynq.Group("plain"))
	enqueue(c.Enqueue, "part", "p2", asynq.Group("plain"))
	enqueue(c.Enqueue, "part", "p3", asynq.Group("mixed"))
	enqueue(b.client.Enqueue, "part", "s1", asynq.Group("mixed"))

	plain := b.awaitState(t, "default", "plain", asynq.TaskStateCompleted)
	require.Equal(t, "t", plain.Type)
	require.Equal(t, "payload", string(plain.Payload))
	require.Equal(t, map[string]string{"h": "v"}, plain.Headers)
	require.Equal(t, "result", string(plain.Result))
	sealed := b.awaitState(t, "default", "sealed", asynq.TaskStateCompleted)
	require.True(t, jobs.IsSealed(sealed.Payload))
	require.True(t, jobs.IsSealed(sealed.Result))
	require.Equal(t, "went wrong", b.awaitState(t, "default", "plain-fail", asynq.TaskStateArchived).LastErr)
	require.NotContains(t, b.awaitState(t, "default", "sealed-fail", asynq.TaskStateArchived).LastErr, "wrong")
	require.Equal(t, "part=payload part=payload", string(b.awaitState(t, "default", "batch-plain", asynq.TaskStateCompleted).Payload))
	mixed := b.awaitState(t, "default", "batch-mixed", asynq.TaskStateCompleted)
	require.True(t, jobs.IsSealed(mixed.Payload), "an aggregate with a sealed member is sealed")
	require.True(t, jobs.IsSealed(mixed.Result))
}

// The end of the tolerance is final for client, handler and aggregator, even if the wall clock goes back.
func TestEndOfPlaintextIsFinal(t *testing.T) {
	t.Parallel()
	g := newGroupAggregation(t)
	now := time.Now().Round(0)
	opts := []asynqjobs.Option{
		asynqjobs.WithPlaintext(jobs.WritePlaintext), asynqjobs.WithPlaintextUntil(now.Add(time.Hour)),
		asynqjobs.WithNow(func() time.Time { return now }),
	}
	e := newEncryptor(t, nil)
	c := newClient(t, g.conn, e, opts...)
	a, seen := g.aggregator(e, opts...)
	sealed := func() bool {
		info, err := c.Enqueue(asynq.NewTask("t", []byte("x")), asynq.ProcessIn(time.Hour))
		require.NoError(t, err)
		info, err = g.insp.GetTaskInfo("default", info.ID)
		require.NoError(t, err)
		return jobs.IsSealed(info.Payload)
	}
	members := []*asynq.Task{asynq.NewTask("part", []byte("x"))}
	require.False(t, sealed())
	require.Equal(t, "batch", string(a.Aggregate("g", members).Payload()))
	now = now.Add(time.Hour)
	require.True(t, sealed())
	*seen = 0
	a.Aggregate("g", members)
	now = now.Add(-2 * time.Hour)
	require.True(t, sealed())
	a.Aggregate("g", members)
	require.Zero(t, *seen, "plaintext members are refused")
}

func TestPlaintextOptions(t *testing.T) {
	t.Parallel()
	e := newEncryptor(t, nil)
	soon := time.Now().Add(time.Hour)
	for name, opts := range map[string][]asynqjobs.Option{
		"unknown policy":       {asynqjobs.WithPlaintext(jobs.WritePlaintext + 1)},
		"negative policy":      {asynqjobs.WithPlaintext(-1)},
		"seal on read":         {asynqjobs.WithPlaintext(jobs.ReadPlaintext + 1)},
		"an end of nothing":    {asynqjobs.WithPlaintext(jobs.RejectPlaintext), asynqjobs.WithPlaintextUntil(soon)},
		"no end":               {asynqjobs.WithPlaintextUntil(time.Time{})},
		"an aggregator, alone": nil,
	} {
		_, err := asynqjobs.Config(e, grouping(nil), opts...)
		require.Error(t, err, name)
	}
	_, err := asynqjobs.Config(e, asynq.Config{}, asynqjobs.WithPlaintextUntil(time.Now().Add(-time.Hour)))
	require.NoError(t, err, "a service that restarts after the end")
}

// asynq's recipe for moving a task would seal it twice. It is refused wherever a payload comes in.
func TestSealedPayloadsAreRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	later := asynq.ProcessIn(time.Hour)
	_, err := b.client.Enqueue(asynq.NewTask("t", []byte("x")), later, asynq.TaskID("plain"))
	require.NoError(t, err)
	_, err = b.client.Enqueue(asynq.NewTask("t", []byte("x")), later, asynq.TaskID("unique"), asynq.Unique(time.Hour))
	require.NoError(t, err)
	prepare := newClient(t, b.conn, b.e, asynqjobs.WithPlaintext(jobs.WritePlaintext))
	for _, id := range []string{"plain", "unique"} {
		info, err := b.inspector.GetTaskInfo("default", id)
		require.NoError(t, err)
		for _, c := range []*asynqjobs.Client{b.client, prepare} {
			for _, task := range []*asynq.Task{asynq.NewTask(info.Type, info.Payload), asynq.NewTaskWithHeaders(info.Type, info.Payload, info.Headers)} {
				_, err = c.Enqueue(task)
				require.ErrorIs(t, err, asynqjobs.ErrAlreadySealed)
				require.Contains(t, err.Error(), "OpenTask")
			}
		}
		require.ErrorIs(t, b.client.UpdateTaskPayload(t.Context(), b.inspector, "default", "plain", info.Payload), asynqjobs.ErrAlreadySealed)
		echo := asynq.GroupAggregatorFunc(func(string, []*asynq.Task) *asynq.Task { return asynq.NewTask(info.Type, info.Payload) })
		for _, opts := range [][]asynqjobs.Option{nil, {asynqjobs.WithPlaintext(jobs.WritePlaintext)}} {
			cfg, err := asynqjobs.Config(b.e, asynq.Config{GroupAggregator: echo}, append(opts, asynqjobs.WithGroupClient(b.plain), asynqjobs.WithPlaintextUntil(time.Now().Add(time.Hour)), asynqjobs.WithLogger(quiet))...)
			require.NoError(t, err)
			require.Nil(t, cfg.GroupAggregator.Aggregate("g", []*asynq.Task{asynq.NewTask("part", []byte("x"))}))
		}
		opened, err := asynqjobs.OpenTask(t.Context(), b.e, info)
		require.NoError(t, err)
		_, err = b.client.Enqueue(opened, later)
		require.NoError(t, err, "what OpenTask returns can be enqueued")
	}
	_, err = b.client.Enqueue(asynq.NewTaskWithHeaders("t", []byte("x"), map[string]string{"sealcache-payload": "x"}))
	require.ErrorContains(t, err, "reserved")
}

// A schedule whose ticks could never be enqueued is refused when it is registered.
func TestSchedulesOfWhatIsRefused(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	info, err := w.c.Enqueue(asynq.NewTask("t", []byte("x")), asynq.ProcessIn(time.Hour))
	require.NoError(t, err)
	stored, err := asynq.NewInspectorFromRedisClient(w.rdb).GetTaskInfo("default", info.ID)
	require.NoError(t, err)
	register := func(task *asynq.Task) error {
		_, err := w.s.ScheduleOnce(t.Context(), "n", asynqjobs.Every(time.Minute), task)
		_, errSync := w.s.Sync(t.Context(), []asynqjobs.PeriodicTask{{Name: "n", When: asynqjobs.Every(time.Minute), Task: task}})
		require.Equal(t, err == nil, errSync == nil)
		return err
	}
	require.ErrorIs(t, register(asynq.NewTask(stored.Type, stored.Payload)), asynqjobs.ErrAlreadySealed)
	require.ErrorContains(t, register(asynq.NewTaskWithHeaders("t", nil, map[string]string{"sealcache-x": "x"})), "reserved")
	require.Error(t, register(asynq.NewTask(" ", nil)))
	list, err := w.s.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, list)
}

// The option of a later asynq is refused in every place where options come in.
func TestUnknownOptionsAreRefusedEverywhere(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	later := header{}
	ctx := t.Context()
	task := func(opts ...asynq.Option) *asynq.Task { return asynq.NewTask("t", []byte("x"), opts...) }
	job, baked := asynqjobs.Define[string]("t"), asynqjobs.Define[string]("t", later)
	plainClient := asynq.NewClientFromRedisClient(w.rdb)
	prepare, err := asynqjobs.NewClient(plainClient, w.e, asynqjobs.WithPlaintext(jobs.WritePlaintext))
	require.NoError(t, err)
	for name, c := range map[string]*asynqjobs.Client{"sealed": w.c, "plaintext": prepare} {
		var errs []error
		add := func(_ *asynq.TaskInfo, err error) { errs = append(errs, err) }
		add(c.Enqueue(task(), later))
		add(c.Enqueue(task(later)))
		add(job.Delay(ctx, c, "x", later))
		add(job.EnqueueAt(ctx, c, time.Now(), "x", later))
		add(job.EnqueueIn(ctx, c, time.Hour, "x", later))
		add(baked.Delay(ctx, c, "x"))
		for i, err := range errs {
			require.ErrorContains(t, err, "is unknown (use asynq's options", "%s %d", name, i)
			require.NotContains(t, err.Error(), "secret")
		}
	}
	_, err = w.s.ScheduleOnce(ctx, "n", asynqjobs.Every(time.Minute), task(), later)
	require.ErrorContains(t, err, "is unknown (use asynq's options")
	_, err = w.s.ScheduleOnce(ctx, "n", asynqjobs.Every(time.Minute), task(later))
	require.ErrorContains(t, err, "is unknown (use asynq's options")
	_, err = baked.ScheduleOnce(ctx, w.s, "n", asynqjobs.Every(time.Minute), "x")
	require.ErrorContains(t, err, "is unknown (use asynq's options")
	cfg, err := asynqjobs.Config(w.e, asynq.Config{GroupAggregator: asynq.GroupAggregatorFunc(func(string, []*asynq.Task) *asynq.Task { return task(later) })},
		asynqjobs.WithGroupClient(plainClient), asynqjobs.WithLogger(quiet), asynqjobs.WithPlaintextUntil(time.Now().Add(time.Hour)))
	require.NoError(t, err)
	require.Nil(t, cfg.GroupAggregator.Aggregate("g", []*asynq.Task{task()}))
}

// header is an option such as a later asynq may have.
type header struct{}

func (header) String() string         { return `Header("k", "secret")` }
func (header) Type() asynq.OptionType { return asynq.GroupOpt + 1 }
func (header) Value() any             { return "secret" }
