package asynqjobs_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/stores/storetest/redistest"
)

// longVariable asks for tests that take minutes. `make test-long` sets it.
const longVariable = "ASYNQJOBS_TEST_LONG"

// tickCount counts the runs of each tick: by schedule, then by the task's id, which is the tick's.
type tickCount struct {
	t    *testing.T
	mu   sync.Mutex
	runs map[string]map[string]int
}

func (c *tickCount) ProcessTask(ctx context.Context, task *asynq.Task) error {
	var args tickArgs
	if err := json.Unmarshal(task.Payload(), &args); err != nil || task.Type() != "tick" {
		c.t.Errorf("a task that is no tick: %s %q", task.Type(), task.Payload())
	}
	id, _ := asynq.GetTaskID(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runs[args.Note] == nil {
		c.runs[args.Note] = map[string]int{}
	}
	c.runs[args.Note][id]++
	return nil
}

// of returns how many ticks of a schedule have run, and how many runs that were.
func (c *tickCount) of(name string) (ticks, runs int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.runs[name] {
		ticks++
		runs += n
	}
	return ticks, runs
}

// Eight processes register and run the same two schedules. For a minute one after the other is killed, or ended, at
// random, and another started; once all are dead for three seconds. One of them is told that a schedule is new, and
// each tick has run once: none is missing, none ran twice.
func TestEightSchedulersOneRunPerTick(t *testing.T) {
	t.Parallel()
	ticks := 60
	if testing.Short() {
		ticks = 12
	}
	countTicks(t, redistest.Start(t), ticks, nil)
}

// The same while Redis, with an append-only file, is killed and started again. Long runs are of five minutes.
func TestEightSchedulersWhileRedisRestarts(t *testing.T) {
	t.Parallel()
	ticks, every := 12, 5
	if os.Getenv(longVariable) != "" {
		ticks, every = 300, 20
	}
	srv := redistest.StartWith(t, redistest.Options{AppendOnly: true})
	countTicks(t, srv, ticks, func(passed int) {
		if passed%every == 0 {
			require.NoError(t, srv.Kill())
			time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond)
			require.NoError(t, srv.Restart())
		}
	})
}

// countTicks calls disturb about once a second of the run.
func countTicks(t *testing.T, srv *redistest.Server, ticks int, disturb func(passed int)) {
	t.Helper()
	keys := keysets(t)
	e := sharedEncryptor(t, keys)
	b := benchOn(t, srv, e)
	count := &tickCount{t: t, runs: map[string]map[string]int{}}
	cfg := asynq.Config{Queues: map[string]int{"ticks": 1}}
	stop := serve(t, b.conn, e, cfg, count)
	var ps []*process
	for range 8 {
		ps = append(ps, spawn(t, "scheduler", keys, srv.Addr()))
	}
	eventually(t, "first ticks", patience, func() bool { n, _ := count.of("interval"); return n >= 2 })
	eventually(t, "two schedules are new", patience, func() bool { return b.rdb.Get(t.Context(), "changed").Val() == "2" })

	s, err := asynqjobs.NewScheduler(b.rdb, b.client)
	require.NoError(t, err)
	start := time.Now()
	killed, allDead := 0, false
	for passed := 1; time.Since(start) < time.Duration(ticks)*time.Second; passed++ {
		switch i := rand.IntN(len(ps)); {
		case !allDead && time.Since(start) > time.Duration(ticks)*time.Second/2:
			allDead = true
			for _, p := range ps {
				p.kill()
			}
			time.Sleep(3 * time.Second)
			for i := range ps {
				ps[i] = spawn(t, "scheduler", keys, srv.Addr())
			}
		case passed%4 == 0:
			ps[i].end()
			ps[i] = spawn(t, "scheduler", keys, srv.Addr())
		default:
			ps[i].kill()
			killed++
			ps[i] = spawn(t, "scheduler", keys, srv.Addr())
		}
		if disturb != nil {
			disturb(passed)
		}
		time.Sleep(time.Duration(500+rand.IntN(1000)) * time.Millisecond)
	}
	// Whoever is left has come up to the present.
	eventually(t, "ticks are on time", patience, func() bool {
		infos, err := s.List(t.Context())
		return err == nil && len(infos) == 2 && b.rdb.Time(t.Context()).Val().Sub(infos[1].Last) < 1500*time.Millisecond
	})
	for _, p := range ps {
		p.kill()
	}
	require.Equal(t, "2", b.rdb.Get(t.Context(), "changed").Val(), "whoever started later found them as they are")
	if disturb != nil {
		// A tick that the worker was being handed when Redis died comes again when its lease has run out.
		stop()
		expireLeases(t, b.rdb, "ticks")
		serve(t, b.conn, e, cfg, count)
	}

	infos, err := s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, infos, 2)
	for _, info := range infos {
		// A process may have been killed between enqueueing a tick and noting it: so the ticks are those noted, or one
		// more.
		noted := 0
		for at := nextTick(info, info.Since); !at.After(info.Last); at = nextTick(info, at) {
			noted++
		}
		if info.Name == "interval" {
			require.GreaterOrEqual(t, noted, ticks)
		} else {
			require.GreaterOrEqual(t, noted, ticks/60)
		}
		eventually(t, "last ticks", patience, func() bool { n, _ := count.of(info.Name); return n >= noted })
		got, runs := count.of(info.Name)
		t.Logf("%s: %d ticks noted, %d ran, in %d runs; %d processes killed", info.Name, noted, got, runs, killed)
		require.LessOrEqual(t, got, noted+1, "%s: a tick ran under two ids", info.Name)
		require.Equal(t, got, runs, "%s: a tick ran twice", info.Name)
	}
}

// nextTick is the tick of an interval of a second, or of each minute, after at.
func nextTick(info asynqjobs.ScheduleInfo, at time.Time) time.Time {
	if info.Name == "interval" {
		return at.Add(time.Second)
	}
	return at.Truncate(time.Minute).Add(time.Minute)
}

// A new release changes interval and arguments of a job while processes of the old one still run, and some of those are
// restarted meanwhile. Whoever registered last counts: at no time do both run, and when all are new, so is the job.
func TestRollingDeployment(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	const old, fresh = `tick {"Note":"old"}`, `tick {"Note":"new"}`
	asOld := func() bool { return w.once("a", asynqjobs.Every(time.Minute), "old") }
	asNew := func() bool { return w.once("a", asynqjobs.Every(2*time.Minute), "new", asynq.MaxRetry(1)) }
	var ss []*asynqjobs.Scheduler
	for range 4 {
		_, s := w.with(w.e)
		ss = append(ss, s)
	}
	require.True(t, asOld())
	w.advance(time.Minute)
	w.run(ss...)
	require.Equal(t, []string{old}, w.pending("default"))

	require.True(t, asNew(), "the first new process")
	w.advance(time.Minute)
	w.run(ss...)
	require.Empty(t, w.pending("default"), "old processes that run go by the new interval")
	w.advance(time.Minute)
	w.run(ss...)
	require.Equal(t, []string{fresh}, w.pending("default"), "and the new arguments")

	require.True(t, asOld(), "an old process is restarted: back again")
	require.False(t, asOld(), "another")
	w.advance(time.Minute)
	w.run(ss...)
	require.Equal(t, []string{old}, w.pending("default"))
	require.True(t, asNew())
	require.False(t, asNew())
	w.advance(time.Minute)
	w.run(ss...)
	require.Empty(t, w.pending("default"), "counted from the last change")
	for range 3 {
		w.advance(time.Minute)
		w.run(ss...)
	}
	require.Equal(t, []string{fresh, fresh}, w.pending("default"))
	require.EqualValues(t, 1, w.rdb.HLen(t.Context(), schedulesKey).Val())
}

// Old and new processes start at the same moment, many of each. One definition is left, and whoever set it was told so.
func TestOldAndNewProcessesStartAtOnce(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	changes := map[string]int{}
	for i := range 16 {
		_, s := w.with(w.e)
		note := []string{"old", "new"}[i%2]
		wg.Go(func() {
			changed, err := tick.ScheduleOnce(t.Context(), s, "a", asynqjobs.Every(time.Minute), tickArgs{note})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if changed {
				changes[note]++
			}
		})
	}
	wg.Wait()
	infos, err := w.s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, infos, 1)
	var args tickArgs
	require.NoError(t, json.Unmarshal(infos[0].Payload, &args))
	// Changes alternate, and the first is one: of the definition that is left there were as many as of the other, or
	// one more.
	other := map[string]string{"old": "new", "new": "old"}[args.Note]
	require.Positive(t, changes[args.Note])
	require.Contains(t, []int{0, 1}, changes[args.Note]-changes[other])
	w.advance(time.Minute)
	w.run()
	require.Equal(t, []string{`tick {"Note":"` + args.Note + `"}`}, w.pending("default"))
}

// Schedulers are running when a job is cancelled, and when it is registered again.
func TestCancelWhileSchedulersRun(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		_, s := w.with(w.e)
		wg.Go(func() { _ = s.Run(ctx) })
	}
	defer wg.Wait()
	defer cancel()
	moment := func() { time.Sleep(400 * time.Millisecond) } // some passes of each
	w.once("a", asynqjobs.Every(time.Minute), "a")
	w.once("b", asynqjobs.Every(time.Minute), "b")
	w.advance(time.Minute)
	const a, b = `tick {"Note":"a"}`, `tick {"Note":"b"}`
	ticks := func(n int) { eventually(t, "ticks", patience, func() bool { return len(w.waiting("default")) >= n }) }
	ticks(2)
	moment()
	require.ElementsMatch(t, []string{a, b}, w.waiting("default"))

	canceled, err := w.s.Cancel(t.Context(), "a")
	require.NoError(t, err)
	require.True(t, canceled)
	w.advance(time.Minute)
	ticks(3)
	moment()
	require.ElementsMatch(t, []string{a, b, b}, w.waiting("default"))
	require.EqualValues(t, 2, w.rdb.HLen(t.Context(), ticksKey).Val(), "the version and the tick of the other: nobody notes a tick of what was cancelled")

	require.True(t, w.once("a", asynqjobs.Every(time.Minute), "a"), "again")
	w.advance(time.Minute)
	ticks(5)
	moment()
	require.ElementsMatch(t, []string{a, b, b, a, b}, w.waiting("default"))
}

// The night in which clocks go back, and the one in which they go forward, with eight schedulers that look every five
// minutes: each tick comes once, and within those.
func TestSchedulersWhenClocksAreChanged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from time.Time
		want map[string]string // by the time, UTC
	}{
		"back": {time.Date(2026, 10, 24, 23, 50, 0, 0, time.UTC), map[string]string{
			"00:00": "hourly", "00:30": "night", "01:00": "hourly", "02:00": "hourly",
		}},
		"forward": {time.Date(2026, 3, 28, 23, 50, 0, 0, time.UTC), map[string]string{
			"00:00": "hourly", "01:00": "hourly", "02:00": "hourly",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newClockwork(t)
			w.now = c.from
			w.advance(0)
			w.once("night", asynqjobs.Cron("CRON_TZ=Europe/Berlin 30 2 * * *"), "night")
			w.once("hourly", asynqjobs.Cron("CRON_TZ=Europe/Berlin 0 * * * *"), "hourly")
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for range 8 {
				_, s := w.with(w.e)
				wg.Go(func() { _ = s.Run(ctx) })
			}
			defer wg.Wait()
			defer cancel()
			var want []string
			for range 30 { // two hours and a half
				w.advance(5 * time.Minute)
				if note, ok := c.want[w.now.Format("15:04")]; ok {
					want = append(want, `tick {"Note":"`+note+`"}`)
					eventually(t, note, patience, func() bool { return len(w.waiting("default")) >= len(want) })
				}
			}
			w.run()
			require.ElementsMatch(t, want, w.waiting("default"))
		})
	}
}
