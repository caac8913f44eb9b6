package asynqjobs_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// A scheduler may be suspended for minutes between two ticks, for example because the machine sleeps. It must then
// read the last ticks again: other schedulers have enqueued the remaining ticks, these have run, and their ids are
// free again.
func TestSchedulerThatIsHeldUp(t *testing.T) {
	t.Parallel()
	for name, every := range map[string][]time.Duration{"ticks of one": {20 * time.Second}, "one of each": {time.Minute, time.Minute}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newClockwork(t)
			ticks := 0
			for i, d := range every {
				w.once(fmt.Sprint(i), asynqjobs.Every(d), "x")
				ticks += int(time.Minute / d)
			}
			rdb, hold := w.held(func(args string) bool { return strings.Contains(args, "-tick-") })
			c, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), w.e, asynqjobs.WithLogger(quiet))
			require.NoError(t, err)
			const heldUp = time.Second
			s, err := asynqjobs.NewScheduler(rdb, c, asynqjobs.WithHeldUp(heldUp), asynqjobs.WithPoll(100*time.Millisecond))
			require.NoError(t, err)
			w.advance(time.Minute)
			w.background(s)
			await(t, hold.reached)
			began := time.Now()
			w.run()
			require.Len(t, w.pending("default"), ticks)
			time.Sleep(heldUp - time.Since(began))
			close(hold.release)
			hold.again(t)
			require.Empty(t, w.waiting("default"))
			w.advance(time.Minute)
			eventually(t, "it goes on", patience, func() bool { return len(w.waiting("default")) == ticks })
		})
	}
}

// failing has commands whose arguments contain a text fail after a time.
type failing struct {
	text  string
	delay time.Duration
}

func (f failing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if strings.Contains(strings.Join(fields(cmd.Args()), " "), f.text) {
			time.Sleep(f.delay)
			err := errors.New("refused")
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

// Schedules whose queue cannot be reached, a lost part of a cluster, hold up the others for a time and no longer.
func TestSchedulesOfAQueueThatIsLost(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	rdb := redis.NewClient(patient(w.m.Addr()))
	defer rdb.Close()
	const heldUp, lost = 250 * time.Millisecond, 10
	rdb.AddHook(failing{"asynq:{lost}", heldUp + 10*time.Millisecond})
	c, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), w.e, asynqjobs.WithLogger(quiet))
	require.NoError(t, err)
	s, err := asynqjobs.NewScheduler(rdb, c, asynqjobs.WithHeldUp(heldUp))
	require.NoError(t, err)
	for i := range lost {
		w.once(fmt.Sprint(i), asynqjobs.Every(time.Minute), "lost", asynq.Queue("lost"))
	}
	w.once("a", asynqjobs.Every(time.Minute), "a")
	w.advance(time.Minute)
	w.background(s)
	eventually(t, "it ticks", patience, func() bool { return len(w.waiting("default")) == 1 })
}

// A process registers a schedule, and another process cancels it before the first one knows that Redis has stored
// it. The schedule does not tick.
func TestChangesThatAreNoticedLate(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	rdb, hold := w.held(func(args string) bool {
		_, after, ok := strings.Cut(args, schedulesKey+" "+ticksKey+" ")
		return ok && strings.Contains(after, " ") // a read has one argument more than the keys, a change has several
	})
	c, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), w.e, asynqjobs.WithLogger(quiet))
	require.NoError(t, err)
	s, err := asynqjobs.NewScheduler(rdb, c, asynqjobs.WithPoll(100*time.Millisecond))
	require.NoError(t, err)
	w.once("b", asynqjobs.Every(20*time.Second), "b")
	var wg sync.WaitGroup
	wg.Go(func() {
		changed, err := tick.ScheduleOnce(t.Context(), s, "a", asynqjobs.Every(20*time.Second), tickArgs{"a"})
		if err != nil || !changed {
			t.Errorf("registered: %v, %v", changed, err)
		}
	})
	await(t, hold.reached)
	canceled, err := w.s.Cancel(t.Context(), "a")
	require.NoError(t, err)
	require.True(t, canceled)
	called := hold.answered.Load()
	w.background(s)
	eventually(t, "it looks", patience, func() bool { return hold.answered.Load() > called })
	time.Sleep(500 * time.Millisecond) // it reads what there is, unless it waits
	close(hold.release)
	wg.Wait()
	hold.again(t)
	w.advance(20 * time.Second)
	eventually(t, "a tick", patience, func() bool { return len(w.waiting("default")) > 0 })
	hold.again(t)
	require.Equal(t, []string{`tick {"Note":"b"}`}, w.waiting("default"))
}

// A holding client does not return from the first command that succeeds and that it looks for until it is released.
type holding struct {
	is               func(args string) bool
	once             sync.Once
	reached, release chan struct{}
	*polls
}

// held returns a client of the clockwork's Redis that holds a command.
func (w *clockwork) held(is func(args string) bool) (*redis.Client, *holding) {
	rdb, p := w.connect()
	h := &holding{is: is, reached: make(chan struct{}), release: make(chan struct{}), polls: p}
	rdb.AddHook(h)
	return rdb, h
}

func (h *holding) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if strings.HasPrefix(cmd.Name(), "eval") && err == nil {
			if h.is(strings.Join(fields(cmd.Args()), " ")) {
				h.once.Do(func() {
					close(h.reached)
					select {
					case <-h.release:
					case <-ctx.Done(): // a test that has failed must end
					}
				})
			}
		}
		return err
	}
}

func fields(args []any) []string {
	texts := make([]string, len(args))
	for i, a := range args {
		texts[i] = fmt.Sprint(a)
	}
	return texts
}

func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("it did not come so far")
	}
}

// An attacker without keys can only delete schedules. Altered, exchanged or planted schedules do not run and do
// not stop the others. A last tick in the future does not stop a job, and one in the past does not repeat a job.
func TestForgedSchedules(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	const schedules, ticks = "{sealcache:jobs:}:schedules", "{sealcache:jobs:}:ticks"
	w.once("a", asynqjobs.Every(10*time.Second), "a")
	w.once("b", asynqjobs.Every(time.Minute), "b")
	stored := w.rdb.HGetAll(t.Context(), schedules).Val()
	require.Len(t, stored, 2)
	infos, err := w.s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, infos, 2)
	var fields []string
	for f := range stored {
		fields = append(fields, f)
	}
	w.rdb.HSet(t.Context(), schedules, fields[0], stored[fields[1]], fields[1], stored[fields[0]], "planted", stored[fields[0]], "clear", `{"name":"x","spec":"@every 1s","type":"tick"}`)
	w.rdb.HSet(t.Context(), ticks, "version", "another")
	_, err = w.s.List(t.Context())
	require.ErrorIs(t, err, jobs.ErrUnauthentic)
	require.ErrorIs(t, err, jobs.ErrNotSealed)
	w.advance(time.Minute)
	w.run()
	require.Empty(t, w.pending("default"))

	// A schedule that never opens is replaced when it is registered again.
	w.rdb.HDel(t.Context(), schedules, "planted", "clear")
	require.True(t, w.once("a", asynqjobs.Every(10*time.Second), "a"))
	require.True(t, w.once("b", asynqjobs.Every(time.Minute), "b"))
	for f := range w.rdb.HGetAll(t.Context(), schedules).Val() {
		w.rdb.HSet(t.Context(), ticks, f, w.now.Add(1000*time.Hour).UnixMilli())
	}
	w.advance(time.Minute)
	w.run()
	infosOf := func() (ids []string) {
		tasks, err := w.insp.ListPendingTasks("default", asynq.PageSize(100))
		require.NoError(t, err)
		for _, i := range tasks {
			ids = append(ids, i.ID)
		}
		return ids
	}
	for f, tick := range w.rdb.HGetAll(t.Context(), ticks).Val() {
		if ms, err := strconv.ParseInt(tick, 10, 64); f != "version" {
			require.NoError(t, err)
			require.LessOrEqual(t, ms, w.now.UnixMilli(), "the mistake was mended")
		}
	}
	before := infosOf()
	require.Len(t, before, 7, "six of the one, one of the other")
	for f := range w.rdb.HGetAll(t.Context(), schedules).Val() {
		w.rdb.HSet(t.Context(), ticks, f, 0)
	}
	w.run()
	require.ElementsMatch(t, before, infosOf(), "the ids are known")
	w.rdb.HSet(t.Context(), ticks, "x", "not a number")
	w.run()
}

// A key service or a Redis that is down delays ticks and loses none of the last minute; the scheduler goes on.
func TestSchedulerOutlivesOutages(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	a := &failingAEAD{Keyring: newKeyring(t)}
	m := newMeters()
	w.e = newEncryptor(t, a)
	w.c, w.s = w.with(w.e, asynqjobs.WithMeterProvider(m.provider))
	require.True(t, w.once("a", asynqjobs.Every(20*time.Second), "x"))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.s.Run(ctx) }()
	w.advance(20 * time.Second)
	eventually(t, "first tick", patience, func() bool { return m.counts(t)["tick enqueued"] == 1 })

	a.set(aead.ErrKeyServiceUnavailable)
	_, err := tick.ScheduleOnce(t.Context(), w.s, "a", asynqjobs.Every(20*time.Second), tickArgs{"x"})
	require.ErrorIs(t, err, jobs.ErrKeyServiceUnavailable, "what cannot be read is not overwritten")
	w.rdb.HSet(t.Context(), "{sealcache:jobs:}:ticks", "version", "another") // have it read again
	w.advance(20 * time.Second)
	eventually(t, "tries", patience, func() bool { return m.counts(t)["tick failed"] > 1 })
	w.advance(20 * time.Second)
	a.set(nil)
	eventually(t, "both ticks", patience, func() bool { return m.counts(t)["tick enqueued"] == 3 })

	w.m.SetError("LOADING")
	w.advance(20 * time.Second)
	before := w.failed.Load()
	eventually(t, "it fails", patience, func() bool { return w.failed.Load() > before })
	w.m.SetError("")
	eventually(t, "fourth tick", patience, func() bool { return m.counts(t)["tick enqueued"] == 4 })
	cancel()
	require.NoError(t, <-ended)
	require.Len(t, w.pending("default"), 4)
}
