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
// not changed: one that could not be opened may open now.
const reloadSchedules = time.Minute

// Run enqueues the ticks of all schedules until ctx ends, and returns nil then. It
// goes by the clock of the Redis server. What goes wrong is logged and tried again:
// Run does not end because Redis or the key service is down.
//
// Any number of processes may Run; when one dies, the others go on without a gap.
// Ticks that no process could enqueue are made up for as WithCatchUp says.
func (s *Scheduler) Run(ctx context.Context) error {
	var v view
	for {
		wait := s.pass(ctx, &v)
		// A few milliseconds of chance, so that not all processes come at once and
		// all but one for nothing.
		timer := time.NewTimer(wait + jitter())
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// view is what a running scheduler knows.
type view struct {
	loaded  bool
	version string
	at      time.Time // of the server, when the schedules were read
	entries []entry
	known   map[string]entry // all that opened, by field
}

// pass enqueues what is due, and returns how long to wait for what comes next.
func (s *Scheduler) pass(ctx context.Context, v *view) time.Duration {
	now, version, ticks, err := s.store.poll(ctx)
	if err != nil {
		s.failed(ctx, err)
		return s.poll
	}
	if !v.loaded || version != v.version || now.Sub(v.at) >= reloadSchedules {
		entries, err := s.store.all(ctx, v.known)
		if err != nil {
			s.failed(ctx, err)
			return s.poll
		}
		known := make(map[string]entry, len(entries))
		for _, en := range entries {
			if en.err != nil {
				s.failed(ctx, en.err)
				continue
			}
			known[en.field] = en
		}
		*v = view{loaded: true, version: version, at: now, entries: newest(entries), known: known}
		s.reseal(ctx, now, ticks, v)
	}
	wait := s.poll
	for _, en := range v.entries {
		last, catchUp := ticks[en.field], s.catchUp
		if last.After(now.Add(time.Second)) {
			// No scheduler wrote that, or the server's clock was set back: it must not
			// silence the job. What has run lately is known by its id.
			last, catchUp = now.Add(-DefaultCatchUp), DefaultCatchUp
		}
		if anchor := en.def.anchor(); last.Before(anchor) {
			last = anchor
		}
		for _, tick := range due(en.def.ticker, last, now, catchUp) {
			if !s.enqueue(ctx, en, tick) {
				break // in order: the next pass tries again
			}
		}
		if next := en.def.ticker.next(now); !next.IsZero() {
			wait = min(wait, next.Sub(now))
		}
	}
	return max(wait, time.Millisecond)
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
