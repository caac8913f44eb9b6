package asynqjobs

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// registrations records the calls that the application made to a Scheduler. A running
// Scheduler needs it in order to put back schedules that Redis lost, and to end
// schedules again that Redis brought back.
type registrations struct {
	mu     sync.Mutex
	looked bool
	runs   bool    // Run has compared and has not ended
	seen   version // of the last comparison; of the first registration before that
	byName map[string]*registration
	// known are the changes of all versions that were seen. If Redis goes back to an older version, these changes are not new.
	// knownOrder bounds them.
	known      map[string]struct{}
	knownOrder []string
	// ended are the seeds of schedules that the application replaced or cancelled. A
	// seed is never used for two schedules. order bounds them.
	ended map[string]struct{}
	order []string
}

// registration is a schedule that the application registered, and that it did not
// cancel since.
type registration struct {
	def    *definition
	fields []string  // of its name
	last   time.Time // its last tick, as far as this process knows
	lost   bool      // Redis lost it, and it is not put back yet
	// doubtful reports whether Redis lost data, so that the stored schedule may be
	// older. It stays until the stored schedule opens.
	doubtful bool
	at       version // of the registration, until the next comparison
}

const (
	// maxEnded bounds the seeds that a Scheduler remembers, and maxKnown the changes.
	maxEnded = 1024
	maxKnown = 1024
)

func newRegistrations() *registrations {
	return &registrations{byName: map[string]*registration{}, ended: map[string]struct{}{}, known: map[string]struct{}{}}
}

// see records the version that was seen last.
func (g *registrations) see(v version) {
	g.looked, g.seen = true, v
	for _, change := range v.changes {
		if _, ok := g.known[change]; ok {
			continue
		}
		if len(g.knownOrder) == maxKnown {
			delete(g.known, g.knownOrder[0])
			g.knownOrder = g.knownOrder[1:]
		}
		g.known[change] = struct{}{}
		g.knownOrder = append(g.knownOrder, change)
	}
}

// add records that the application registered def at version v.
func (g *registrations) add(def *definition, fields []string, v version) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := &registration{def: def, fields: fields, at: v}
	if old := g.byName[def.Name]; old != nil {
		if string(old.def.Seed) == string(def.Seed) {
			r.last = old.last
		} else { // Redis may have lost it before it was replaced, and may bring it back
			g.endLocked(old.def)
		}
	}
	g.byName[def.Name] = r
}

// changed records that the version after followed the version before. An empty before
// matches only if no version was seen yet.
func (g *registrations) changed(before, after string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.looked || before != "" && g.seen.text == before {
		g.see(parseVersion(after))
	}
}

// end records that the application replaced or cancelled old. kept may be one of them,
// sealed again.
func (g *registrations) end(old []entry, kept *definition) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, en := range old {
		if en.def != nil && (kept == nil || string(kept.Seed) != string(en.def.Seed)) {
			g.endLocked(en.def)
		}
	}
}

func (g *registrations) endLocked(def *definition) {
	seed := string(def.Seed)
	if _, ok := g.ended[seed]; ok {
		return
	}
	if len(g.order) == maxEnded {
		delete(g.ended, g.order[0])
		g.order = g.order[1:]
	}
	g.ended[seed] = struct{}{}
	g.order = append(g.order, seed)
}

// forget records that the application cancelled a name.
func (g *registrations) forget(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.byName[name]; r != nil {
		g.endLocked(r.def)
		delete(g.byName, name)
	}
}

// hasEnded reports whether the application replaced or cancelled def.
func (g *registrations) hasEnded(def *definition) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.ended[string(def.Seed)]
	return ok
}

// compare finds the registrations that are not stored at version v. If Redis lost data
// since the last comparison, they are marked as lost. Otherwise another process
// cancelled them, and they are forgotten. exists reports whether a schedule is known
// under another field, complete whether all of these are known.
//
// A schedule that was cancelled after the loss is forgotten, too: the version lists it.
// A registration since the last comparison is also lost if v does not follow its own version.
func (g *registrations) compare(v version, stored map[string]string, exists func(name string) bool, complete bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.runs = true
	how := continued
	if g.looked {
		how = v.since(g.seen)
	}
	defer g.see(v)
	for name, r := range g.byName {
		how, at := how, r.at
		r.at = version{}
		if at.text != "" && v.since(at) == lost {
			how = lost
		}
		isKnown := func(change string) bool {
			_, ok := g.known[change]
			return ok || slices.Contains(at.changes, change)
		}
		// Changes behind a known one are older. If none is known, those of earlier generations belong to a state that this
		// process never saw. They may be older than its registration.
		latest := slices.IndexFunc(v.changes, isKnown)
		if latest < 0 {
			latest = int(min(v.count, uint64(len(v.changes))))
		}
		isNew := func(change string) bool { return slices.Contains(v.changes[:latest], change) }
		isStored := slices.ContainsFunc(r.fields, func(f string) bool { _, ok := stored[f]; return ok })
		cancelled := slices.ContainsFunc(r.fields, func(f string) bool { return v.ended(f, isNew) })
		switch {
		case isStored:
			r.lost, r.doubtful = false, r.doubtful || how == lost
		case cancelled:
			g.endLocked(r.def) // the process that cancelled it may not know its seed
			delete(g.byName, name)
		case how == lost, r.doubtful && how == continued: // another process may have ended an older one
			r.lost, r.doubtful = true, false
		case r.lost, exists(name):
		case !complete:
			r.doubtful = false // of more changes than a version lists, one may have cancelled it
		default:
			delete(g.byName, name)
		}
	}
}

// stop records that Run ended.
func (g *registrations) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.runs = false
}

// suspect reports whether the stored def may be one that another process ended and that Redis brought back. This is so if
// Redis lost data that Run has not noticed yet, unless this process registered def.
func (g *registrations) suspect(def *definition, v version) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.runs || v.since(g.seen) != lost {
		return false
	}
	r := g.byName[def.Name]
	return r == nil || string(r.def.Seed) != string(def.Seed)
}

// names returns the names that the application registered.
func (g *registrations) names() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.byName))
}

// rolledBack reports whether Redis went back to an older state of the same generation.
func (g *registrations) rolledBack(v version) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.looked && v.generation != "" && v.generation == g.seen.generation && v.since(g.seen) == lost
}

// review compares what is registered with the schedules that open, and returns the
// entries that the application ended before. If Redis holds another schedule of a
// registered name, another process has stored it. It replaces the registration, or
// confirms it if it has the same content. After a loss it may also be older.
func (g *registrations) review(entries []entry, ticks map[string]time.Time, now time.Time) (ended []entry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var others []entry
	for _, en := range entries {
		if _, ok := g.ended[string(en.def.Seed)]; ok {
			ended = append(ended, en)
		} else {
			others = append(others, en)
		}
	}
	for _, en := range newest(others) {
		r := g.byName[en.def.Name]
		if r == nil {
			continue
		}
		if string(r.def.Seed) != string(en.def.Seed) {
			if r.doubtful && en.def.Anchor < r.def.Anchor {
				g.endLocked(en.def)
				ended = append(ended, en)
				continue
			}
			mine, err1 := r.def.content()
			theirs, err2 := en.def.content()
			if err1 != nil || err2 != nil || string(mine) != string(theirs) {
				delete(g.byName, en.def.Name)
				continue
			}
			r.last = time.Time{}
		}
		r.def, r.lost, r.doubtful = en.def, false, false
		if last := ticks[en.field]; last.After(r.last) && !last.After(now) {
			r.last = last
		}
	}
	return ended
}

// ticked records a tick that this process enqueued.
func (g *registrations) ticked(def *definition, tick time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.byName[def.Name]; r != nil && string(r.def.Seed) == string(def.Seed) && tick.After(r.last) {
		r.last = tick
	}
}

// lostOnes returns copies of the registrations that must be put back.
func (g *registrations) lostOnes() []registration {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []registration
	for _, r := range g.byName {
		if r.lost {
			out = append(out, *r)
		}
	}
	return out
}

// isLost reports whether def must still be put back.
func (g *registrations) isLost(def *definition) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.byName[def.Name]
	return r != nil && r.lost && string(r.def.Seed) == string(def.Seed)
}

// found records that a schedule of the name is stored.
func (g *registrations) found(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.byName[name]; r != nil {
		r.lost = false
	}
}

// registeredAs returns the definition that the application registered under a name.
func (g *registrations) registeredAs(name string) (*definition, time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.byName[name]; r != nil {
		return r.def, r.last
	}
	return nil, time.Time{}
}

// restore puts back what Redis lost, and ends again what Redis brought back. It adds
// the last ticks of the schedules that it stores to ticks.
func (r *run) restore(ctx context.Context, now time.Time, entries []entry, ticks map[string]time.Time) {
	s := r.s
	restored, ended := 0, 0
	for _, en := range s.registered.review(entries, ticks, now) {
		ok, err := s.endAgain(ctx, en, now, ticks)
		if err != nil {
			s.failed(ctx, err)
		} else if ok {
			ended++
		}
	}
	for _, reg := range s.registered.lostOnes() {
		ok, err := s.putBack(ctx, reg, now, ticks)
		if err != nil {
			s.failed(ctx, err)
		} else if ok {
			restored++
		}
	}
	s.c.tel.schedules(ctx, "restored", restored)
	s.c.tel.schedules(ctx, "ended_again", ended)
	if restored+ended > 0 && s.c.tel.limit.Allow() {
		s.c.tel.log.WarnContext(ctx, "sealcache: periodic jobs: Redis lost schedules, and they were stored again", "restored", restored, "ended_again", ended)
	}
}

// putBack stores a registration that Redis lost, unless something is in its place.
func (s *Scheduler) putBack(ctx context.Context, r registration, now time.Time, ticks map[string]time.Time) (bool, error) {
	en, err := s.store.seal(ctx, r.def, now)
	if err != nil {
		return false, err
	}
	if err := s.lock(ctx); err != nil {
		return false, err
	}
	defer s.unlock()
	if !s.registered.isLost(r.def) { // cancelled in the meantime
		return false, nil
	}
	old := make([]entry, len(r.fields))
	for i, field := range r.fields {
		old[i].field = field
	}
	last := r.last
	if last.After(now) {
		last = now
	}
	ok, err := s.swapLocked(ctx, change{old: old, new: en, last: last, now: now})
	if err == nil {
		s.registered.found(r.def.Name)
	}
	if ok {
		ticks[en.field] = last
	}
	return ok, err
}

// endAgain replaces a schedule that the application has ended: by the later
// registration, or by nothing. The version does not list it as cancelled, because
// another process may have registered the name since, and then restores it.
func (s *Scheduler) endAgain(ctx context.Context, en entry, now time.Time, ticks map[string]time.Time) (bool, error) {
	c := change{old: []entry{en}, now: now, again: true}
	if def, last := s.registered.registeredAs(en.def.Name); def != nil {
		fields, err := s.store.fields(en.def.Name)
		if err != nil {
			return false, err
		}
		fresh, err := s.store.seal(ctx, def, now)
		if err != nil {
			return false, err
		}
		for _, f := range fields {
			if f != en.field {
				c.old = append(c.old, entry{field: f})
			}
		}
		c.new, c.last = fresh, last
		ok, err := s.swap(ctx, c)
		if ok {
			ticks[fresh.field] = last
		}
		if ok || err != nil {
			return ok, err
		}
		c = change{old: []entry{en}, now: now, again: true} // the registered schedule is stored already
	}
	return s.swap(ctx, c)
}
