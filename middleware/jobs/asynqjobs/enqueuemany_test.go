package asynqjobs_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// traffic counts what a Redis client sends, and may answer pipelines itself.
type traffic struct {
	mu        sync.Mutex
	single    []string
	pipelines []int
	answer    func(cmds []redis.Cmder) bool
}

func (h *traffic) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *traffic) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.mu.Lock()
		h.single = append(h.single, cmd.Name())
		h.mu.Unlock()
		return next(ctx, cmd)
	}
}

func (h *traffic) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.mu.Lock()
		h.pipelines = append(h.pipelines, len(cmds))
		answered := h.answer != nil && h.answer(cmds)
		h.mu.Unlock()
		if answered {
			return nil
		}
		return next(ctx, cmds)
	}
}

// pipelined is a bench whose client sends pipelines, and what it sends.
func pipelined(t *testing.T, e *jobs.Encryptor, opts ...asynqjobs.Option) (*bench, *traffic) {
	t.Helper()
	srv := redistest.Start(t)
	rdb, h := clientOf(t, srv), &traffic{}
	rdb.AddHook(h)
	return benchOn(t, srv, e, append(opts, asynqjobs.WithPipeline(rdb))...), h
}

func numbered(n int, opts ...asynq.Option) []*asynq.Task {
	tasks := make([]*asynq.Task, n)
	for i := range tasks {
		tasks[i] = asynq.NewTask("mail", []byte("canary "+strconv.Itoa(i)), opts...)
	}
	return tasks
}

// Many tasks make one round trip for each thousand, and one for a queue that is new. They are sealed, and processed in
// their order.
func TestManyTasksMakeOneRoundTrip(t *testing.T) {
	t.Parallel()
	b, sent := pipelined(t, nil)
	infos, err := b.client.EnqueueMany(t.Context(), numbered(1500), asynq.MaxRetry(3))
	require.NoError(t, err)
	require.Len(t, infos, 1500)
	require.Equal(t, []int{1000, 500}, sent.pipelines)
	require.Equal(t, []string{"sadd"}, withoutHandshake(sent.single))
	for i, info := range infos {
		require.Equal(t, "canary "+strconv.Itoa(i), string(info.Payload))
		require.Equal(t, 3, info.MaxRetry)
		require.Equal(t, asynq.TaskStatePending, info.State)
	}
	for file, content := range b.srv.DumpFiles(t) {
		require.NotContains(t, string(content), "canary", file)
	}
	queues, err := b.inspector.Queues()
	require.NoError(t, err)
	require.Equal(t, []string{"default"}, queues)

	var seen recorder
	serve(t, b.conn, b.e, asynq.Config{Concurrency: 1}, asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		seen.add(string(task.Payload()))
		return nil
	}))
	eventually(t, "all tasks", patience, func() bool { return len(seen.all()) == 1500 })
	for i, payload := range seen.all() {
		require.Equal(t, "canary "+strconv.Itoa(i), payload)
	}
	none, err := b.client.EnqueueMany(t.Context(), nil)
	require.NoError(t, err)
	require.Empty(t, none)
	require.Len(t, sent.pipelines, 2)
}

func withoutHandshake(names []string) []string {
	var rest []string
	for _, name := range names {
		if name != "hello" && name != "client" {
			rest = append(rest, name)
		}
	}
	return rest
}

// Each task of a batch has the result that it has alone: by kind, option and refusal. With a pipeline and without.
func TestEachTaskOfABatchHasItsResult(t *testing.T) {
	t.Parallel()
	e := newEncryptor(t, nil, jobs.WithMaxPayloadBytes(1000))
	withPipeline, _ := pipelined(t, e)
	for name, b := range map[string]*bench{"pipeline": withPipeline, "one by one": newBench(t, e)} {
		t.Run(name, func(t *testing.T) {
			sealed, err := e.Seal(t.Context(), jobs.Meta{Type: "mail"}, []byte("x"))
			require.NoError(t, err)
			later := time.Now().Add(time.Hour)
			tasks := []*asynq.Task{
				asynq.NewTask("mail", []byte("plain")),
				asynq.NewTask("mail", []byte("unique"), asynq.Unique(time.Hour)),
				asynq.NewTask("mail", []byte("unique"), asynq.Unique(time.Hour)),
				asynq.NewTask("mail", []byte("named"), asynq.TaskID("a")),
				asynq.NewTask("mail", []byte("named again"), asynq.TaskID("a")),
				nil,
				asynq.NewTask("", []byte("no type")),
				asynq.NewTask("mail", make([]byte, 2000)),
				asynq.NewTask("mail", sealed),
				asynq.NewTask("mail", []byte("scheduled"), asynq.ProcessAt(later)),
				asynq.NewTask("mail", []byte("scheduled, unique"), asynq.ProcessAt(later), asynq.Unique(time.Hour)),
				asynq.NewTask("mail", []byte("grouped"), asynq.Group("g"), asynq.Queue("other")),
				asynq.NewTask("mail", []byte("grouped, unique"), asynq.Group("g"), asynq.Queue("other"), asynq.Unique(time.Hour)),
				asynq.NewTask("mail", []byte("last"), asynq.Queue("other")),
			}
			infos, err := b.client.EnqueueMany(t.Context(), tasks)
			var failed *asynqjobs.BatchError
			require.ErrorAs(t, err, &failed)
			require.EqualError(t, err, "asynqjobs: EnqueueMany: 6 of 14 tasks failed (see BatchError.Errors): "+
				"TaskID in use (1), duplicate of a unique task (1), too large (1), other errors (3, the first: task cannot be nil)")
			require.Len(t, failed.Errors, 6)
			require.Len(t, failed.Unwrap(), 6)
			require.ErrorIs(t, failed.Errors[2], asynq.ErrDuplicateTask)
			require.ErrorIs(t, failed.Errors[4], asynq.ErrTaskIDConflict)
			require.ErrorIs(t, failed.Errors[7], jobs.ErrTooLarge)
			require.ErrorIs(t, failed.Errors[8], asynqjobs.ErrAlreadySealed)
			require.ErrorIs(t, err, asynq.ErrDuplicateTask)
			states := map[int]asynq.TaskState{
				0: asynq.TaskStatePending, 1: asynq.TaskStatePending, 3: asynq.TaskStatePending, 9: asynq.TaskStateScheduled,
				10: asynq.TaskStateScheduled, 11: asynq.TaskStateAggregating, 12: asynq.TaskStateAggregating, 13: asynq.TaskStatePending,
			}
			for i := range tasks {
				if _, enqueued := states[i]; !enqueued {
					require.Nil(t, infos[i], "task %d", i)
					require.Error(t, failed.Errors[i], "task %d", i)
					continue
				}
				require.NotContains(t, failed.Errors, i)
				stored, err := b.inspector.GetTaskInfo(infos[i].Queue, infos[i].ID)
				require.NoError(t, err, "task %d", i)
				require.Equal(t, states[i], stored.State, "task %d", i)
				opened, err := asynqjobs.OpenTask(t.Context(), e, stored)
				require.NoError(t, err, "task %d", i)
				require.Equal(t, tasks[i].Payload(), opened.Payload())
				require.Equal(t, tasks[i].Payload(), infos[i].Payload)
			}
		})
	}
}

// A task of a later single call is unique against those of a batch, and has a registered queue.
func TestABatchAndSingleCallsAgree(t *testing.T) {
	t.Parallel()
	b, _ := pipelined(t, nil)
	unique := func() *asynq.Task { return asynq.NewTask("mail", []byte("x"), asynq.Unique(time.Hour)) }
	_, err := b.client.EnqueueMany(t.Context(), []*asynq.Task{unique()})
	require.NoError(t, err)
	_, err = b.client.Enqueue(unique())
	require.ErrorIs(t, err, asynq.ErrDuplicateTask)
	_, err = b.client.EnqueueMany(t.Context(), []*asynq.Task{unique()})
	require.ErrorIs(t, err, asynq.ErrDuplicateTask)
}

func TestBatchesThatCannotBe(t *testing.T) {
	t.Parallel()
	b, sent := pipelined(t, nil)
	_, err := b.client.EnqueueMany(t.Context(), numbered(2), asynq.TaskID("a"))
	require.ErrorContains(t, err, "TaskID")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	infos, err := b.client.EnqueueMany(ctx, numbered(3))
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, asynqjobs.ErrUnknownOutcome)
	require.Equal(t, make([]*asynq.TaskInfo, 3), infos)
	require.Empty(t, sent.pipelines)
	_, err = asynqjobs.NewClient(b.plain, b.e, asynqjobs.WithPipeline(nil))
	require.Error(t, err)
}

type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

// A server that does not know a script, or does not run commands at the moment, gets these commands again. None is run twice.
func TestCommandsThatTheServerDidNotRunAreSentAgain(t *testing.T) {
	t.Parallel()
	for _, text := range []reply{"NOSCRIPT No matching script.", "LOADING Redis is loading the dataset in memory"} {
		b, sent := pipelined(t, nil)
		sent.answer = func(cmds []redis.Cmder) bool {
			if len(sent.pipelines) > 1 {
				return false
			}
			for i, cmd := range cmds {
				if cmd.SetErr(text); i >= 6 {
					cmd.SetErr(reply("OOM command not allowed"))
				}
			}
			return true
		}
		_, err := b.client.EnqueueMany(t.Context(), numbered(10))
		var failed *asynqjobs.BatchError
		require.ErrorAs(t, err, &failed)
		require.Len(t, failed.Errors, 4)
		require.NotErrorIs(t, err, asynqjobs.ErrUnknownOutcome)
		require.Equal(t, []int{10, 6}, sent.pipelines)
		info, err := b.inspector.GetQueueInfo("default")
		require.NoError(t, err)
		require.Equal(t, 6, info.Pending)
	}
}

// Connections are cut while eight producers enqueue batches and workers run them. A task without an error is run once, and a
// task with an error at most once. Some tasks have an unknown outcome.
func TestBatchesOverConnectionsThatAreCut(t *testing.T) {
	t.Parallel()
	e := newEncryptor(t, nil)
	b := newBench(t, e)
	proxy := redistest.StartProxy(t, b.srv.Addr())
	o := b.srv.ClientOptions()
	o.Addr = proxy.Addr()
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	client := newClient(t, b.conn, e, asynqjobs.WithPipeline(rdb))
	var mu sync.Mutex
	ran := map[string]int{}
	serve(t, b.conn, e, asynq.Config{}, asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		mu.Lock()
		defer mu.Unlock()
		ran[string(task.Payload())]++
		return nil
	}))

	var unknown, enqueued atomic.Int64
	failed := map[string]bool{}
	var producers sync.WaitGroup
	end := make(chan struct{})
	go func() {
		cuts := time.NewTicker(5 * time.Millisecond)
		defer cuts.Stop()
		for n := 0; ; n = (n + 97) % 1500 {
			select {
			case <-end:
				return
			case <-cuts.C:
				proxy.CutReplyAfter(n)
			}
		}
	}()
	var deadline atomic.Bool
	timer := time.AfterFunc(patience, func() { deadline.Store(true) })
	defer timer.Stop()
	for p := range 8 {
		producers.Go(func() {
			for round := 0; round < 5 || unknown.Load() == 0 && !deadline.Load(); round++ {
				tasks := make([]*asynq.Task, 100)
				for i := range tasks {
					tasks[i] = asynq.NewTask("mail", fmt.Appendf(nil, "%d %d %d", p, round, i), asynq.MaxRetry(0))
					if i%3 == 0 {
						tasks[i] = asynq.NewTask("mail", tasks[i].Payload(), asynq.MaxRetry(0), asynq.Unique(time.Hour))
					}
				}
				_, err := client.EnqueueMany(context.Background(), tasks)
				var errs *asynqjobs.BatchError
				if err != nil && !errors.As(err, &errs) {
					t.Error(err)
					return
				}
				mu.Lock()
				for i, task := range tasks {
					err := error(nil)
					if errs != nil {
						err = errs.Errors[i]
					}
					failed[string(task.Payload())] = err != nil
					switch {
					case err == nil:
						enqueued.Add(1)
					case errors.Is(err, asynqjobs.ErrUnknownOutcome):
						unknown.Add(1)
					case errors.Is(err, asynq.ErrDuplicateTask), errors.Is(err, asynq.ErrTaskIDConflict):
						t.Errorf("a task that was sent once is %v", err)
					}
				}
				mu.Unlock()
			}
		})
	}
	producers.Wait()
	close(end)
	require.Positive(t, enqueued.Load())
	require.Positive(t, unknown.Load(), "no connection was cut in time")
	eventually(t, "all tasks that were enqueued", patience, func() bool {
		mu.Lock()
		defer mu.Unlock()
		for payload, bad := range failed {
			if !bad && ran[payload] == 0 {
				return false
			}
		}
		return true
	})
	mu.Lock()
	defer mu.Unlock()
	for payload, n := range ran {
		require.Equal(t, 1, n, payload)
	}
}

// A batch ends at its deadline though the server has stopped. The tasks may be enqueued, and the error says so.
func TestABatchEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	b, _ := pipelined(t, nil)
	_, err := b.client.EnqueueMany(t.Context(), numbered(1))
	require.NoError(t, err)
	for d := 2 * time.Second; d < patience && !errors.Is(err, asynqjobs.ErrUnknownOutcome); d *= 2 { // sealing takes a part of it
		require.NoError(t, b.srv.Pause())
		ctx, cancel := context.WithTimeout(t.Context(), d)
		_, err = b.client.EnqueueMany(ctx, numbered(1200))
		cancel()
		require.NoError(t, b.srv.Resume())
		require.NoError(t, b.rdb.Ping(t.Context()).Err())
	}
	var failed *asynqjobs.BatchError
	require.ErrorAs(t, err, &failed)
	require.Len(t, failed.Errors, 1200)
	require.ErrorIs(t, failed.Errors[0], asynqjobs.ErrUnknownOutcome)
	var timeout net.Error
	require.ErrorAs(t, failed.Errors[0], &timeout)
	require.True(t, timeout.Timeout())
}

// A server that is down is asked once, not once for each task, and nothing is of unknown outcome.
func TestABatchWithoutRedis(t *testing.T) {
	t.Parallel()
	b, _ := pipelined(t, nil)
	require.NoError(t, b.srv.Kill())
	_, err := b.client.EnqueueMany(t.Context(), numbered(1000))
	var failed *asynqjobs.BatchError
	require.ErrorAs(t, err, &failed)
	require.Len(t, failed.Errors, 1000)
	require.NotErrorIs(t, err, asynqjobs.ErrUnknownOutcome)
}

// In a Cluster the queues of a batch are on several nodes.
func TestABatchOverACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	conn := asynq.RedisClusterClientOpt{Addrs: cluster.Addrs(), ReadTimeout: patience, WriteTimeout: patience}
	b := benchAt(t, conn, newEncryptor(t, nil), asynqjobs.WithPipeline(cluster.Client(t)))
	var tasks []*asynq.Task
	for i := range 300 {
		tasks = append(tasks, asynq.NewTask("mail", []byte(strconv.Itoa(i)), asynq.Queue("q"+strconv.Itoa(i%12))))
	}
	infos, err := b.client.EnqueueMany(t.Context(), tasks)
	require.NoError(t, err)
	queues, err := b.inspector.Queues()
	require.NoError(t, err)
	require.Len(t, queues, 12)
	for _, info := range infos {
		_, err := b.inspector.GetTaskInfo(info.Queue, info.ID)
		require.NoError(t, err)
	}
}

func TestEnqueuedTasksAreCounted(t *testing.T) {
	t.Parallel()
	m, spans := newMeters(), tracetest.NewSpanRecorder()
	tracer := trace.NewTracerProvider(trace.WithSpanProcessor(spans))
	b, _ := pipelined(t, nil, asynqjobs.WithMeterProvider(m.provider), asynqjobs.WithTracerProvider(tracer))
	task := func() *asynq.Task { return asynq.NewTask("mail", []byte("canary"), asynq.Unique(time.Hour)) }
	_, err := b.client.EnqueueMany(t.Context(), append(numbered(3), task(), task()))
	require.Error(t, err)
	_, err = b.client.Enqueue(task())
	require.Error(t, err)
	var data metricdata.ResourceMetrics
	require.NoError(t, m.reader.Collect(t.Context(), &data))
	got := map[string]int64{}
	for _, metric := range data.ScopeMetrics[0].Metrics {
		if metric.Name != "sealcache.jobs.enqueued" {
			continue
		}
		for _, p := range metric.Data.(metricdata.Sum[int64]).DataPoints {
			outcome, _ := p.Attributes.Value("sealcache.outcome")
			got[outcome.AsString()] = p.Value
		}
	}
	require.Equal(t, map[string]int64{"ok": 4, "duplicate": 2}, got)
	ended := map[string]int{}
	for _, s := range spans.Ended() {
		ended[s.Name()]++
		require.False(t, strings.Contains(fmt.Sprint(s.Attributes()), "canary"))
	}
	require.Equal(t, map[string]int{"sealcache.jobs.enqueue": 6}, ended)
}

func TestTypedJobsInABatch(t *testing.T) {
	t.Parallel()
	b, sent := pipelined(t, nil)
	job := asynqjobs.Define[int]("count", asynq.MaxRetry(0))
	infos, err := job.DelayMany(t.Context(), b.client, []int{5, 6, 7}, asynq.Queue("numbers"))
	require.NoError(t, err)
	require.Equal(t, []int{3}, sent.pipelines)
	for i, info := range infos {
		stored, err := b.inspector.GetTaskInfo("numbers", info.ID)
		require.NoError(t, err)
		n, err := job.Args(t.Context(), b.client, stored)
		require.NoError(t, err)
		require.Equal(t, 5+i, n)
	}
	_, err = job.DelayMany(t.Context(), nil, []int{1})
	require.Error(t, err)
	_, err = asynqjobs.Define[int]("count", asynq.TaskID("one")).DelayMany(t.Context(), b.client, []int{1, 2})
	require.ErrorContains(t, err, "one TaskID cannot apply to many tasks")
	require.Equal(t, []int{3}, sent.pipelines)
}

// While the slot of a queue moves, Redis refuses new tasks: some of their keys may have moved. The error says that, and nothing
// is enqueued. Afterwards the same tasks are enqueued.
func TestEnqueueWhileTheSlotMoves(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	rdb, ctx := cluster.Client(t), t.Context()
	client, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), newEncryptor(t, nil), asynqjobs.WithPipeline(rdb), asynqjobs.WithLogger(quiet))
	require.NoError(t, err)
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	pending := func() int {
		t.Helper()
		tasks, err := inspector.ListPendingTasks("default", asynq.PageSize(100))
		require.NoError(t, err)
		return len(tasks)
	}
	_, err = client.Enqueue(asynq.NewTask("mail", []byte("first")))
	require.NoError(t, err)
	single, many := asynq.NewTask("mail", []byte("single"), asynq.TaskID("single")), numbered(10)
	for i := range many {
		many[i] = asynq.NewTask("mail", many[i].Payload(), asynq.TaskID(strconv.Itoa(i)))
	}

	slot := int(rdb.ClusterKeySlot(ctx, "asynq:{default}:pending").Val())
	to := cluster.Nodes()[0]
	from, err := cluster.OpenSlot(ctx, to, slot)
	require.NoError(t, err)
	if from == to {
		to = cluster.Nodes()[1]
		from, err = cluster.OpenSlot(ctx, to, slot)
		require.NoError(t, err)
	}
	_, err = client.Enqueue(single)
	require.ErrorContains(t, err, "TRYAGAIN")
	_, err = client.EnqueueMany(ctx, many)
	var batch *asynqjobs.BatchError
	require.ErrorAs(t, err, &batch)
	require.Len(t, batch.Errors, len(many))
	for _, err := range batch.Errors {
		require.ErrorContains(t, err, "TRYAGAIN")
		require.NotErrorIs(t, err, asynqjobs.ErrUnknownOutcome)
	}
	for n := 1; n > 0; {
		n, err = redistest.MoveKeys(ctx, from, to, slot, 100)
		require.NoError(t, err)
	}
	require.NoError(t, cluster.CloseSlot(ctx, to, slot))
	require.Equal(t, 1, pending())

	_, err = client.Enqueue(single)
	require.NoError(t, err)
	_, err = client.EnqueueMany(ctx, many)
	require.NoError(t, err)
	require.Equal(t, 2+len(many), pending())
}
