package asynqjobs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/jobs"
)

const (
	// openParallelism is how many schedules are opened at a time.
	openParallelism = 8
	// openTimeout bounds the opening of one schedule.
	openTimeout = 10 * time.Second
	// forgetRefused is the age at which a definite refusal is forgotten: a key that was
	// disabled may be enabled again.
	forgetRefused = 10 * time.Minute
	// fewRefused schedules are opened again whenever an application asks for a list.
	fewRefused = 32
)

// scheduleCache remembers how each stored schedule opened, by the hash of its bytes.
// An attacker who plants values next to the schedules causes one opening of each, and
// another one when its refusal is forgotten.
type scheduleCache struct {
	mu      sync.Mutex
	byField map[string]*cachedSchedule
	// known is the version of the schedules at which the cache held all schedules that open. It may
	// be empty.
	known string
	// changes counts the changes to the set of schedules that open.
	changes int
	updates int
}

// cachedSchedule is one stored schedule, or another value in the place of one.
type cachedSchedule struct {
	sum   [sha256.Size]byte // of the stored bytes
	entry entry             // def is nil unless it opens, or opened when the key service last answered
	err   error             // why it does not open
	since int               // the update that found it
	tried time.Time         // the server's time; zero before the first attempt
}

// errNotOpened is the error of a schedule before its first opening.
var errNotOpened = errors.New("the scheduler has not decrypted this schedule yet (call again later)")

func newScheduleCache() *scheduleCache { return &scheduleCache{byField: map[string]*cachedSchedule{}} }

// update brings the cache up to date with Redis, and returns the schedules that must be
// opened. These are new schedules, schedules that must be proved again, and schedules
// that failed long enough ago. With retry, temporary failures and a few refusals are
// due at once.
func (c *scheduleCache) update(stored map[string]string, now time.Time, retry bool) []entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.updates++
	maps.DeleteFunc(c.byField, func(field string, s *cachedSchedule) bool {
		raw, ok := stored[field]
		gone := !ok || s.sum != sha256.Sum256([]byte(raw))
		if gone && s.entry.def != nil {
			c.changes++
		}
		return gone
	})
	var pending, refused []entry
	for field, raw := range stored {
		s := c.byField[field]
		if s == nil {
			s = &cachedSchedule{sum: sha256.Sum256([]byte(raw)), err: errNotOpened, since: c.updates}
			c.byField[field] = s
		}
		age, due := now.Sub(s.tried), rereadInterval
		switch {
		case s.entry.def != nil:
		case jobs.Permanent(s.err):
			due = forgetRefused
		case retry:
			due = 0
		}
		switch en := (entry{field: field, raw: raw}); {
		case s.tried.IsZero(), age < 0, age >= due: // a clock that was set back makes everything due
			pending = append(pending, en)
		case due == forgetRefused:
			refused = append(refused, en)
		}
	}
	if retry && len(refused) <= fewRefused {
		pending = append(pending, refused...)
	}
	return pending
}

// holds reports whether en is still stored.
func (c *scheduleCache) holds(en entry) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.byField[en.field]
	return s != nil && s.sum == sha256.Sum256([]byte(en.raw))
}

// note records whether en opened. If the key service does not answer, a schedule that opened before
// stays: an outage must not stop schedules that already run.
func (c *scheduleCache) note(en entry, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.byField[en.field]
	if s == nil || s.sum != sha256.Sum256([]byte(en.raw)) {
		return // replaced while it was opened
	}
	s.tried = now
	switch opened := s.entry.def != nil; {
	case en.def != nil && !opened:
		s.entry, s.err = en, nil
		c.changes++
	case en.def != nil, opened && !jobs.Permanent(en.err):
	case opened:
		c.changes++
		fallthrough
	default:
		s.entry, s.err = entry{}, en.err
	}
}

// replace records that old was replaced by en, or deleted if en has no field, and that
// the version after followed the version before.
func (c *scheduleCache) replace(old []entry, en entry, before, after string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range old {
		delete(c.byField, o.field)
	}
	if en.field != "" {
		c.byField[en.field] = &cachedSchedule{sum: sha256.Sum256([]byte(en.raw)), entry: en, tried: now}
	}
	c.changes++
	if c.known == before && before != "" {
		c.known = after
	}
}

// opened returns the schedules that open, in no order, unless nothing changed since
// changes.
func (c *scheduleCache) opened(changes int) ([]entry, int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if changes == c.changes {
		return nil, changes, false
	}
	var entries []entry
	for _, s := range c.byField {
		if s.entry.def != nil {
			entries = append(entries, s.entry)
		}
	}
	return entries, c.changes, true
}

// named returns the schedules that open under a name, in the order of their fields.
func (c *scheduleCache) named(name string) []entry {
	entries, _, _ := c.opened(-1)
	entries = slices.DeleteFunc(entries, func(en entry) bool { return en.def.Name != name })
	slices.SortFunc(entries, func(x, y entry) int { return cmp.Compare(x.field, y.field) })
	return entries
}

// updated returns how often the cache was brought up to date.
func (c *scheduleCache) updated() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.updates
}

// unopened returns why schedules do not open that are known since an update: one error of each text, and at most 16.
// With temporary, it leaves out definite refusals and unknown keys.
func (c *scheduleCache) unopened(temporary bool, update int) error {
	const maxErrors = 16
	c.mu.Lock()
	defer c.mu.Unlock()
	byText := map[string]error{}
	for _, s := range c.byField {
		if s.entry.def != nil || s.since > update || temporary && (jobs.Permanent(s.err) || box.Refused(s.err)) {
			continue
		}
		if byText[s.err.Error()] = s.err; len(byText) == maxErrors {
			break
		}
	}
	return errors.Join(slices.Collect(maps.Values(byText))...)
}

// setKnown records the version at which the cache held everything.
func (c *scheduleCache) setKnown(version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = version
}

// knows reports whether the cache holds everything that is stored at version.
func (c *scheduleCache) knows(version string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return version != "" && c.known == version
}

// openAll opens pending until ctx ends, a few at a time, and records each result before
// it returns.
func (s *Scheduler) openAll(ctx context.Context, pending []entry, now time.Time, failed func(context.Context, error)) {
	var g errgroup.Group
	g.SetLimit(openParallelism)
	for _, en := range pending {
		if ctx.Err() != nil {
			break
		}
		if !s.cache.holds(en) {
			continue
		}
		g.Go(func() error {
			limited, cancel := context.WithTimeout(ctx, openTimeout)
			defer cancel()
			en := s.store.open(limited, en.field, en.raw)
			switch {
			case en.err != nil && ctx.Err() != nil:
				return nil // not tried
			case en.err != nil:
				failed(ctx, en.err)
			}
			s.cache.note(en, now)
			return nil
		})
	}
	_ = g.Wait() // no function fails
}
