package asynqjobs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"time"

	"github.com/hibiken/asynq"
)

// reloadSchedules is how often the schedules are read although their version has
// not changed: one that could not be opened may open now, and one that did may not.
const reloadSchedules = time.Minute

// Run enqueues the ticks of all schedules until ctx ends, and returns nil then. It
// goes by the clock of the Redis server. What goes wrong is logged and tried again:
// Run does not end because Redis or the key service is down.
//
// Any number of processes may Run; when one dies, the others go on without a gap.
// Ticks that no process could enqueue are made up for as WithCatchUp says. Schedules
// are opened beside that: however long it takes, those that are known tick.
func (s *Scheduler) Run(ctx context.Context) error {
	r := s.newRun()
	defer r.opener.workers.Wait()
	for {
		wait := r.pass(ctx)
		// A few milliseconds of chance, so that not all processes come at once and
		// all but one for nothing.
		timer := time.NewTimer(wait + jitter())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-r.opener.news:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func (s *Scheduler) newRun() *run {
	return &run{s: s, changes: -1, checked: map[string]bool{}, opener: newOpener(s.store, s.book, s.failed)}
}

// run is a running scheduler.
type run struct {
	s       *Scheduler
	polled  time.Time // by this process, when it last asked what had ticked
	opener  *opener
	read    bool
	version string    // when the schedules were read
	at      time.Time // of the server, then
	current []entry   // what ticks
	changes int       // of the book, that current is of
	first   int       // of current, with which the next pass begins
	checked map[string]bool
}

// pass enqueues what is due, and returns how long to wait for what comes next.
func (r *run) pass(ctx context.Context) time.Duration {
	s := r.s
	r.polled = time.Now()
	now, version, ticks, err := s.store.poll(ctx)
	if err != nil {
		s.failed(ctx, err)
		return s.poll
	}
	unsure := false
	if !r.read || version != r.version || now.Sub(r.at) >= reloadSchedules || now.Before(r.at) {
		todo, err := s.take(ctx, now, false)
		if err != nil {
			s.failed(ctx, err)
			unsure = true
		} else {
			r.read, r.version, r.at, r.checked = true, version, now, map[string]bool{}
			r.opener.open(ctx, todo, now)
		}
	}
	if entries, changes, changed := s.book.entries(r.changes); changed {
		r.current, r.changes = newest(entries), changes
	}
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

// late tells whether it is too long ago that the last ticks were read: what others
// have enqueued since may have run, and its id be forgotten.
func (r *run) late() bool { return time.Since(r.polled) > r.s.heldUp }

// tick enqueues the ticks of en that are due, and returns when the next one is.
// Unsure says that it may have been replaced.
func (r *run) tick(ctx context.Context, en entry, now, last time.Time, unsure bool) time.Duration {
	s, catchUp := r.s, r.s.catchUp
	if last.After(now.Add(time.Second)) {
		// No scheduler wrote that, or the server's clock was set back: it must not
		// silence the job. What has run lately is known by its id.
		last, catchUp = now.Add(-DefaultCatchUp), DefaultCatchUp
	}
	if anchor := en.def.anchor(); last.Before(anchor) {
		last = anchor
	}
	ticks := due(en.def.ticker, last, now, catchUp)
	if len(ticks) > 0 && unsure && !s.store.is(ctx, en) {
		return s.poll
	}
	for _, tick := range ticks {
		if r.late() {
			return 0
		}
		if !s.enqueue(ctx, en, tick) {
			break // in order: the next pass tries again
		}
	}
	if next := en.def.ticker.next(now); !next.IsZero() {
		return next.Sub(now)
	}
	return s.poll
}

// enqueue enqueues one tick, and tells whether it is in Redis.
func (s *Scheduler) enqueue(ctx context.Context, en entry, tick time.Time) bool {
	ctx, cancel := context.WithTimeout(ctx, enqueueTimeout)
	defer cancel()
	d := en.def
	opts, err := d.options(tick)
	if err == nil {
		_, err = s.c.EnqueueContext(ctx, asynq.NewTaskWithHeaders(d.Type, d.Payload, d.Headers), opts...)
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
	if err := s.store.advance(ctx, en, tick); err != nil {
		s.failed(ctx, err) // the id keeps the tick from being enqueued twice
	}
	return true
}

func (s *Scheduler) failed(ctx context.Context, err error) {
	if ctx.Err() == nil && s.c.tel.limit.Allow() {
		s.c.tel.log.ErrorContext(ctx, "sealcache: periodic jobs: trying again", "error", err)
	}
}

// jitter is up to 50 ms.
func jitter() time.Duration {
	var b [2]byte
	rand.Read(b[:])
	return time.Duration(binary.BigEndian.Uint16(b[:])) * 50 * time.Millisecond >> 16
}
