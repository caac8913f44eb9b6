package asynqjobs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// gate is a keyring that opens slowly, or not, and counts that. It seals as ever.
type gate struct {
	*aead.Keyring
	opens atomic.Int64
	delay atomic.Int64 // of an opening
	fail  atomic.Pointer[error]
}

func (g *gate) OpenTo(ctx context.Context, dst, c, ad []byte) ([]byte, error) {
	g.opens.Add(1)
	if d := g.delay.Load(); d > 0 {
		select {
		case <-time.After(time.Duration(d)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := g.fail.Load(); err != nil {
		return nil, *err
	}
	return g.Keyring.OpenTo(ctx, dst, c, ad)
}

// gated is a clockwork whose keys are behind a gate.
func gated(t *testing.T, opts ...asynqjobs.Option) (*clockwork, *gate) {
	t.Helper()
	w, g := newClockwork(t), &gate{Keyring: newKeyring(t)}
	w.e = newEncryptor(t, g)
	w.c, w.s = w.with(w.e, opts...)
	return w, g
}

// plant puts n values among the schedules that do not open.
func (w *clockwork) plant(n int) {
	w.t.Helper()
	for _, raw := range w.rdb.HGetAll(w.t.Context(), schedulesKey).Val() {
		pipe := w.rdb.Pipeline()
		for i := range n {
			pipe.HSet(w.t.Context(), schedulesKey, fmt.Sprintf("%043d", i), raw)
		}
		pipe.HSet(w.t.Context(), ticksKey, "version", "planted")
		_, err := pipe.Exec(w.t.Context())
		require.NoError(w.t, err)
		return
	}
	w.t.Fatal("there must be one schedule")
}

// background runs s until the test ends.
func (w *clockwork) background(s *asynqjobs.Scheduler) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
}

// An attacker plants thousands of values next to the schedules. A slow key service must refuse each of them, which takes 40
// seconds one after another. Schedules that are known tick on time, those that are not are found, changes are quick, and what
// was refused is not asked for again.
func TestGarbageBesideSchedules(t *testing.T) {
	t.Parallel()
	const garbage, delay, soon = 2000, 20 * time.Millisecond, 5 * time.Second
	m := newMeters()
	w, g := gated(t, asynqjobs.WithMeterProvider(m.provider))
	require.True(t, w.once("known", asynqjobs.Every(time.Minute), "known"))
	w.plant(garbage)
	g.delay.Store(int64(delay))

	w.background(w.s)
	for i := range int64(2) {
		w.advance(time.Minute)
		w.rdb.HSet(t.Context(), ticksKey, "version", fmt.Sprint(i))
		eventually(t, "a tick of what is known", soon, func() bool { return m.counts(t)["tick enqueued"] == i+1 })
	}
	require.Less(t, g.opens.Load(), int64(garbage), "it did not wait for all of them")

	_, other := w.with(w.e) // it knows nothing yet
	began := time.Now()
	changed, err := tick.ScheduleOnce(t.Context(), other, "new", asynqjobs.Every(time.Hour), tickArgs{"new"})
	require.NoError(t, err)
	require.True(t, changed)
	require.Less(t, time.Since(began), soon)
	// To open everything again would take half a minute now.
	g.delay.Store(int64(10 * delay))
	began = time.Now()
	changed, err = tick.ScheduleOnce(t.Context(), other, "another", asynqjobs.Every(time.Hour), tickArgs{"new"})
	require.NoError(t, err)
	require.True(t, changed)
	require.Less(t, time.Since(began), 2*soon, "nothing changed that it did not change itself")
	g.delay.Store(int64(delay))
	began = time.Now()
	canceled, err := other.Cancel(t.Context(), "another")
	require.NoError(t, err)
	require.True(t, canceled)
	require.Less(t, time.Since(began), soon)

	_, fresh := w.with(w.e, asynqjobs.WithMeterProvider(m.provider))
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	canceled, err = fresh.Cancel(short, "nobody")
	require.ErrorContains(t, err, "has not opened this schedule yet", "within the caller's own time")
	require.False(t, canceled)

	w.background(fresh)
	w.advance(time.Hour)
	eventually(t, "a tick of what was found", 40*time.Second, func() bool { return m.counts(t)["tick enqueued"] >= 4 })
	eventually(t, "all were tried", 40*time.Second, func() bool {
		infos, err := fresh.List(t.Context())
		return len(infos) == 2 && err != nil && !strings.Contains(err.Error(), "has not opened this schedule yet")
	})
	before := g.opens.Load()
	w.rdb.HSet(t.Context(), ticksKey, "version", "once more")
	infos, err := fresh.List(t.Context())
	require.ErrorIs(t, err, jobs.ErrUnauthentic)
	require.Len(t, infos, 2)
	require.Less(t, g.opens.Load()-before, int64(garbage/2), "what was refused for good is not opened for each change")
}

// A new name does not have the others opened, whichever process registered them: once each, at most.
func TestRegisteringManySchedules(t *testing.T) {
	t.Parallel()
	const n = 100
	w, g := gated(t)
	_, other := w.with(w.e)
	for i := range n {
		for j, s := range []*asynqjobs.Scheduler{w.s, other} {
			changed, err := tick.ScheduleOnce(t.Context(), s, fmt.Sprint(i, " ", j), asynqjobs.Every(time.Hour), tickArgs{})
			require.NoError(t, err)
			require.True(t, changed)
		}
	}
	require.LessOrEqual(t, g.opens.Load(), int64(2*n))
	_, err := w.s.Cancel(t.Context(), "0 0")
	require.NoError(t, err)
	before := g.opens.Load()
	require.True(t, w.once("one more", asynqjobs.Every(time.Hour), ""))
	require.Equal(t, before, g.opens.Load(), "of those that it registered itself, or has seen, none again")
	require.False(t, w.once("one more", asynqjobs.Every(time.Hour), ""))
	require.Equal(t, before+1, g.opens.Load(), "the value under the name is opened")
	w.rdb.AddHook(refusing{"hgetall"})
	require.True(t, w.once("and another", asynqjobs.Every(time.Hour), ""), "nor are the others read")
}

// A known schedule goes on while only opening fails. It ends when it is refused for good, without a restart; and what is
// restored comes back.
func TestKnownSchedulesAreProvedAgain(t *testing.T) {
	t.Parallel()
	m := newMeters()
	w, g := gated(t, asynqjobs.WithMeterProvider(m.provider))
	require.True(t, w.once("a", asynqjobs.Every(time.Minute), "a"))
	w.background(w.s)
	var ticks int64
	step := func(d time.Duration, err error, goesOn bool) {
		t.Helper()
		if g.fail.Store(nil); err != nil {
			g.fail.Store(&err)
		}
		before := g.opens.Load()
		w.advance(d)
		eventually(t, "it is opened again", patience, func() bool { return g.opens.Load() > before })
		if !goesOn {
			eventually(t, "it ended", patience, func() bool {
				w.advance(time.Minute)
				before := m.counts(t)["tick enqueued"]
				time.Sleep(300 * time.Millisecond)
				ticks = m.counts(t)["tick enqueued"]
				return ticks == before
			})
			return
		}
		eventually(t, "it goes on", patience, func() bool {
			if n := m.counts(t)["tick enqueued"]; n > ticks {
				ticks = n
				return true
			}
			return false
		})
		w.advance(time.Minute)
		eventually(t, "also the next time", patience, func() bool {
			if n := m.counts(t)["tick enqueued"]; n > ticks {
				ticks = n
				return true
			}
			return false
		})
	}
	step(time.Minute, nil, true)
	step(time.Minute, jobs.ErrKeyServiceUnavailable, true)
	step(time.Minute, jobs.ErrUnknownKey, true)
	step(time.Minute, jobs.ErrUnauthentic, false)
	step(10*time.Minute, nil, true)
}

// A schedule that could not be opened at first is opened a minute later, although nothing changed.
func TestSchedulesAreReadAgain(t *testing.T) {
	t.Parallel()
	m := newMeters()
	w, g := gated(t, asynqjobs.WithMeterProvider(m.provider))
	require.True(t, w.once("a", asynqjobs.Every(10*time.Minute), "a"))
	_, s := w.with(w.e, asynqjobs.WithMeterProvider(m.provider))
	g.fail.Store(&jobs.ErrKeyServiceUnavailable)
	before := g.opens.Load()
	w.background(s)
	eventually(t, "it was tried", patience, func() bool { return g.opens.Load() > before })
	g.fail.Store(nil)
	w.advance(10 * time.Minute)
	eventually(t, "it ticks", patience, func() bool { return m.counts(t)["tick enqueued"] == 1 })
}

// refusing has a client fail with one command.
type refusing struct{ command string }

func (refusing) DialHook(next redis.DialHook) redis.DialHook { return next }
func (refusing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r refusing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == r.command {
			err := errors.New("refused")
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

// While schedules cannot be read, known ones go on unless they are no longer stored.
func TestSchedulesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	m := newMeters()
	w := newClockwork(t, asynqjobs.WithMeterProvider(m.provider))
	require.True(t, w.once("a", asynqjobs.Every(time.Minute), "a"))
	require.True(t, w.once("b", asynqjobs.Every(time.Minute), "b"))
	w.rdb.AddHook(refusing{"hgetall"})
	w.background(w.s)
	w.advance(time.Minute)
	eventually(t, "both tick", patience, func() bool { return m.counts(t)["tick enqueued"] == 2 })
	require.Len(t, w.pending("default"), 2)
	other := redis.NewClient(&redis.Options{Addr: w.m.Addr()})
	defer other.Close()
	for field := range other.HGetAll(t.Context(), schedulesKey).Val() {
		other.HDel(t.Context(), schedulesKey, field)
		break
	}
	w.advance(time.Minute)
	eventually(t, "one ticks", patience, func() bool { return m.counts(t)["tick enqueued"] == 3 })
	time.Sleep(300 * time.Millisecond)
	require.EqualValues(t, 3, m.counts(t)["tick enqueued"])
}

// The application can change a task after its registration without changing the schedule.
func TestSchedulesShareNothingWithTheirTask(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	payload := []byte("as registered")
	_, err := w.s.ScheduleOnce(t.Context(), "a", asynqjobs.Every(time.Minute), asynq.NewTask("t", payload))
	require.NoError(t, err)
	copy(payload, "XXXXX")
	infos, err := w.s.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, "as registered", string(infos[0].Payload))
	copy(infos[0].Payload, "XXXXX")
	w.advance(time.Minute)
	w.run()
	require.Equal(t, []string{"t as registered"}, w.pending("default"))
}

// Each caller is told the present state, also of what was refused for good a moment ago, as long as that is little.
func TestListOpensAgain(t *testing.T) {
	t.Parallel()
	w, g := gated(t)
	require.True(t, w.once("a", asynqjobs.Every(time.Minute), "a"))
	_, s := w.with(w.e)
	for _, reason := range []error{jobs.ErrUnauthentic, jobs.ErrUnknownKey, jobs.ErrKeyServiceUnavailable} {
		g.fail.Store(&reason)
		infos, err := s.List(t.Context())
		require.ErrorIs(t, err, reason)
		require.Empty(t, infos)
	}
	g.fail.Store(nil)
	infos, err := s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, infos, 1)
}
