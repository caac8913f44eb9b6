package asynqjobs_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// names returns the names of the schedules that s lists.
func (w *clockwork) names(s *asynqjobs.Scheduler) []string {
	w.t.Helper()
	infos, err := s.List(w.t.Context())
	require.NoError(w.t, err)
	names := []string{}
	for _, info := range infos {
		names = append(names, info.Name)
	}
	return names
}

func (w *clockwork) register(s *asynqjobs.Scheduler, name, note string) bool {
	w.t.Helper()
	changed, err := tick.ScheduleOnce(w.t.Context(), s, name, asynqjobs.Every(time.Minute), tickArgs{note})
	require.NoError(w.t, err)
	return changed
}

func (w *clockwork) cancel(s *asynqjobs.Scheduler, name string) bool {
	w.t.Helper()
	cancelled, err := s.Cancel(w.t.Context(), name)
	require.NoError(w.t, err)
	return cancelled
}

// state is a copy of what Redis holds of the schedules, for a replica that is behind.
type state struct{ schedules, ticks map[string]string }

func (w *clockwork) save() state {
	return state{
		maps.Clone(w.rdb.HGetAll(w.t.Context(), schedulesKey).Val()),
		maps.Clone(w.rdb.HGetAll(w.t.Context(), ticksKey).Val()),
	}
}

// flush loses everything. asynq's own list of queues stays, because its clients write it only once.
func (w *clockwork) flush() {
	queues := w.rdb.SMembers(w.t.Context(), "asynq:queues").Val()
	w.m.FlushAll()
	for _, q := range queues {
		w.rdb.SAdd(w.t.Context(), "asynq:queues", q)
	}
}

func (w *clockwork) goBack(s state) {
	w.t.Helper()
	w.flush()
	if len(s.schedules) > 0 {
		require.NoError(w.t, w.rdb.HSet(w.t.Context(), schedulesKey, s.schedules).Err())
	}
	if len(s.ticks) > 0 {
		require.NoError(w.t, w.rdb.HSet(w.t.Context(), ticksKey, s.ticks).Err())
	}
}

// A running scheduler puts back what Redis lost, with anchors and last ticks, and says so.
func TestLostSchedulesArePutBack(t *testing.T) {
	t.Parallel()
	m, log := newMeters(), new(sealtest.Logs)
	w := newClockwork(t)
	c, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(w.rdb), w.e, asynqjobs.WithMeterProvider(m.provider),
		asynqjobs.WithLogger(slog.New(slog.NewTextHandler(log, nil))))
	require.NoError(t, err)
	w.s, err = asynqjobs.NewScheduler(w.rdb, c)
	require.NoError(t, err)
	_, other := w.with(w.e)
	w.register(w.s, "a", "a")
	w.register(other, "b", "b")
	require.False(t, w.register(w.s, "b", "b"), "found as it is, and so registered through both")
	w.advance(time.Minute)
	w.run()
	require.Len(t, w.pending("default"), 2)
	before, err := w.s.List(t.Context())
	require.NoError(t, err)

	w.advance(30 * time.Second)
	w.flush()
	w.run()
	after, err := w.s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, after, "payloads, anchors and last ticks")
	require.Empty(t, w.pending("default"), "no tick runs twice")
	require.EqualValues(t, 2, m.counts(t)["schedules restored"])
	require.Contains(t, log.String(), "restored=2")
	require.NotContains(t, log.String(), "Note")
	w.advance(30 * time.Second)
	w.run(w.s, other)
	require.Len(t, w.pending("default"), 2, "they go on, each once")
	w.run(w.s, other)
	require.EqualValues(t, 2, m.counts(t)["schedules restored"], "once")

	older := w.save()
	w.advance(time.Second)
	require.True(t, w.register(w.s, "a", "changed"))
	require.True(t, w.cancel(w.s, "b"))
	w.run()
	w.goBack(older)
	w.run()
	require.EqualValues(t, 3, m.counts(t)["schedules restored"], "the change of a")
	require.EqualValues(t, 1, m.counts(t)["schedules ended_again"], "b")

	_, fresh := w.with(w.e)
	w.m.FlushAll()
	w.run(fresh)
	require.Empty(t, w.names(fresh), "nothing was registered through it")
}

// A schedule that another process cancelled does not come back.
func TestCancelledSchedulesStayCancelled(t *testing.T) {
	t.Parallel()
	const rounds = 40
	for name, lose := range map[string]func(w *clockwork, other *asynqjobs.Scheduler){
		"cancelled, noticed, lost": func(w *clockwork, other *asynqjobs.Scheduler) {
			require.True(w.t, w.cancel(other, "a"))
			w.run()
			w.flush()
		},
		"cancelled, never lost": func(w *clockwork, other *asynqjobs.Scheduler) { require.True(w.t, w.cancel(other, "a")) },
		"cancelled among many changes": func(w *clockwork, other *asynqjobs.Scheduler) {
			require.True(w.t, w.cancel(other, "a"))
			for i := range rounds {
				w.register(other, fmt.Sprint("x", i), "")
			}
			for i := range rounds {
				w.cancel(other, fmt.Sprint("x", i))
			}
		},
		"lost, put back by another, cancelled": func(w *clockwork, other *asynqjobs.Scheduler) {
			require.False(w.t, w.register(other, "a", "a"))
			w.flush()
			w.run(other)
			require.True(w.t, w.cancel(other, "a"))
		},
		"lost, registered by another, cancelled": func(w *clockwork, other *asynqjobs.Scheduler) {
			w.flush()
			require.True(w.t, w.register(other, "a", "other"))
			require.True(w.t, w.cancel(other, "a"))
		},
		"cancelled and lost before anybody looked, while the other runs": func(w *clockwork, other *asynqjobs.Scheduler) {
			require.True(w.t, w.cancel(other, "a"))
			w.flush()
			w.run()
			w.run(other) // it knows better, and ends it again
		},
		"cancelled by itself": func(w *clockwork, other *asynqjobs.Scheduler) {
			require.True(w.t, w.cancel(w.s, "a"))
			w.flush()
		},
		"lost, then cancelled by itself": func(w *clockwork, other *asynqjobs.Scheduler) {
			w.flush()
			require.False(w.t, w.cancel(w.s, "a"))
		},
		"lost, then cancelled by another": func(w *clockwork, other *asynqjobs.Scheduler) {
			w.flush()
			require.False(w.t, w.cancel(other, "a"))
		},
		"brought back by an older replica, cancelled by itself": func(w *clockwork, other *asynqjobs.Scheduler) {
			s := w.save()
			require.True(w.t, w.cancel(w.s, "a"))
			w.goBack(s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newClockwork(t)
			_, other := w.with(w.e)
			require.True(t, w.register(w.s, "a", "a"))
			require.True(t, w.register(w.s, "b", "b"))
			w.run()
			lose(w, other)
			w.run()
			w.run(w.s, other)
			require.Equal(t, []string{"b"}, w.names(w.s))
			w.advance(time.Minute)
			w.run(w.s, other)
			require.Equal(t, []string{`tick {"Note":"b"}`}, w.pending("default"))
		})
	}
}

// A schedule that one process cancelled and another registered again is not lost if an older replica brings back the first
// registration.
func TestRegisteredAgainByAnother(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]bool{"the one that cancelled is first": true, "the one that registered is first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newClockwork(t)
			_, other := w.with(w.e)
			w.register(w.s, "a", "same")
			w.register(w.s, "b", "b")
			w.run(w.s, other)
			older := w.save()
			require.True(t, w.cancel(w.s, "a"))
			w.run(w.s, other)
			w.advance(time.Second)
			require.True(t, w.register(other, "a", "same"))
			w.run(w.s, other)
			w.goBack(older)
			if first {
				w.run(w.s)
			}
			w.run(other)
			w.run(w.s, other)
			w.run(w.s, other)
			require.Equal(t, []string{"a", "b"}, w.names(w.s))
		})
	}
}

// A backup that is restored after a loss lists an old cancellation. It does not end the later registration.
func TestOldCancellationsEndNothing(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	w.register(w.s, "a", "old")
	require.True(t, w.cancel(w.s, "a"))
	w.run()
	backup := w.save()
	w.flush()
	w.run()
	w.register(w.s, "a", "new")
	w.run()
	w.goBack(backup)
	w.run()
	require.Equal(t, []string{"a"}, w.names(w.s))
}

// A restored backup lists a cancellation from before a process started. It does not end what that process registered since.
func TestOldCancellationsThatAProcessNeverSaw(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, after int  // changes between the cancellation and the backup, and after the backup
		flush         bool // Redis loses everything before the backup is restored
	}{
		"of a state that it never saw":              {before: 0, after: 20},
		"of a state of which it saw later changes":  {before: 10, after: 5},
		"of such a state, after a loss of all data": {before: 10, after: 5, flush: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newClockwork(t)
			w.register(w.s, "a", "old")
			require.True(t, w.cancel(w.s, "a"))
			for i := range c.before {
				w.register(w.s, fmt.Sprint("b", i), "")
			}
			backup := w.save()
			w.register(w.s, "a", "new")
			for i := range c.after {
				w.register(w.s, fmt.Sprint("c", i), "")
			}
			_, late := w.with(w.e)
			require.False(t, w.register(late, "a", "new"))
			w.run(w.s, late)
			if c.flush {
				w.flush()
				w.run(w.s, late)
			}
			w.goBack(backup)
			w.run(late)
			require.Contains(t, w.names(late), "a")
			for range 2 {
				w.run(w.s, late)
			}
			require.Contains(t, w.names(w.s), "a")
		})
	}
}

// A restored backup lists a cancellation that processes have seen before very many changes. It does not end the later registration.
func TestOldCancellationBeforeManyChanges(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	_, other := w.with(w.e)
	w.register(w.s, "a", "old")
	require.True(t, w.cancel(other, "a"))
	w.run(w.s, other)
	backup := w.save()
	w.register(w.s, "a", "new")
	for i := range 1100 {
		w.register(w.s, "b", fmt.Sprint(i))
		if i%10 == 0 {
			w.run(w.s, other)
		}
	}
	w.flush()
	w.run(w.s, other)
	w.goBack(backup)
	w.run(w.s, other)
	require.Equal(t, []string{"a", "b"}, w.names(w.s))
}

// Redis goes back to an older schedule, and one process cannot open it. Another process cancels it, among many changes. It stays
// cancelled.
func TestCancelledBeforeTheOlderScheduleOpened(t *testing.T) {
	t.Parallel()
	for name, declared := range map[string][]string{"all are cancelled": {}, "a new one does not open either": {"new"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, set := newClockwork(t), newPRF(t)
			g := &gate{Keyring: newKeyring(t)}
			w.e = newEncryptor(t, g, jobs.WithPRF(set))
			w.c, w.s = w.with(w.e)
			_, other := w.with(newEncryptor(t, g.Keyring, jobs.WithPRF(set)))
			for i := range 20 {
				w.register(other, fmt.Sprint("b", i), "")
			}
			w.register(w.s, "a", "old")
			w.run(w.s, other)
			older := w.save()
			w.advance(time.Second)
			w.register(w.s, "a", "new")
			w.run(w.s, other)
			w.goBack(older)
			g.fail.Store(&jobs.ErrKeyServiceUnavailable)
			w.run()
			var tasks []asynqjobs.PeriodicTask
			for _, name := range declared {
				tasks = append(tasks, asynqjobs.PeriodicTask{Name: name, When: asynqjobs.Every(time.Minute), Task: asynq.NewTask("tick", nil)})
			}
			result, err := other.Sync(t.Context(), tasks)
			require.NoError(t, err)
			require.Equal(t, asynqjobs.SyncResult{Changed: len(declared), Cancelled: 21}, result)
			w.run()
			w.run()
			g.fail.Store(nil)
			for range 2 {
				w.run(w.s, other)
			}
			require.Equal(t, declared, w.names(other))
		})
	}
}

// After a failover to a replica that is behind, the latest registration counts.
func TestRedisGoesBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		since func(w *clockwork, other *asynqjobs.Scheduler) // what the replica did not get
		after func(w *clockwork, other *asynqjobs.Scheduler) // what happens before anybody looks
		want  map[string]string
	}{
		"a schedule was lost": {
			since: func(w *clockwork, _ *asynqjobs.Scheduler) { w.register(w.s, "b", "b") },
			want:  map[string]string{"a": "a", "b": "b"},
		},
		"a change was lost": {
			since: func(w *clockwork, _ *asynqjobs.Scheduler) { w.register(w.s, "a", "a2") },
			want:  map[string]string{"a": "a2"},
		},
		"a schedule was lost, and others changed some since": {
			since: func(w *clockwork, _ *asynqjobs.Scheduler) { w.register(w.s, "b", "b") },
			after: func(w *clockwork, other *asynqjobs.Scheduler) {
				w.register(other, "c", "c")
				w.register(other, "d", "d")
			},
			want: map[string]string{"a": "a", "b": "b", "c": "c", "d": "d"},
		},
		"cancelled and registered again": {
			since: func(w *clockwork, other *asynqjobs.Scheduler) {
				w.cancel(other, "a")
				w.run()
				w.register(w.s, "a", "again")
			},
			want: map[string]string{"a": "again"},
		},
		"another process registered the name since": {
			since: func(w *clockwork, _ *asynqjobs.Scheduler) { w.register(w.s, "b", "b") },
			after: func(w *clockwork, other *asynqjobs.Scheduler) { w.register(other, "b", "other") },
			want:  map[string]string{"a": "a", "b": "other"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newClockwork(t)
			_, other := w.with(w.e)
			require.True(t, w.register(w.s, "a", "a"))
			w.run(w.s, other)
			s := w.save()
			w.advance(time.Second)
			c.since(w, other)
			w.run()
			w.advance(time.Second)
			w.goBack(s)
			if c.after != nil {
				c.after(w, other)
			}
			w.run()
			w.run(other, w.s)
			infos, err := other.List(t.Context())
			require.NoError(t, err)
			got := map[string]string{}
			for _, info := range infos {
				got[info.Name] = string(info.Payload)
			}
			for name, note := range c.want {
				require.Equal(t, `{"Note":"`+note+`"}`, got[name], name)
			}
			require.Len(t, got, len(c.want))
		})
	}
}

// A scheduler notices late that Redis went back, after many changes.
func TestRedisGoesBackAndManyChangesFollow(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	_, first := w.with(w.e)
	require.True(t, w.register(w.s, "a", "a"))
	w.run(w.s, first)
	behind := w.save()
	w.advance(time.Second)
	w.register(w.s, "b", "b")
	w.run(w.s, first)
	w.goBack(behind)
	w.run(first)
	for i := range 20 {
		w.register(first, fmt.Sprint("c", i), "c")
	}
	w.run(w.s)
	require.Contains(t, w.names(first), "b")
}

// beforeEnqueue calls do before the next task is enqueued.
type beforeEnqueue struct{ do func() }

func (*beforeEnqueue) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*beforeEnqueue) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *beforeEnqueue) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if do := h.do; do != nil && strings.Contains(fmt.Sprint(cmd.Args()...), ":pending") {
			h.do = nil
			do()
		}
		return next(ctx, cmd)
	}
}

// A replica that lacks the last tick becomes the master after a scheduler has read the last ticks and before it enqueues the
// next one. Both ticks run: the next one is not noted on a server that lacks the last one.
func TestTickThatAFailoverLostRuns(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	w.once("a", asynqjobs.Every(20*time.Second), "x")
	w.run()
	w.advance(20 * time.Second)
	w.run()
	require.Len(t, w.pending("default"), 1)
	behind := w.save()
	w.advance(20 * time.Second)
	w.run()
	require.Len(t, w.waiting("default"), 1, "the tick that will be lost")
	w.advance(20 * time.Second)
	hook := &beforeEnqueue{do: func() { w.goBack(behind) }}
	w.rdb.AddHook(hook)
	w.run()
	require.Nil(t, hook.do)
	require.Len(t, w.waiting("default"), 2)
	infos, err := w.s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, w.now.UnixMilli(), infos[0].Last.UnixMilli())
	w.run()
	require.Len(t, w.waiting("default"), 2)
}

// The same on a real Redis, while schedulers run: FLUSHALL, and a restart without persistence.
func TestSchedulesOutliveTheirRedis(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	count := &tickCount{t: t, runs: map[string]map[string]int{}}
	serve(t, b.conn, b.e, asynq.Config{Queues: map[string]int{"ticks": 1}}, count)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range 3 {
		s, err := asynqjobs.NewScheduler(b.rdb, newClient(t, b.conn, b.e), asynqjobs.WithPoll(100*time.Millisecond))
		require.NoError(t, err)
		_, err = tick.ScheduleOnce(t.Context(), s, "interval", asynqjobs.Every(time.Second), tickArgs{Note: "interval"}, asynq.Queue("ticks"))
		require.NoError(t, err)
		wg.Go(func() { _ = s.Run(ctx) })
	}
	more := func(what string) {
		t.Helper()
		before, _ := count.of("interval")
		eventually(t, what, patience, func() bool { n, _ := count.of("interval"); return n >= before+2 })
	}
	more("ticks before")
	require.NoError(t, b.rdb.FlushAll(t.Context()).Err())
	more("ticks after FLUSHALL")
	require.NoError(t, b.srv.Kill())
	require.NoError(t, b.srv.Restart())
	more("ticks after a restart without persistence")
	ticks, runs := count.of("interval")
	const losses = 2
	require.LessOrEqual(t, runs, ticks+losses, "of ticks at most the last before a loss runs twice")
	require.EqualValues(t, 1, b.rdb.HLen(t.Context(), schedulesKey).Val())
}

// A failover to a master whose clock is behind sets the server's clock back. Jobs go on at once, and nothing runs in a burst.
func TestClockOfRedisIsSetBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		when asynqjobs.Schedule
		back time.Duration
		want int
	}{
		"an interval, an hour":      {asynqjobs.Every(20 * time.Second), time.Hour, 9},
		"an interval, some seconds": {asynqjobs.Every(20 * time.Second), 5 * time.Second, 8}, // the tick that has run is not repeated
		"cron, an hour":             {asynqjobs.Cron("* * * * *"), time.Hour, 3},
		"cron, fifty years":         {asynqjobs.Cron("* * * * *"), 50 * 365 * 24 * time.Hour, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, ticked := range []bool{true, false} {
				w := newClockwork(t)
				_, other := w.with(w.e)
				w.once("a", c.when, "a")
				s := w.s.Steps(t.Context())
				if ticked {
					w.advance(2 * time.Minute)
					s()
					require.NotEmpty(t, w.pending("default"))
				}
				s()
				w.advance(-c.back)
				s()
				require.Empty(t, w.pending("default"), "no ticks of before")
				got := 0
				for range 18 { // three minutes
					w.advance(10 * time.Second)
					s()
					got += len(w.pending("default"))
				}
				require.Equal(t, c.want, got, "ticked %v", ticked)
				// A process that starts later goes on where they are.
				w.run(other)
				require.LessOrEqual(t, len(w.pending("default")), 3)
				w.advance(time.Minute)
				w.run(other)
				require.NotEmpty(t, w.pending("default"))
			}
		})
	}
}

// A schedule that is cancelled while Redis lacks it stays cancelled, even if an older state with it comes back.
func TestEndedAfterALoss(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(w *clockwork, other, third *asynqjobs.Scheduler, before state)
		want []string
	}{
		"lost, replaced, cancelled, brought back": {
			end: func(w *clockwork, other, third *asynqjobs.Scheduler, _ state) {
				older := w.save()
				w.flush()
				require.True(w.t, w.register(w.s, "a", "new"))
				w.run(w.s, other, third)
				require.True(w.t, w.cancel(w.s, "a"))
				w.run(w.s, other, third)
				w.goBack(older)
			},
			want: []string{"b"},
		},
		"lost, cancelled by another, brought back": {
			end: func(w *clockwork, other, third *asynqjobs.Scheduler, _ state) {
				older := w.save()
				w.flush()
				require.False(w.t, w.cancel(other, "a"))
				w.run(w.s, other, third)
				w.goBack(older)
			},
			want: []string{"b"},
		},
		"an older state, cancelled by another, noticed by a third": {
			end: func(w *clockwork, other, third *asynqjobs.Scheduler, before state) {
				w.goBack(before)
				require.False(w.t, w.cancel(other, "a"))
				w.run(third)
			},
			want: []string{"b"},
		},
		"lost, not declared": {
			end: func(w *clockwork, other, _ *asynqjobs.Scheduler, _ state) {
				require.False(w.t, w.register(other, "a", "a"))
				w.run(w.s, other)
				w.flush()
				_, err := w.s.Sync(w.t.Context(), nil)
				require.NoError(w.t, err)
			},
			want: []string{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newClockwork(t)
			_, other := w.with(w.e)
			_, third := w.with(w.e)
			require.True(t, w.register(w.s, "b", "b"))
			w.run(w.s, other, third)
			before := w.save()
			require.True(t, w.register(w.s, "a", "a"))
			w.run(w.s, other, third)
			c.end(w, other, third, before)
			for range 2 {
				w.run(w.s, other, third)
			}
			require.Equal(t, c.want, w.names(w.s))
		})
	}
}

// A registration counts from the call, also if an older state of Redis already holds the same schedule. Another process may have
// ended or replaced that one.
func TestRegisteredAfterRedisWentBack(t *testing.T) {
	t.Parallel()
	for name, since := range map[string]func(w *clockwork){
		"cancelled in the lost state": func(w *clockwork) { require.True(w.t, w.cancel(w.s, "a")) },
		"replaced in the lost state":  func(w *clockwork) { require.True(w.t, w.register(w.s, "a", "2")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newClockwork(t)
			_, other := w.with(w.e)
			require.True(t, w.register(w.s, "a", "1"))
			w.run(w.s, other)
			older := w.save()
			w.advance(time.Second)
			since(w)
			w.run(w.s, other)
			w.advance(time.Second)
			w.goBack(older)
			require.True(t, w.register(other, "a", "1"))
			require.False(t, w.register(other, "a", "1"), "once")
			for range 2 {
				w.run(w.s, other)
			}
			infos, err := w.s.List(t.Context())
			require.NoError(t, err)
			require.Len(t, infos, 1)
			require.JSONEq(t, `{"Note":"1"}`, string(infos[0].Payload))
			require.False(t, w.register(other, "a", "1"))
		})
	}
}

// A Scheduler that does not run cannot tell when Redis lost data. It keeps what it finds.
func TestRegisteredAfterALossWithoutRun(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	_, other := w.with(w.e)
	w.register(w.s, "a", "a")
	w.register(other, "b", "b")
	w.run(w.s, other)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, other.Run(ended))
	w.flush()
	w.run()
	require.False(t, w.register(other, "a", "a"))
}

// A scheduler puts a registration back also if Redis loses only this one, and other processes made changes just before. A
// cancellation before the registration does not end it.
func TestRegistrationIsLostAtOnce(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(w *clockwork, other *asynqjobs.Scheduler){
		"another schedule":       func(w *clockwork, other *asynqjobs.Scheduler) { w.register(other, "b", "b") },
		"a cancellation":         func(w *clockwork, other *asynqjobs.Scheduler) { require.True(w.t, w.cancel(other, "a")) },
		"a loss, a cancellation": func(w *clockwork, other *asynqjobs.Scheduler) { w.flush(); require.False(w.t, w.cancel(other, "a")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newClockwork(t)
			_, other := w.with(w.e)
			require.True(t, w.register(w.s, "a", "old"))
			w.run(w.s, other)
			w.advance(time.Second)
			before(w, other)
			older := w.save()
			require.True(t, w.register(w.s, "a", "new"))
			w.goBack(older)
			w.run(w.s, other)
			infos, err := w.s.List(t.Context())
			require.NoError(t, err)
			require.Equal(t, "a", infos[0].Name)
			require.JSONEq(t, `{"Note":"new"}`, string(infos[0].Payload))
		})
	}
}

// Redis goes back to an older schedule, which a process cannot open at first. The later registration counts when it opens.
func TestOlderScheduleThatDoesNotOpenYet(t *testing.T) {
	t.Parallel()
	w, g := gated(t)
	w.register(w.s, "a", "old")
	w.run()
	older := w.save()
	w.advance(time.Second)
	w.register(w.s, "a", "new")
	w.run()
	w.goBack(older)
	g.fail.Store(&jobs.ErrKeyServiceUnavailable)
	w.run()
	require.Equal(t, older.schedules, w.save().schedules, "it may be a later one of another process")
	g.fail.Store(nil)
	w.advance(time.Minute)
	w.run()
	infos, err := w.s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, infos, 1)
	require.JSONEq(t, `{"Note":"new"}`, string(infos[0].Payload))
}

// An attacker who puts an old cancellation back ends no later registration.
func TestReplayedCancellation(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	w.register(w.s, "a", "a")
	w.run()
	w.advance(time.Second)
	require.True(t, w.cancel(w.s, "a"))
	cancelled := w.save().schedules
	w.advance(time.Second)
	require.True(t, w.register(w.s, "a", "again"))
	w.run()
	require.NoError(t, w.rdb.HSet(t.Context(), schedulesKey, cancelled).Err())
	require.NoError(t, w.rdb.HSet(t.Context(), ticksKey, "version", "planted").Err())
	w.run()
	require.Equal(t, []string{"a"}, w.names(w.s))

	// A process that has not seen the registration may register it again.
	require.NoError(t, w.rdb.HSet(t.Context(), schedulesKey, cancelled).Err())
	_, other := w.with(w.e)
	require.Empty(t, w.names(other))
	require.True(t, w.register(other, "a", "again"))
	w.run(w.s, other)
	require.Equal(t, []string{"a"}, w.names(w.s))
}

// A schedule that is missing in Redis, although no process cancelled it, is put back by each process that has read it.
func TestProcessesPutBackWhatTheyHaveRead(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	w.register(w.s, "a", "a")
	_, other := w.with(w.e)
	w.run(w.s, other)
	w.flush()
	w.run(other) // the process that registered it has ended
	require.Equal(t, []string{"a"}, w.names(other))
}

// Redis and each process keep the latest cancellations, and no more.
func TestCancellationsAreBounded(t *testing.T) {
	t.Parallel()
	const bound, more = 1024, 20
	w := newClockwork(t)
	_, other := w.with(w.e)
	w.register(w.s, "a", "a")
	older := w.save()
	for i := range bound + more {
		w.advance(time.Millisecond)
		w.cancel(w.s, fmt.Sprint("b", i))
	}
	w.cancel(w.s, "a")
	for range 2 {
		w.run(w.s, other)
	}
	version := w.rdb.HGet(t.Context(), ticksKey, "version").Val()
	require.EqualValues(t, bound, w.rdb.HLen(t.Context(), schedulesKey).Val())
	w.run(w.s, other)
	require.Equal(t, version, w.rdb.HGet(t.Context(), ticksKey, "version").Val(), "they agree")
	w.goBack(older)
	w.run(w.s, other)
	require.Empty(t, w.names(other))
	require.EqualValues(t, bound, w.rdb.HLen(t.Context(), schedulesKey).Val(), "they are put back, too")
}

// A process misses cancellations of which Redis no longer keeps a record. It does not bring the schedules back, because Redis
// lost nothing.
func TestCancelledWhileAProcessWasAway(t *testing.T) {
	t.Parallel()
	const bound, more = 1024, 20
	w := newClockwork(t)
	_, other := w.with(w.e)
	for i := range more {
		w.register(w.s, fmt.Sprint("a", i), "a")
	}
	w.register(w.s, "b", "b")
	w.register(w.s, "old", "old")
	w.cancel(w.s, "old") // the process knows a cancellation that Redis drops later
	w.run(w.s, other)
	w.advance(time.Second)
	for i := range more {
		w.cancel(other, fmt.Sprint("a", i))
		w.advance(time.Millisecond)
	}
	for i := range bound {
		w.cancel(other, fmt.Sprint("c", i))
		w.advance(time.Millisecond)
	}
	w.run(other)
	w.register(other, "c1", "c")
	require.EqualValues(t, bound+1, w.rdb.HLen(t.Context(), schedulesKey).Val())
	for range 2 {
		w.run()
		w.run(other)
	}
	require.Equal(t, []string{"b", "c1"}, w.names(other))
	require.EqualValues(t, bound+1, w.rdb.HLen(t.Context(), schedulesKey).Val())

	w.flush()
	w.run()
	require.Equal(t, []string{"b", "c1"}, w.names(w.s), "they were there when the process last looked")

	for i := range bound - 100 { // so few cancellations are left
		w.register(other, fmt.Sprint("c", i), "c")
	}
	for range 2 {
		w.run()
		w.run(other)
	}
	require.Len(t, w.names(other), 1+bound-100)
	require.NotContains(t, w.names(other), "a0")
}

// A process does not store a schedule again while it cannot open a value that may be a later call. The later call may be under a PRF key
// that the process does not have.
func TestLaterCallThatDoesNotOpenYet(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]*error{"not tried yet": nil, "outage": &jobs.ErrKeyServiceUnavailable} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, g := gated(t)
			_, other := w.with(newEncryptor(t, g.Keyring, jobs.WithPRF(newPRF(t))))
			w.register(w.s, "a", "a")
			w.run()
			w.advance(time.Second)
			require.True(t, w.cancel(other, "a"))
			cancelled := w.save()
			g.fail.Store(fail)
			w.run()
			require.Equal(t, cancelled, w.save())
			g.fail.Store(nil)
			w.advance(time.Minute)
			w.run()
			require.Equal(t, cancelled, w.save())
			w.flush()
			w.run()
			require.Empty(t, w.names(w.s))
		})
	}
}
