package asynqjobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/options"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// Scheduler runs periodic jobs: it enqueues one task at each time at which a schedule is due (a tick). Redis holds the
// definitions of the jobs, sealed. Every process may have a Scheduler and run it: each tick is still enqueued once.
//
// The task of one tick can run twice in these cases:
//
//   - The task is deleted in asynq, so another Scheduler does not find it and enqueues it again.
//   - Redis loses its last writes in a failover.
//   - The process of the Scheduler is suspended for more than two minutes before it enqueues the task.
//
// So the handler of a periodic job must allow a second run, like the handler of any job that is retried.
type Scheduler struct {
	c      *Client
	store  *scheduleStore
	cache  *scheduleCache
	latest *latestCalls
	// mutex is held by the goroutine that reads or changes the stored schedules and records
	// them in cache. Otherwise a slow reader could record a replaced schedule. It is a
	// channel, so that waiting ends with a context.
	mutex chan struct{}

	schedulerConfig
}

// schedulerConfig holds the settings of a Scheduler. Tests change the ones without an option.
type schedulerConfig struct {
	poll    time.Duration
	catchUp time.Duration
	heldUp  time.Duration
	scanFor time.Duration
	listFor time.Duration
}

const (
	// defaultCatchUp is the default of WithCatchUp.
	defaultCatchUp = time.Minute

	// pollInterval is the time between two questions of a running scheduler to Redis for changes. A
	// new schedule may go unnoticed for that time. Ticks of known schedules are on time.
	pollInterval = time.Second
	// tickRetention keeps a tick's task in Redis after it has run. It is longer than a
	// scheduler may take from reading the last tick to enqueueing (mostHeldUp and
	// enqueueTimeout). It is also longer than defaultCatchUp, with room for clocks
	// that differ.
	tickRetention  = 2 * time.Minute
	mostHeldUp     = 20 * time.Second
	enqueueTimeout = 10 * time.Second
	// scanTimeout bounds the search for a name under removed PRF keys. listTimeout
	// bounds a list. Schedules that do not open must not prolong either.
	scanTimeout = 2 * time.Second
	listTimeout = 8 * time.Second
	// changeAttempts bounds the attempts to change a schedule that other processes
	// change at the same time.
	changeAttempts = 50
)

// A SchedulerOption configures a Scheduler.
type SchedulerOption func(*schedulerConfig) error

// WithCatchUp sets which ticks are enqueued late if no scheduler could enqueue them in time. These
// are all ticks of the last d, and if there are none, the latest tick before. Zero means only the
// latest tick. d is at most 1 minute, the default.
func WithCatchUp(d time.Duration) SchedulerOption {
	return func(cfg *schedulerConfig) error {
		if d < 0 || d > defaultCatchUp {
			return fmt.Errorf("WithCatchUp: %v is not between 0 and %v", d, defaultCatchUp)
		}
		cfg.catchUp = max(d, time.Nanosecond)
		return nil
	}
}

// NewScheduler returns a Scheduler that keeps schedules in rdb and enqueues with c. The
// encryptor of c needs jobs.WithPRF. rdb may be a single server, a Cluster, or behind
// Sentinel, but not a *redis.Ring. It is not closed. Two applications that share one Redis need different
// namespaces (jobs.WithNamespace).
func NewScheduler(rdb redis.UniversalClient, c *Client, opts ...SchedulerOption) (*Scheduler, error) {
	if nilcheck.IsNil(rdb) {
		return nil, errors.New("asynqjobs: NewScheduler: the Redis client is nil")
	}
	if isRing(rdb) {
		return nil, fmt.Errorf("asynqjobs: NewScheduler: %w", errRing)
	}
	if c == nil {
		return nil, errors.New("asynqjobs: NewScheduler: the asynqjobs.Client is nil")
	}
	if c.e.Tokens() == nil {
		return nil, fmt.Errorf("asynqjobs: NewScheduler: %w", jobs.ErrNoPRF)
	}
	cfg := schedulerConfig{poll: pollInterval, catchUp: defaultCatchUp, heldUp: mostHeldUp, scanFor: scanTimeout, listFor: listTimeout}
	if err := options.Apply("", opts, func(o SchedulerOption) error { return o(&cfg) }); err != nil {
		return nil, fmt.Errorf("asynqjobs: NewScheduler: %w", err)
	}
	return &Scheduler{
		c: c, store: newScheduleStore(rdb, c.e), cache: newScheduleCache(), latest: newLatestCalls(),
		mutex: make(chan struct{}, 1), schedulerConfig: cfg,
	}, nil
}

// errRing is the error for a client of several servers that are not in a Cluster. If the list of servers changes, the client
// looks for tasks and schedules on the wrong one.
var errRing = errors.New("*redis.Ring is not supported (use a client of a single node, Sentinel or Cluster)")

// isRing reports whether rdb is a *redis.Ring or embeds one.
func isRing(rdb redis.UniversalClient) bool {
	_, is := rdb.(interface{ SetAddrs(addrs map[string]string) })
	return is
}

// ScheduleOnce registers t to be enqueued periodically. There is one schedule for each name,
// however many processes call it and however often. It reports whether the call changed the
// schedule, which is true in one process only.
//
// Called with another schedule, type, payload, header or option, it replaces the
// schedule, and Every counts from then on. Called with the same, it does nothing,
// except that it seals the schedule again under a new primary key, or once a day. It
// replaces a schedule that does not open, unless the key service could not be asked. It also
// replaces an equal schedule if Redis lost a later call that this Scheduler knows.
//
// The schedule outlives the processes: Cancel ends it. If Redis loses its data, or goes
// back to an older state, a running Scheduler restores the schedules that it knows; see Run.
//
// The last call wins, not the newest release. During a rollout, a restarted process of the old
// release restores the old definition, until a process of the new release calls ScheduleOnce again.
// To avoid that, give the changed job another name, and cancel the old name after the rollout.
//
// The name, the text of when, the type, the queue and the headers must be valid UTF-8. The payload may have any bytes.
//
// opts may be MaxRetry, Queue, Timeout and Retention. Each tick is one task with a separate
// id. Redis keeps it for two minutes after it has run, or for as long as Retention says.
// The handler finds name and time of the tick with TickOf.
func (s *Scheduler) ScheduleOnce(ctx context.Context, name string, when Schedule, t *asynq.Task, opts ...asynq.Option) (changed bool, err error) {
	for range changeAttempts {
		now, version, ticks, err := s.store.poll(ctx)
		if err != nil {
			return false, err
		}
		def, err := newDefinition(name, when, t, opts, now)
		if err != nil {
			return false, err
		}
		found, _, err := s.find(ctx, name, version, now, false)
		if err != nil {
			return false, err
		}
		latest := s.latestOf(name, found, now)
		same, err := sameAs(def, latest, found)
		if err != nil {
			return false, err
		}
		var last time.Time
		def.follow(latest)
		if same != nil {
			// It keeps its ids and its last tick. It moves if it is under an older PRF key,
			// or under two because processes had different keys.
			def, last = same.def, ticks[same.field]
		}
		en, err := s.store.seal(ctx, def, now)
		if err != nil {
			return false, err
		}
		if same != nil && stored(found) == 1 && same.field == en.field && underSameKey(same.raw, en.raw) && now.Sub(def.sealed()) < resealAfter {
			return false, nil
		}
		ok, err := s.swap(ctx, change{old: found, new: en, last: last, now: now})
		if err != nil {
			return false, err
		}
		if ok {
			return same == nil, nil
		}
	}
	return false, fmt.Errorf("asynqjobs: ScheduleOnce: other processes changed the schedule %d times during the call (try again)", changeAttempts)
}

// find returns the opened schedule under a name, and the fields that are empty. It looks
// under removed PRF keys only if nothing is stored under the present ones, or if everywhere. It also returns the update of the
// cache after which it looked there.
func (s *Scheduler) find(ctx context.Context, name, version string, now time.Time, everywhere bool) (found []entry, update int, err error) {
	if found, err = s.store.of(ctx, name); err != nil {
		return nil, 0, err
	}
	for i, en := range found {
		if en.raw != "" {
			found[i] = s.store.open(ctx, en.field, en.raw)
		}
	}
	if stored(found) > 0 && !everywhere {
		return found, 0, nil
	}
	if everywhere || !s.cache.knows(version) {
		if update, err = s.scan(ctx, version, now); err != nil {
			return nil, 0, err
		}
	}
	return s.withCached(found, name), update, nil
}

// scan opens schedules that are not in the cache, within a short time. Schedules that are not
// reached are harmless: of two schedules of one name, a Scheduler runs the one registered last.
func (s *Scheduler) scan(ctx context.Context, version string, now time.Time) (update int, err error) {
	timeout := s.scanFor
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)/2)
	}
	if update, err = s.read(ctx, now, timeout); err != nil {
		return 0, err
	}
	s.cache.setKnown(version)
	return update, nil
}

// lock waits until no other goroutine reads or changes the stored schedules.
func (s *Scheduler) lock(ctx context.Context) error {
	select {
	case s.mutex <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("asynqjobs: interrupted while waiting for an earlier call of this Scheduler: %w", ctx.Err())
	}
}

func (s *Scheduler) unlock() { <-s.mutex }

// read brings the cache up to date with Redis, and opens new schedules for at most timeout. It returns the update.
func (s *Scheduler) read(ctx context.Context, now time.Time, timeout time.Duration) (update int, err error) {
	pending, update, err := s.update(ctx, now)
	if err != nil {
		return 0, err
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s.openAll(limited, pending, now, func(context.Context, error) {})
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("asynqjobs: interrupted while decrypting the schedules: %w", err)
	}
	return update, nil
}

func (s *Scheduler) update(ctx context.Context, now time.Time) (pending []entry, update int, err error) {
	if err := s.lock(ctx); err != nil {
		return nil, 0, err
	}
	defer s.unlock()
	all, _, err := s.store.all(ctx)
	if err != nil {
		return nil, 0, err
	}
	return s.cache.update(all, now, true), s.cache.updated(), nil
}

// withCached adds to found the schedules of the same name that the cache knows under
// other fields, which belong to removed PRF keys.
func (s *Scheduler) withCached(found []entry, name string) []entry {
	for _, en := range s.cache.named(name) {
		if !slices.ContainsFunc(found, func(have entry) bool { return have.field == en.field }) {
			found = append(found, en)
		}
	}
	return found
}

// latestOf returns the latest call about a name, of those that are stored and those that Redis may have lost. It may be nil.
func (s *Scheduler) latestOf(name string, found []entry, now time.Time) *definition {
	for _, en := range found {
		if en.def != nil {
			s.latest.learn(en.def, now)
		}
	}
	return s.latest.of(name)
}

// change is the replacement of stored schedules of one name.
type change struct {
	old  []entry
	new  entry     // without a field if nothing replaces old
	last time.Time // the last tick of new, or zero
	now  time.Time
}

// swap makes a change in Redis, and records it. It reports whether the old schedules
// were still stored.
func (s *Scheduler) swap(ctx context.Context, c change) (bool, error) {
	if err := s.lock(ctx); err != nil {
		return false, err
	}
	defer s.unlock()
	ok, before, after, err := s.store.swap(ctx, c.old, c.new, c.last)
	if err != nil {
		return false, err
	}
	if !ok {
		s.cache.setKnown("") // the cache does not hold what is stored
		return false, nil
	}
	s.cache.replace(c.old, c.new, before, after, c.now)
	if c.new.def != nil {
		s.latest.learn(c.new.def, c.now)
	}
	return true, nil
}

// sameAs returns the entry of the latest call if it has the content of def, or nil. A schedule that does not
// open counts as replaceable, unless the key service could not be asked.
func sameAs(def, latest *definition, found []entry) (*entry, error) {
	for _, en := range found {
		// Under an unknown key, it is forged, or its key was deleted.
		if en.err != nil && !jobs.Permanent(en.err) && !box.Refused(en.err) {
			return nil, within("a schedule with this name is in Redis, but cannot be opened now", en.err)
		}
	}
	if latest == nil || latest.Ended {
		return nil, nil
	}
	want, err1 := def.content()
	have, err2 := latest.content()
	if err := errors.Join(err1, err2); err != nil || string(have) != string(want) {
		return nil, err
	}
	for i, en := range found {
		if en.def != nil && en.def.compare(latest) == 0 {
			return &found[i], nil
		}
	}
	return nil, nil
}

// stored counts the entries that exist.
func stored(entries []entry) int {
	n := 0
	for _, en := range entries {
		if en.raw != "" {
			n++
		}
	}
	return n
}

// Cancel ends the schedule of that name, and reports whether there was one. It does not
// touch tasks that were enqueued. If none is found, and schedules cannot be read at this
// time, it returns an error, because one of them may have this name. It also reports true if what is
// stored under the name cannot be read.
//
// A name that ScheduleOnce refuses is an error, because no schedule can have it.
//
// Redis keeps a sealed record of the cancellation, so that no process restores the schedule.
func (s *Scheduler) Cancel(ctx context.Context, name string) (bool, error) {
	if err := checkScheduleName(name); err != nil {
		return false, within("Cancel", err)
	}
	for range changeAttempts {
		now, version, _, err := s.store.poll(ctx)
		if err != nil {
			return false, err
		}
		found, update, err := s.find(ctx, name, version, now, true) // otherwise a schedule under a removed PRF key would run again
		if err != nil {
			return false, err
		}
		exists := slices.ContainsFunc(found, func(en entry) bool { return en.raw != "" && (en.def == nil || !en.def.Ended) })
		if err := s.cache.unopened(true, update); err != nil && !exists {
			return false, within("Cancel: found no such schedule, but some schedules cannot be opened now", err)
		}
		// The cancellation is stored also if there is no schedule: Redis may just have lost it.
		end := newCancellation(name, now)
		end.follow(s.latestOf(name, found, now))
		en, err := s.store.seal(ctx, end, now)
		if err != nil {
			return false, err
		}
		ok, err := s.swap(ctx, change{old: found, new: en, now: now})
		if err != nil || ok {
			return ok && exists, err
		}
	}
	return false, fmt.Errorf("asynqjobs: Cancel: other processes changed the schedule %d times during the call (try again)", changeAttempts)
}

// String describes the Scheduler without its keys.
func (s *Scheduler) String() string { return "asynqjobs.Scheduler(" + s.c.e.String() + ")" }

// GoString returns String.
func (s *Scheduler) GoString() string { return s.String() }

// LogValue returns String.
func (s *Scheduler) LogValue() slog.Value { return slog.StringValue(s.String()) }
