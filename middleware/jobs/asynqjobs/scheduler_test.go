package asynqjobs_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// clockwork is a scheduler over miniredis, whose clock stands still until it is moved.
type clockwork struct {
	t    *testing.T
	m    *miniredis.Miniredis
	rdb  *redis.Client
	c    *asynqjobs.Client
	e    *jobs.Encryptor
	s    *asynqjobs.Scheduler
	insp *asynq.Inspector
	now  time.Time
	*polls
}

func newClockwork(t *testing.T, opts ...asynqjobs.Option) *clockwork {
	t.Helper()
	w := &clockwork{t: t, m: miniredis.RunT(t), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w.m.SetTime(w.now)
	w.rdb, w.polls = w.connect()
	w.e = newEncryptor(t, nil)
	w.insp = asynq.NewInspectorFromRedisClient(w.rdb)
	w.c, w.s = w.with(w.e, opts...)
	return w
}

// connect returns a Redis client, and a count of the polls through it.
func (w *clockwork) connect() (*redis.Client, *polls) {
	rdb, p := redis.NewClient(patient(w.m.Addr())), new(polls)
	w.t.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(p)
	return rdb, p
}

// with returns a client and a scheduler of another process, over the Redis client of the clockwork.
func (w *clockwork) with(e *jobs.Encryptor, opts ...asynqjobs.Option) (*asynqjobs.Client, *asynqjobs.Scheduler) {
	w.t.Helper()
	return w.over(w.rdb, e, opts...)
}

// over is with, over a given Redis client.
func (w *clockwork) over(rdb *redis.Client, e *jobs.Encryptor, opts ...asynqjobs.Option) (*asynqjobs.Client, *asynqjobs.Scheduler) {
	w.t.Helper()
	c, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), e, append(opts, asynqjobs.WithLogger(quiet))...)
	require.NoError(w.t, err)
	s, err := asynqjobs.NewScheduler(rdb, c, asynqjobs.WithPoll(100*time.Millisecond), asynqjobs.WithOpeningTime(patience))
	require.NoError(w.t, err)
	return c, s
}

// polls counts the polls for ticks through a Redis client. A pass of a Scheduler begins with one.
type polls struct{ answered, failed atomic.Int64 }

func (*polls) DialHook(next redis.DialHook) redis.DialHook { return next }
func (*polls) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (p *polls) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		switch {
		case !strings.HasPrefix(cmd.Name(), "eval") || !strings.HasSuffix(strings.Join(fields(cmd.Args()), " "), " 1 "+ticksKey):
		case err != nil:
			p.failed.Add(1)
		default:
			p.answered.Add(1)
		}
		return err
	}
}

// again waits until the only scheduler that runs over the client has begun and ended a pass.
func (p *polls) again(t *testing.T) {
	t.Helper()
	before := p.answered.Load()
	eventually(t, "it looks again", patience, func() bool { return p.answered.Load() >= before+3 })
}

func (w *clockwork) advance(d time.Duration) {
	w.now = w.now.Add(d)
	w.m.SetTime(w.now)
}

// run lets schedulers look, all at once, until each has done what is due.
func (w *clockwork) run(ss ...*asynqjobs.Scheduler) {
	w.t.Helper()
	if len(ss) == 0 {
		ss = []*asynqjobs.Scheduler{w.s}
	}
	var wg sync.WaitGroup
	for _, s := range ss {
		wg.Go(func() { s.Settle(w.t.Context()) })
	}
	wg.Wait()
}

// waiting returns the payloads of the tasks that wait in a queue, opened.
func (w *clockwork) waiting(queue string) []string {
	w.t.Helper()
	got, _ := w.list(queue)
	return got
}

// pending is waiting, and deletes the tasks. Their ids are free at once. The ids of ticks that have run are free only after
// minutes. So no scheduler may work on the same ticks.
func (w *clockwork) pending(queue string) []string {
	w.t.Helper()
	got, ids := w.list(queue)
	for _, id := range ids {
		require.NoError(w.t, w.insp.DeleteTask(queue, id))
	}
	return got
}

func (w *clockwork) list(queue string) (got, ids []string) {
	w.t.Helper()
	infos, err := w.insp.ListPendingTasks(queue, asynq.PageSize(1000))
	if err != nil {
		return nil, nil // no such queue yet
	}
	for _, i := range infos {
		task, err := asynqjobs.OpenTask(w.t.Context(), w.e, i)
		require.NoError(w.t, err)
		got = append(got, task.Type()+" "+string(task.Payload()))
		ids = append(ids, i.ID)
	}
	return got, ids
}

func (w *clockwork) once(name string, when asynqjobs.Schedule, note string, opts ...asynq.Option) bool {
	w.t.Helper()
	changed, err := tick.ScheduleOnce(w.t.Context(), w.s, name, when, tickArgs{note}, opts...)
	require.NoError(w.t, err)
	return changed
}

func TestScheduleOnceIsOnce(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	require.True(t, w.once("a", asynqjobs.Every(time.Minute), "x"))
	require.False(t, w.once("a", asynqjobs.Every(time.Minute), "x"))
	require.False(t, w.once("a", asynqjobs.Cron("@every 1m0s"), "x"), "the same in other words")
	w.run()
	require.Empty(t, w.pending("default"), "the first tick comes after a minute")
	w.advance(time.Minute)
	w.run()
	w.run()
	require.Equal(t, []string{`tick {"Note":"x"}`}, w.pending("default"))
	w.run()
	require.Empty(t, w.pending("default"), "also when the task is gone: the tick is noted")

	require.True(t, w.once("a", asynqjobs.Every(2*time.Minute), "x"), "another interval")
	require.True(t, w.once("a", asynqjobs.Every(2*time.Minute), "y"), "other arguments")
	require.True(t, w.once("a", asynqjobs.Every(2*time.Minute), "y", asynq.MaxRetry(1)), "other options")
	require.False(t, w.once("a", asynqjobs.Every(2*time.Minute), "y", asynq.MaxRetry(1)))
	w.advance(time.Minute)
	w.run()
	require.Empty(t, w.pending("default"), "counted again")
	w.advance(time.Minute)
	w.run()
	require.Equal(t, []string{`tick {"Note":"y"}`}, w.pending("default"))

	canceled, err := w.s.Cancel(t.Context(), "a")
	require.NoError(t, err)
	require.True(t, canceled)
	canceled, err = w.s.Cancel(t.Context(), "a")
	require.NoError(t, err)
	require.False(t, canceled)
	w.advance(time.Hour)
	w.run()
	require.Empty(t, w.pending("default"))
	require.Empty(t, w.names(w.s))
}

// Schedulers that come at the same moment, before any has noted the tick, enqueue it once.
func TestSchedulersAtTheSameMoment(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	w.once("a", asynqjobs.Every(time.Minute), "x")
	var ss []*asynqjobs.Scheduler
	for range 8 {
		_, s := w.with(w.e)
		ss = append(ss, s)
	}
	for range 3 {
		w.advance(time.Minute)
		w.run(ss...)
		require.Equal(t, []string{`tick {"Note":"x"}`}, w.pending("default"))
	}
}

func (failing) DialHook(next redis.DialHook) redis.DialHook { return next }
func (failing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestMissedTicksAreMadeUpFor(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	w.once("often", asynqjobs.Every(20*time.Second), "often")
	w.once("daily", asynqjobs.Cron("0 3 * * *"), "daily")
	w.advance(15*time.Hour + 10*time.Minute) // 03:10 of the next day
	w.run()
	require.ElementsMatch(t, []string{
		`tick {"Note":"daily"}`, `tick {"Note":"often"}`, `tick {"Note":"often"}`, `tick {"Note":"often"}`,
	}, w.pending("default"))
	w.run()
	require.Empty(t, w.pending("default"))
}

func TestSchedulesAreListedByName(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	w.once("b", asynqjobs.Cron("0 3 * * *"), "x", asynq.Queue("low"))
	w.once("a", asynqjobs.Every(time.Hour), "y")
	w.advance(time.Hour)
	w.run()
	infos, err := w.s.List(t.Context())
	require.NoError(t, err)
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range infos {
		infos[i].Since, infos[i].Last, infos[i].Next = infos[i].Since.UTC(), infos[i].Last.UTC(), infos[i].Next.UTC()
	}
	require.Len(t, infos, 2)
	require.Equal(t, asynqjobs.ScheduleInfo{
		Name: "a", When: asynqjobs.Every(time.Hour), Type: "tick", Queue: "default", Payload: []byte(`{"Note":"y"}`),
		Since: start, Last: start.Add(time.Hour), Next: start.Add(2 * time.Hour),
	}, infos[0])
	require.Equal(t, "b", infos[1].Name)
	require.True(t, infos[1].Last.IsZero())
	require.Equal(t, start.Add(15*time.Hour), infos[1].Next)
	require.Equal(t, "low", infos[1].Queue)
	for _, key := range []string{"{sealcache:jobs:}:schedules", "{sealcache:jobs:}:ticks"} {
		for field, value := range w.rdb.HGetAll(t.Context(), key).Val() {
			require.NotContains(t, field+value, "tick")
			require.NotContains(t, field+value, "Note")
		}
	}
}

// The PRF key changes: the schedule keeps its ticks and is not doubled, also while old and new processes run at once.
func TestSchedulesSurviveAChangeOfPRFKeys(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	manager := keyset.NewManager()
	old, err := manager.Add(prf.HMACSHA256PRFKeyTemplate())
	require.NoError(t, err)
	require.NoError(t, manager.SetPrimary(old))
	fresh, err := manager.Add(prf.HMACSHA256PRFKeyTemplate())
	require.NoError(t, err)
	k := newKeyring(t)
	with := func() (*asynqjobs.Client, *asynqjobs.Scheduler) {
		h, err := manager.Handle()
		require.NoError(t, err)
		set, err := prf.NewPRFSet(h)
		require.NoError(t, err)
		w.e = newEncryptor(t, k, jobs.WithPRF(set))
		return w.with(w.e)
	}
	_, before := with()
	w.s = before
	require.True(t, w.once("a", asynqjobs.Every(time.Minute), "x"))
	w.advance(time.Minute)
	w.run(before)
	require.Len(t, w.pending("default"), 1)

	require.NoError(t, manager.SetPrimary(fresh))
	_, after := with()
	w.s = after
	w.advance(30 * time.Second)
	require.False(t, w.once("a", asynqjobs.Every(time.Minute), "x"), "nothing changed but the name's pseudonym")
	require.EqualValues(t, 1, w.rdb.HLen(t.Context(), "{sealcache:jobs:}:schedules").Val())
	w.run(before, after)
	require.Empty(t, w.pending("default"), "the last tick was kept")
	w.advance(30 * time.Second)
	w.run(before, after)
	require.Len(t, w.pending("default"), 1)
	w.s = before
	require.False(t, w.once("a", asynqjobs.Every(time.Minute), "x"))
	canceled, err := after.Cancel(t.Context(), "a")
	require.NoError(t, err)
	require.True(t, canceled, "under whichever key")
	require.Empty(t, w.names(before))
	require.EqualValues(t, 1, w.rdb.HLen(t.Context(), "{sealcache:jobs:}:schedules").Val(), "the cancellation")
}

func TestSchedulerRefuses(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	for name, c := range map[string]struct {
		name string
		when asynqjobs.Schedule
		task *asynq.Task
		opts []asynq.Option
	}{
		"no name":     {"", asynqjobs.Every(time.Minute), asynq.NewTask("t", nil), nil},
		"no task":     {"a", asynqjobs.Every(time.Minute), nil, nil},
		"no type":     {"a", asynqjobs.Every(time.Minute), asynq.NewTask("", nil), nil},
		"no schedule": {"a", asynqjobs.Schedule{}, asynq.NewTask("t", nil), nil},
		"too often":   {"a", asynqjobs.Every(time.Millisecond), asynq.NewTask("t", nil), nil},
		"nonsense":    {"a", asynqjobs.Cron("when it rains"), asynq.NewTask("t", nil), nil},
		"unique":      {"a", asynqjobs.Every(time.Minute), asynq.NewTask("t", nil), []asynq.Option{asynq.Unique(time.Hour)}},
		"group":       {"a", asynqjobs.Every(time.Minute), asynq.NewTask("t", nil), []asynq.Option{asynq.Group("g")}},
		"id":          {"a", asynqjobs.Every(time.Minute), asynq.NewTask("t", nil), []asynq.Option{asynq.TaskID("1")}},
		"a time":      {"a", asynqjobs.Every(time.Minute), asynq.NewTask("t", nil), []asynq.Option{asynq.ProcessAt(w.now)}},
		"a delay":     {"a", asynqjobs.Every(time.Minute), asynq.NewTask("t", nil), []asynq.Option{asynq.ProcessIn(1)}},
		"no queue":    {"a", asynqjobs.Every(time.Minute), asynq.NewTask("t", nil), []asynq.Option{asynq.Queue("")}},
		"blank queue": {"a", asynqjobs.Every(time.Minute), asynq.NewTask("t", nil, asynq.Queue(" ")), nil},
		"long queue":  {"a", asynqjobs.Every(time.Minute), asynq.NewTask("t", nil), []asynq.Option{asynq.Queue(strings.Repeat("q", 1<<16))}},
		"baked":       {"a", asynqjobs.Every(time.Minute), asynq.NewTask("t", nil, asynq.Unique(time.Hour)), nil},
	} {
		_, err := w.s.ScheduleOnce(t.Context(), c.name, c.when, c.task, c.opts...)
		require.Error(t, err, name)
	}
	require.Empty(t, w.m.Keys())
	noPRF, err := jobs.NewEncryptor(newKeyring(t))
	require.NoError(t, err)
	c, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(w.rdb), noPRF)
	require.NoError(t, err)
	_, err = asynqjobs.NewScheduler(w.rdb, c)
	require.ErrorIs(t, err, jobs.ErrNoPRF)
	_, err = asynqjobs.NewScheduler(nil, w.c)
	require.Error(t, err)
	_, err = asynqjobs.NewScheduler(w.rdb, nil)
	require.Error(t, err)
	for _, o := range []asynqjobs.SchedulerOption{nil, asynqjobs.WithCatchUp(-1), asynqjobs.WithCatchUp(time.Hour)} {
		_, err = asynqjobs.NewScheduler(w.rdb, w.c, o)
		require.Error(t, err)
	}
	_, err = tick.ScheduleOnce(t.Context(), nil, "a", asynqjobs.Every(time.Minute), tickArgs{})
	require.Error(t, err)
	_, err = tick.Delay(t.Context(), nil, tickArgs{})
	require.Error(t, err)
}

func TestTypedJobs(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	type args struct {
		User  int
		Names []string
	}
	job := asynqjobs.Define[args]("typed", asynq.Retention(time.Hour), asynq.MaxRetry(2))
	require.Equal(t, "typed", job.Type())
	var rec recorder
	var started atomic.Int32
	mux := asynq.NewServeMux()
	mux.Use(func(next asynq.Handler) asynq.Handler {
		return asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
			if strings.HasPrefix(task.Type(), "typed") {
				started.Add(1)
			}
			return next.ProcessTask(ctx, task)
		})
	})
	job.Handle(mux, func(_ context.Context, a args) error {
		rec.add(fmt.Sprint(a))
		return nil
	})
	serve(t, b.conn, b.e, asynq.Config{}, mux)
	now, err := job.Delay(t.Context(), b.client, args{1, []string{"a"}})
	require.NoError(t, err)
	require.Equal(t, asynq.TaskStatePending, now.State)
	require.Equal(t, 2, now.MaxRetry)
	in, err := job.EnqueueIn(t.Context(), b.client, time.Second, args{User: 2}, asynq.MaxRetry(3))
	require.NoError(t, err)
	require.Equal(t, asynq.TaskStateScheduled, in.State)
	require.Equal(t, 3, in.MaxRetry)
	at, err := job.EnqueueAt(t.Context(), b.client, time.Now().Add(time.Hour), args{User: 3})
	require.NoError(t, err)
	require.Equal(t, asynq.TaskStateScheduled, at.State)
	b.awaitState(t, "default", now.ID, asynq.TaskStateCompleted)
	b.awaitState(t, "default", in.ID, asynq.TaskStateCompleted)
	require.ElementsMatch(t, []string{"{1 [a]}", "{2 []}"}, rec.all())

	wrong, err := b.client.Enqueue(asynq.NewTask("typed", []byte(`{"User":"text"}`)))
	require.NoError(t, err)
	b.awaitState(t, "default", wrong.ID, asynq.TaskStateArchived)
	longer, err := b.client.Enqueue(asynq.NewTask("typed:other", []byte(`{}`)))
	require.NoError(t, err)
	info := b.awaitState(t, "default", longer.ID, asynq.TaskStateRetry)
	text, err := asynqjobs.OpenFailure(t.Context(), b.e, info)
	require.NoError(t, err)
	require.Contains(t, text, "handler not found")
	require.EqualValues(t, 4, started.Load(), "the mux's middleware saw real names")

	_, err = asynqjobs.Define[func()]("f").Delay(t.Context(), b.client, nil)
	require.Error(t, err)
	_, err = asynqjobs.Define[int]("").Delay(t.Context(), b.client, 1)
	require.Error(t, err)
}
