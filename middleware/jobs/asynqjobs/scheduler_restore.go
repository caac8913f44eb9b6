package asynqjobs

import (
	"context"
	"slices"
	"sync"
	"time"
)

// latestCalls holds the latest call about each name that a Scheduler has made or read: a registration or a cancellation.
// If Redis holds an older call or none, it lost data, and gets the latest one back. So all processes and Redis come to
// the same calls, in any order in which data is lost.
type latestCalls struct {
	mu     sync.Mutex
	byName map[string]*latestCall
	ended  int       // how many are cancellations
	since  time.Time // see all
}

// latestCall is a registration or a cancellation.
type latestCall struct {
	def  *definition
	last time.Time // the last tick, as far as this process knows
	seen time.Time // of the server, when Redis last held it
}

// maxEnded bounds the cancellations that count. The latest ones do, so that all processes keep the same. They are about half a
// megabyte of sealed records, which each process reads at a change.
const maxEnded = 1024

func newLatestCalls() *latestCalls { return &latestCalls{byName: map[string]*latestCall{}} }

// learn records a call that Redis held at the time at, unless a later one about the name is known.
func (l *latestCalls) learn(def *definition, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.byName[def.Name]
	if old != nil {
		switch order := def.compare(old.def); {
		case order == 0 && at.After(old.seen):
			old.seen = at
			return
		case order <= 0:
			return
		}
	}
	l.byName[def.Name] = &latestCall{def: def, seen: at}
	if old != nil && old.def.Ended {
		l.ended--
	}
	if !def.Ended {
		return
	}
	if l.ended++; l.ended <= maxEnded {
		return
	}
	oldest := def
	for _, c := range l.byName {
		if c.def.Ended && c.def.compare(oldest) < 0 {
			oldest = c.def
		}
	}
	delete(l.byName, oldest.Name)
	l.ended--
}

// of returns the latest call about a name, or nil.
func (l *latestCalls) of(name string) *definition {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.byName[name]; c != nil {
		return c.def
	}
	return nil
}

// is reports whether def is the latest call about its name.
func (l *latestCalls) is(def *definition) bool {
	latest := l.of(def.Name)
	return latest != nil && def.compare(latest) == 0
}

// all returns copies of the latest calls. stored are the calls that Redis holds. It may have dropped cancellations from before
// the time since. After it dropped some, fewer than maxEnded may be left, because names were registered again. So since is
// known from half of them on, and it never becomes earlier.
func (l *latestCalls) all(stored []entry) (calls []latestCall, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.byName {
		calls = append(calls, *c)
	}
	var oldest *definition
	held := 0
	for _, en := range stored {
		if c := l.byName[en.def.Name]; !en.def.Ended || c == nil || c.def.compare(en.def) != 0 {
			continue
		}
		if held++; oldest == nil || en.def.compare(oldest) < 0 {
			oldest = en.def
		}
	}
	if held >= maxEnded/2 {
		if at := time.UnixMilli(oldest.version()); at.After(l.since) {
			l.since = at
		}
	}
	return calls, l.since
}

// ticked records the last ticks of schedules. A tick in the future is not one.
func (l *latestCalls) ticked(entries []entry, ticks map[string]time.Time, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, en := range entries {
		tick := ticks[en.field]
		if c := l.byName[en.def.Name]; c != nil && c.def.compare(en.def) == 0 && tick.After(c.last) && !tick.After(now) {
			c.last = tick
		}
	}
}

// restore stores the latest calls that Redis lost, in the place of older ones. It adds the last ticks of the schedules
// that it stores to ticks.
func (r *run) restore(ctx context.Context, now time.Time, ticks map[string]time.Time) {
	if r.compared {
		return
	}
	r.compared = true
	s := r.s
	byName := map[string][]entry{}
	for _, en := range r.entries {
		byName[en.def.Name] = append(byName[en.def.Name], en)
	}
	restored, ended := 0, 0
	unsure := s.cache.unopened(true, s.cache.updated()) != nil // a later call may be under a PRF key that this process does not have
	calls, since := s.latest.all(r.entries)
	for _, c := range calls {
		have := byName[c.def.Name]
		delete(byName, c.def.Name)
		switch {
		case len(have) == 0:
			if unsure || c.seen.Before(since) { // it may have been cancelled, or be a cancellation that Redis dropped
				continue
			}
		case !slices.ContainsFunc(have, func(en entry) bool { return en.def.compare(c.def) != 0 }):
			s.latest.learn(c.def, r.readAt)
			continue
		}
		ok, err := r.putBack(ctx, c, have, now, ticks)
		if err != nil {
			s.failed(ctx, err)
			r.compared, byName = false, nil // the next pass tries again
			break
		}
		switch {
		case !ok:
		case !c.def.Ended:
			restored++
		case slices.ContainsFunc(have, func(en entry) bool { return !en.def.Ended }):
			ended++
		}
	}
	for _, old := range byName { // cancellations beyond maxEnded
		if _, err := s.swap(ctx, change{old: old, now: now}); err != nil {
			s.failed(ctx, err)
		}
	}
	s.c.tel.schedules(ctx, "restored", restored)
	s.c.tel.schedules(ctx, "ended_again", ended)
	if restored+ended > 0 && s.c.tel.limit.Allow() {
		s.c.tel.log.WarnContext(ctx, "sealcache: periodic jobs: Redis lost data, so lost schedules were stored again, or canceled ones canceled again", "restored", restored, "ended_again", ended)
	}
}

// putBack stores a call in the place of have, unless a value that has not opened is in its place: it may be a later call.
func (r *run) putBack(ctx context.Context, c latestCall, have []entry, now time.Time, ticks map[string]time.Time) (bool, error) {
	fields, err := r.s.store.fields(c.def.Name)
	if err != nil {
		return false, err
	}
	old := slices.Clone(have)
	for _, f := range fields {
		if slices.ContainsFunc(have, func(en entry) bool { return en.field == f }) {
			continue
		}
		if _, ok := r.stored[f]; ok {
			return false, nil
		}
		old = append(old, entry{field: f})
	}
	en, err := r.s.store.seal(ctx, c.def, now)
	if err != nil {
		return false, err
	}
	ok, err := r.s.swap(ctx, change{old: old, new: en, last: c.last, now: now})
	if ok && !c.last.IsZero() {
		ticks[en.field] = c.last
	}
	return ok, err
}
