package asynqjobs_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// A new release changes interval and arguments of a job while processes of the old one still run. Some of the old processes
// restart at that time. The last registration counts. The two jobs never run both, and when all processes are new, so is the job.
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

// Old and new processes start at the same moment, many of each. One definition is left, and the process that set it was told so.
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
	var processes []*polls
	for range 4 {
		rdb, p := w.connect()
		processes = append(processes, p)
		_, s := w.over(rdb, w.e)
		wg.Go(func() { _ = s.Run(ctx) })
	}
	defer wg.Wait()
	defer cancel()
	moment := func() { // a pass of each
		for _, p := range processes {
			p.again(t)
		}
	}
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
	require.EqualValues(t, 2, w.rdb.HLen(t.Context(), ticksKey).Val(), "the version and the tick of the other: no process notes a tick of a cancelled schedule")

	require.True(t, w.once("a", asynqjobs.Every(time.Minute), "a"), "again")
	w.advance(time.Minute)
	ticks(5)
	moment()
	require.ElementsMatch(t, []string{a, b, b, a, b}, w.waiting("default"))
}

// Eight schedulers look every five minutes, in the night in which clocks go back and in that in which they go
// forward. Each tick comes once, within five minutes.
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
