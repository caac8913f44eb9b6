package asynqjobs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/hibiken/asynq"
)

const (
	// rereadInterval is how often the schedules are read even if their version is the
	// same. A schedule that did not open may open now, and the other way round.
	rereadInterval = time.Minute
	// clockTolerance is how far ahead of the server's clock a time may be and still be accepted.
	clockTolerance = time.Second
)

// Run enqueues the ticks of all schedules until ctx ends, and then returns nil. It
// uses the clock of the Redis server. Failures are logged and tried again: Run does not
// end because Redis or the key service is down.
//
// Any number of processes may run. When one dies, the others continue without a gap. Ticks that no
// process could enqueue in time are enqueued late, as WithCatchUp says. Schedules are opened in the
// background, so that slow ones do not delay the ticks of others.
//
// Redis can lose its data in a FLUSHALL, a restart without persistence, or a failover to a replica that is behind.
// The last call about a schedule still counts, if it was made through this Scheduler, or if this Scheduler has read it,
// which takes about a second: Run stores lost schedules again, and ends cancelled or replaced ones that an older
// state brings back. It logs that at WARN, and counts it in sealcache.jobs.schedules. The last tick before the loss may
// run twice. A schedule that is deleted in Redis by hand counts as lost: use Cancel.
//
// Of all cancellations, Redis keeps the latest 1,024. A call that this Scheduler last saw before them is not restored,
// because the schedule may have been cancelled. This holds if the Scheduler has read 512 of them. While a stored schedule
// cannot be read at this time, missing ones are not restored: it may be a later call. A value that never opens keeps its
// place until ScheduleOnce or Cancel is called for the name. The clock of Redis orders the calls. If a new master's clock is behind, a
// lost call may count as later.
//
// If the server's clock is set back, Every continues its intervals and Cron continues at
// the times of the new clock. A tick at a time that comes a second time may run twice.
func (s *Scheduler) Run(ctx context.Context) error {
	r := s.newRun()
	defer r.background.Wait()
	for {
		wait := r.pass(ctx)
		// The jitter keeps processes from polling at the same moment, when only one of them can enqueue a tick.
		timer := time.NewTimer(wait + jitter())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-r.opened:
			timer.Stop()
			r.endOpening()
		case <-timer.C:
		}
	}
}

func (s *Scheduler) newRun() *run {
	return &run{s: s, opened: make(chan struct{}, 1), changes: -1, checked: map[string]bool{}}
}

// run is a running Scheduler.
type run struct {
	s      *Scheduler
	polled time.Time // by this process's clock, when it last asked for ticks

	clock time.Time // of the server, at the last pass
	floor time.Time // to which the server's clock was set back; ticks up to it are over

	background sync.WaitGroup // of openings
	opened     chan struct{}  // receives when a round of openings has ended
	opening    bool           // a round runs
	again      bool           // there is more to open after it

	upToDate bool
	version  string            // when the schedules were read
	stored   map[string]string // the schedules, then
	compared bool              // with the latest calls
	readAt   time.Time         // of the server, then

	entries []entry // that open
	current []entry // one of each name: what ticks
	changes int     // of the cache, when entries was taken
	first   int     // of current, with which the next pass begins
	checked map[string]bool
}

// pass enqueues due ticks, and returns the time until the next one.
func (r *run) pass(ctx context.Context) time.Duration {
	s := r.s
	r.polled = time.Now()
	now, version, ticks, err := s.store.poll(ctx)
	if err != nil {
		s.failed(ctx, err)
		return s.poll
	}
	if now.Before(r.clock.Add(-clockTolerance)) || now.Before(r.floor) {
		r.floor = now
	}
	r.clock = now
	unsure := false
	if !r.upToDate || version != r.version || now.Sub(r.readAt) >= rereadInterval || now.Before(r.readAt) {
		if err := r.reread(ctx, now, version); err != nil {
			s.failed(ctx, err)
			unsure = true
		}
	}
	r.takeOpened()
	s.latest.ticked(r.current, ticks, now)
	r.restore(ctx, now, ticks)
	r.takeOpened()
	wait := s.poll
	for i := range r.current {
		at := (r.first + i) % len(r.current)
		if r.late() {
			r.first = at
			return time.Millisecond
		}
		en := r.current[at]
		wait = min(wait, r.tick(ctx, en, now, ticks[en.field], unsure))
	}
	r.reseal(ctx, now, ticks)
	return max(wait, time.Millisecond)
}

// reread reads the schedules, and opens in the background what the cache does not know.
func (r *run) reread(ctx context.Context, now time.Time, version string) error {
	s := r.s
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.unlock()
	stored, after, err := s.store.all(ctx)
	if err != nil {
		return err
	}
	pending := s.cache.update(stored, now, false)
	r.upToDate, r.version, r.readAt, r.checked = after == version, version, now, map[string]bool{}
	r.stored, r.compared = stored, false
	switch {
	case r.opening:
		r.again = true
	case len(pending) > 0:
		r.opening = true
		r.background.Go(func() {
			s.openAll(ctx, pending, now, s.failed)
			r.opened <- struct{}{} // there is room: one round runs at a time
		})
	}
	return nil
}

// endOpening makes the next pass read again if there was more to open.
func (r *run) endOpening() {
	r.opening = false
	if r.again {
		r.again, r.upToDate = false, false
	}
}

// takeOpened takes over the opened schedules. A schedule that is older than the latest call does not tick.
func (r *run) takeOpened() {
	entries, changes, changed := r.s.cache.opened(r.changes)
	if !changed {
		return
	}
	r.entries, r.changes, r.compared = entries, changes, false
	r.current = slices.DeleteFunc(newest(entries), func(en entry) bool {
		r.s.latest.learn(en.def, r.readAt)
		return en.def.Ended || !r.s.latest.is(en.def)
	})
}

// late reports whether the last ticks were read too long ago. Ticks that other processes have enqueued may have run,
// and their ids may be forgotten.
func (r *run) late() bool { return time.Since(r.polled) > r.s.heldUp }

// tick enqueues the ticks of en that are due, and returns the time until the next one.
// With unsure, the schedule may have been replaced.
func (r *run) tick(ctx context.Context, en entry, now, last time.Time, unsure bool) time.Duration {
	s, catchUp := r.s, r.s.catchUp
	future := now.Add(clockTolerance)
	anchor := en.def.anchor()
	noted := last
	if noted.After(future) {
		noted = time.Time{} // a later write replaces it
	}
	if last.After(future) || anchor.After(future) {
		// The server's clock was set back, or an attacker wrote this time. It must not stop the
		// job. The ids of recent ticks prevent that they run twice.
		if last.IsZero() || last.After(future) {
			last, catchUp = now.Add(-defaultCatchUp), defaultCatchUp
		}
		anchor = last
	}
	for _, earliest := range []time.Time{anchor, r.floor} {
		if last.Before(earliest) {
			last = earliest
		}
	}
	ticks := due(en.def.ticker, last, now, catchUp)
	if len(ticks) > 0 && unsure && !s.store.is(ctx, en) {
		return s.poll
	}
	for _, tick := range ticks {
		if r.late() {
			return 0
		}
		if !s.enqueue(ctx, en, noted, tick) {
			break // in order: the next pass tries again
		}
		noted = tick
	}
	if next := en.def.ticker.next(now); !next.IsZero() {
		return next.Sub(now)
	}
	return s.poll
}

// enqueue enqueues one tick, and reports whether it is in Redis. before is the last tick
// that was noted, or zero.
func (s *Scheduler) enqueue(ctx context.Context, en entry, before, tick time.Time) bool {
	ctx, cancel := context.WithTimeout(ctx, enqueueTimeout)
	defer cancel()
	d := en.def
	opts, err := d.options(tick)
	if err == nil {
		_, err = s.c.enqueueTask(ctx, asynq.NewTaskWithHeaders(d.Type, d.Payload, d.Headers), opts, &Tick{Name: d.Name, Time: tick})
	}
	switch {
	case err == nil:
		s.c.tel.tick(ctx, "enqueued")
	case errors.Is(err, asynq.ErrTaskIDConflict):
		s.c.tel.tick(ctx, "conflict")
	default:
		s.c.tel.tick(ctx, "failed")
		s.failed(ctx, err)
		return false
	}
	s.latest.ticked([]entry{en}, map[string]time.Time{en.field: tick}, tick)
	if err := s.store.advance(ctx, en, before, tick); err != nil {
		s.failed(ctx, err) // the id keeps the tick from being enqueued twice
	}
	return true
}

func (s *Scheduler) failed(ctx context.Context, err error) {
	if ctx.Err() == nil && s.c.tel.limit.Allow() {
		s.c.tel.log.ErrorContext(ctx, "sealcache: periodic jobs: the scheduler failed and will try again", "error", err)
	}
}

// jitter returns a random time of up to 50 ms.
func jitter() time.Duration {
	var b [2]byte
	rand.Read(b[:])
	return time.Duration(binary.BigEndian.Uint16(b[:])) * 50 * time.Millisecond >> 16
}
