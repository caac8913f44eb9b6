package asynqjobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// gate is a keyring that opens when it is let, or not, and counts that. It seals as ever.
type gate struct {
	*aead.Keyring
	opens atomic.Int64
	held  atomic.Pointer[held]
	fail  atomic.Pointer[error]
}

// held is a value whose openings wait.
type held struct {
	value    string
	released chan struct{}
}

// hold makes openings of a value wait until the returned function is called, or their time is over.
func (g *gate) hold(value string) (release func()) {
	h := held{value, make(chan struct{})}
	g.held.Store(&h)
	return func() { close(h.released) }
}

func (g *gate) OpenTo(ctx context.Context, dst, c, ad []byte) ([]byte, error) {
	g.opens.Add(1)
	if h := g.held.Load(); h != nil && strings.Contains(h.value, string(c)) {
		select {
		case <-h.released:
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

// plant puts n copies of a stored schedule, which do not open, among the schedules, and returns what it copied.
func (w *clockwork) plant(n int) (raw string) {
	w.t.Helper()
	for _, raw := range w.rdb.HGetAll(w.t.Context(), schedulesKey).Val() {
		pipe := w.rdb.Pipeline()
		for i := range n {
			pipe.HSet(w.t.Context(), schedulesKey, fmt.Sprintf("%043d", i), raw)
		}
		pipe.HSet(w.t.Context(), ticksKey, "version", "planted")
		_, err := pipe.Exec(w.t.Context())
		require.NoError(w.t, err)
		return raw
	}
	w.t.Fatal("there must be one schedule")
	return ""
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

// shortDeadline is a context whose deadline is always a second away.
type shortDeadline struct{ context.Context }

func (shortDeadline) Deadline() (time.Time, bool) { return time.Now().Add(time.Second), true }

// An attacker plants thousands of values next to the schedules, and the key service hangs when it is asked for one. Schedules that are known tick, and
// changes are made. When the key service answers again, schedules that are not known are found, and what was refused is not
// asked for again.
func TestGarbageBesideSchedules(t *testing.T) {
	t.Parallel()
	const garbage = 2000
	m := newMeters()
	w := newClockwork(t)
	keys, set := newKeyring(t), newPRF(t)
	scheduler := func() (*asynqjobs.Scheduler, *gate) { // each counts its own openings
		g := &gate{Keyring: keys}
		c, _ := w.with(newEncryptor(t, g, jobs.WithPRF(set)), asynqjobs.WithMeterProvider(m.provider))
		s, err := asynqjobs.NewScheduler(w.rdb, c, asynqjobs.WithPoll(100*time.Millisecond))
		require.NoError(t, err)
		return s, g
	}
	w.e = newEncryptor(t, keys, jobs.WithPRF(set))
	known, opened := scheduler()
	w.s = known
	require.True(t, w.once("known", asynqjobs.Every(time.Minute), "known"))
	planted := w.plant(garbage)
	defer opened.hold(planted)()
	w.background(known)
	for i := range int64(2) {
		w.advance(time.Minute)
		w.rdb.HSet(t.Context(), ticksKey, "version", fmt.Sprint(i))
		eventually(t, "a tick of what is known", patience, func() bool { return m.counts(t)["tick enqueued"] == i+1 })
	}
	require.Less(t, opened.opens.Load(), int64(garbage), "it did not wait for all of them")

	other, opened := scheduler() // it knows nothing yet
	defer opened.hold(planted)()
	w.s = other
	require.True(t, w.once("new", asynqjobs.Every(time.Hour), "new"))
	before := opened.opens.Load()
	require.True(t, w.once("another", asynqjobs.Every(time.Hour), "new"))
	require.Equal(t, before, opened.opens.Load(), "nothing changed that it did not change itself")
	canceled, err := other.Cancel(t.Context(), "another")
	require.NoError(t, err)
	require.True(t, canceled)
	require.Less(t, opened.opens.Load(), int64(garbage))

	fresh, opened := scheduler()
	release := opened.hold(planted)
	canceled, err = fresh.Cancel(shortDeadline{t.Context()}, "nobody")
	require.ErrorContains(t, err, "has not decrypted this schedule yet", "within the caller's own time")
	require.False(t, canceled)
	w.background(fresh)
	release()
	w.advance(time.Hour)
	eventually(t, "a tick of what was found", patience, func() bool { return slices.Contains(w.waiting("default"), `tick {"Note":"new"}`) })
	refusedOnce(t, w, garbage, scheduler)
}

// refusedOnce requires that a new Scheduler does not open garbage again for each change, once all was refused.
func refusedOnce(t *testing.T, w *clockwork, garbage int64, scheduler func() (*asynqjobs.Scheduler, *gate)) {
	t.Helper()
	s, opened := scheduler()
	list := func() error {
		infos, err := s.List(t.Context())
		require.ErrorIs(t, err, jobs.ErrUnauthentic)
		require.Len(t, infos, 2)
		return err
	}
	eventually(t, "all were tried", patience, func() bool { return !strings.Contains(list().Error(), "has not decrypted this schedule yet") })
	before := opened.opens.Load()
	require.GreaterOrEqual(t, before, garbage)
	w.rdb.HSet(t.Context(), ticksKey, "version", "once more")
	require.Error(t, list())
	require.Less(t, opened.opens.Load()-before, garbage/2, "what was refused for good is not opened for each change")
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
	w.rdb.AddHook(refusing{asynqjobs.ReadSchedules})
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
				before := m.counts(t)["tick enqueued"]
				w.advance(time.Minute)
				w.again(t)
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
type refusing struct{ command string } // or the digest of a script

func (refusing) DialHook(next redis.DialHook) redis.DialHook { return next }
func (refusing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r refusing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); cmd.Name() == r.command || len(args) > 1 && args[1] == r.command {
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
	w.rdb.AddHook(refusing{asynqjobs.ReadSchedules})
	w.background(w.s)
	w.advance(time.Minute)
	eventually(t, "both tick", patience, func() bool { return m.counts(t)["tick enqueued"] == 2 })
	require.Len(t, w.pending("default"), 2)
	other := redis.NewClient(patient(w.m.Addr()))
	defer other.Close()
	for field := range other.HGetAll(t.Context(), schedulesKey).Val() {
		other.HDel(t.Context(), schedulesKey, field)
		break
	}
	w.advance(time.Minute)
	eventually(t, "one ticks", patience, func() bool { return m.counts(t)["tick enqueued"] == 3 })
	w.again(t)
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

// intercepted is a gate that calls a function before its next opening.
type intercepted struct {
	*gate
	do atomic.Pointer[func()]
}

func (i *intercepted) OpenTo(ctx context.Context, dst, c, ad []byte) ([]byte, error) {
	if do := i.do.Swap(nil); do != nil {
		(*do)()
	}
	return i.gate.OpenTo(ctx, dst, c, ad)
}

// A call does not fail because of a schedule that another process stores during the call, and that this process has not opened yet.
func TestSchedulesThatAppearDuringACall(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]func(ctx context.Context, s *asynqjobs.Scheduler) error{
		"Cancel": func(ctx context.Context, s *asynqjobs.Scheduler) error { _, err := s.Cancel(ctx, "none"); return err },
		"List":   func(ctx context.Context, s *asynqjobs.Scheduler) error { _, err := s.List(ctx); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, i := newClockwork(t), &intercepted{gate: &gate{Keyring: newKeyring(t)}}
			_, w.s = w.with(newEncryptor(t, i))
			_, other := w.with(newEncryptor(t, i.Keyring))
			w.register(other, "a", "a")
			before := w.save().schedules
			listed := make(chan struct{})
			release := func() {}
			do := func() {
				w.register(other, "b", "b")
				for field, raw := range w.save().schedules {
					if before[field] == "" {
						release = i.hold(raw)
					}
				}
				opens := i.opens.Load()
				go func() { defer close(listed); _, _ = w.s.List(t.Context()) }()
				eventually(t, "the list waits", patience, func() bool { return i.opens.Load() > opens })
			}
			i.do.Store(&do)
			err := call(t.Context(), w.s)
			release()
			<-listed
			require.NoError(t, err)
		})
	}
}
