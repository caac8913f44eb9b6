package asynqjobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/middleware/jobs"
)

// Scheduler runs periodic jobs. Their definitions are in Redis, sealed; every
// process may have a Scheduler and Run it, and still each tick is enqueued once.
type Scheduler struct {
	c       *Client
	store   *scheduleStore
	book    *book
	turn    chan struct{} // holds one: who has it may bring the book and Redis together
	poll    time.Duration
	catchUp time.Duration
	heldUp  time.Duration
}

const (
	// DefaultPollInterval is the default of WithPollInterval.
	DefaultPollInterval = time.Second
	// DefaultCatchUp is the default of WithCatchUp.
	DefaultCatchUp = time.Minute

	// tickRetention keeps a tick's task in Redis after it has run. It is longer than
	// a scheduler may be held up between reading the last tick and enqueueing
	// (mostHeldUp and enqueueTimeout), and than DefaultCatchUp, with room for clocks
	// that differ.
	tickRetention  = 2 * time.Minute
	mostHeldUp     = 20 * time.Second
	enqueueTimeout = 10 * time.Second
	// scanTimeout bounds the search for a name under PRF keys that are gone, and
	// listTimeout a list, so that neither takes the longer the more there is that
	// does not open.
	scanTimeout = 2 * time.Second
	listTimeout = 8 * time.Second
	// changeAttempts bounds how often a change is tried again because another
	// process changed the same schedule.
	changeAttempts = 50
)

// A SchedulerOption changes what NewScheduler makes.
type SchedulerOption func(*Scheduler) error

// WithPollInterval sets how often Redis is asked for changes, at least 100 ms. It
// is how long a new schedule may go unnoticed; ticks of known ones come on time
// regardless. The default is DefaultPollInterval.
func WithPollInterval(d time.Duration) SchedulerOption {
	return func(s *Scheduler) error {
		if d < 100*time.Millisecond {
			return fmt.Errorf("WithPollInterval: %v: it takes at least 100ms", d)
		}
		s.poll = d
		return nil
	}
}

// WithCatchUp sets how many missed ticks are made up for when no scheduler could
// enqueue them: all that were missed within the last d, and if there is none, the
// latest one before. Zero is the latest one only. It is at most 1 minute, which is
// the default (DefaultCatchUp).
func WithCatchUp(d time.Duration) SchedulerOption {
	return func(s *Scheduler) error {
		if d < 0 || d > DefaultCatchUp {
			return fmt.Errorf("WithCatchUp: %v: it takes 0 to %v", d, DefaultCatchUp)
		}
		s.catchUp = max(d, time.Nanosecond)
		return nil
	}
}

// NewScheduler returns a Scheduler that keeps schedules in rdb and enqueues with
// c, whose encryptor must have been made with jobs.WithPRF. rdb may be a single
// server, behind Sentinel, or a Cluster; it is not closed. Two applications that
// share one Redis need different namespaces (jobs.WithNamespace).
func NewScheduler(rdb redis.UniversalClient, c *Client, opts ...SchedulerOption) (*Scheduler, error) {
	if rdb == nil {
		return nil, errors.New("asynqjobs: NewScheduler: nil Redis client")
	}
	if c == nil {
		return nil, errors.New("asynqjobs: NewScheduler: nil client")
	}
	if c.e.Tokens() == nil {
		return nil, fmt.Errorf("asynqjobs: NewScheduler: %w", jobs.ErrNoPRF)
	}
	s := &Scheduler{c: c, store: newScheduleStore(rdb, c.e), book: newBook(), turn: make(chan struct{}, 1), poll: DefaultPollInterval, catchUp: DefaultCatchUp, heldUp: mostHeldUp}
	var errs []error
	for _, o := range opts {
		if o == nil {
			errs = append(errs, errors.New("nil option"))
			continue
		}
		if err := o(s); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("asynqjobs: NewScheduler: %w", err)
	}
	return s, nil
}

// ScheduleOnce registers t to be enqueued periodically. However many processes
// call it, and however often, there is one schedule of a name, and one of them is
// told that it changed. Called with another schedule, type, payload, header or
// option it replaces what is there, and Every counts anew from then; called with
// the same it does nothing, but that it seals it again if it is under another than
// the primary key, or has not been for a day. One that does not open, or not with
// the keys that there are after a reload, is replaced. The schedule stays when all
// processes end: Cancel ends it.
//
// The last caller counts, not the newest release: while a changed definition is
// rolled out, a process of the old release that is restarted puts the old one back,
// until a new one calls ScheduleOnce again. If that must not be, give the job another
// name with the release that changes it and cancel the old name once none of the old
// processes is left.
//
// opts may be MaxRetry, Queue, Timeout and Retention. A tick is one task
// with an id of its own, kept for two minutes after it has run or as long as
// Retention says.
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
		found, err := s.store.of(ctx, name)
		if err != nil {
			return false, err
		}
		for i, en := range found {
			if en.raw != "" {
				found[i] = s.store.open(ctx, en.field, en.raw)
			}
		}
		if stored(found) == 0 {
			// It may be under a PRF key that is gone; it would run beside this one.
			if !s.book.isComplete(version) {
				if err := s.scan(ctx, version, now); err != nil {
					return false, err
				}
			}
			found = s.astray(found, name)
		}
		same, err := sameAs(def, found)
		if err != nil {
			return false, err
		}
		var last time.Time
		if same != nil {
			// Kept, with its ids and its last tick. It moves if it is under an older PRF
			// key, or twice because two processes had different keys.
			def, last = same.def, ticks[same.field]
		}
		en, err := s.store.seal(ctx, def, now)
		if err != nil {
			return false, err
		}
		if same != nil && stored(found) == 1 && same.field == en.field && underSameKey(same.raw, en.raw) && now.Sub(def.sealed()) < resealAfter {
			return false, nil
		}
		ok, err := s.swap(ctx, found, en, last, now)
		if err != nil {
			return false, err
		}
		if ok {
			return same == nil, nil
		}
	}
	return false, fmt.Errorf("asynqjobs: ScheduleOnce: others changed the schedule %d times meanwhile", changeAttempts)
}

// scan opens what the book does not know, which it was at version, as far as that is
// possible in a short time. What is left does no harm: of two of one name a Scheduler
// runs the one registered last.
func (s *Scheduler) scan(ctx context.Context, version string, now time.Time) error {
	timeout := scanTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)/2)
	}
	if err := s.read(ctx, now, timeout); err != nil {
		return err
	}
	s.book.completed(version)
	return nil
}

// take brings the book up to what is stored, and returns what is to be opened.
func (s *Scheduler) take(ctx context.Context, now time.Time, atOnce bool) ([]entry, error) {
	if err := s.await(ctx); err != nil {
		return nil, err
	}
	defer s.done()
	stored, err := s.store.all(ctx)
	if err != nil {
		return nil, err
	}
	return s.book.take(stored, now, atOnce), nil
}

// await waits for the turn to read or change what is stored and to note that in the
// book. Who came late with what he read before another's change would put back what was
// replaced or cancelled, and it would tick until all is read again.
func (s *Scheduler) await(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("asynqjobs: schedules: %w", ctx.Err())
	}
}

func (s *Scheduler) done() { <-s.turn }

// read brings the book up to what is stored, and opens what it does not know for at
// most timeout.
func (s *Scheduler) read(ctx context.Context, now time.Time, timeout time.Duration) error {
	todo, err := s.take(ctx, now, true)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	o := newOpener(s.store, s.book, func(context.Context, error) {})
	o.open(limited, todo, now)
	o.workers.Wait()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("asynqjobs: schedules: %w", err)
	}
	return nil
}

// astray adds to found what the book knows of the same name under other fields, those
// of PRF keys that are gone.
func (s *Scheduler) astray(found []entry, name string) []entry {
	for _, en := range s.book.named(name) {
		if !slices.ContainsFunc(found, func(have entry) bool { return have.field == en.field }) {
			found = append(found, en)
		}
	}
	return found
}

// swap replaces entries by en in Redis and in the book.
func (s *Scheduler) swap(ctx context.Context, entries []entry, en entry, last, now time.Time) (bool, error) {
	if err := s.await(ctx); err != nil {
		return false, err
	}
	defer s.done()
	ok, before, after, err := s.store.swap(ctx, entries, en, last)
	if err != nil {
		return false, err
	}
	if !ok {
		s.book.completed("") // it is not what is stored
		return false, nil
	}
	s.book.replace(entries, en, before, after, now)
	return true, nil
}

// sameAs returns the entry that says what def does, or nil. One that does not open is
// replaced, unless it is only that the key service is down.
func sameAs(def *definition, found []entry) (*entry, error) {
	want, err := def.content()
	if err != nil {
		return nil, err
	}
	for i := range found {
		switch en := &found[i]; {
		case en.raw == "":
		case errors.Is(en.err, jobs.ErrUnknownKey):
			// Forged, or its key was deleted: what the application says now counts.
		case en.err != nil && !jobs.Permanent(en.err):
			return nil, fmt.Errorf("asynqjobs: the schedule of this name cannot be read: %w", en.err)
		case en.err != nil:
		default:
			have, err := en.def.content()
			if err != nil {
				return nil, err
			}
			if string(have) == string(want) {
				return en, nil
			}
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

// Cancel ends the schedule of that name, and tells whether there was one. Tasks
// that were enqueued are not touched. Where none is found and there are schedules
// that could not be read, one of which may be it, that is an error.
func (s *Scheduler) Cancel(ctx context.Context, name string) (bool, error) {
	for range changeAttempts {
		now, version, _, err := s.store.poll(ctx)
		if err != nil {
			return false, err
		}
		found, err := s.store.of(ctx, name)
		if err != nil {
			return false, err
		}
		// One under a PRF key that is gone would come back to life.
		if err := s.scan(ctx, version, now); err != nil {
			return false, err
		}
		found = s.astray(found, name)
		if stored(found) == 0 {
			if err := s.book.unread(true); err != nil {
				return false, fmt.Errorf("asynqjobs: a schedule cannot be read: %w", err)
			}
			return false, nil
		}
		ok, err := s.swap(ctx, found, entry{}, time.Time{}, now)
		if err != nil || ok {
			return ok, err
		}
	}
	return false, fmt.Errorf("asynqjobs: Cancel: others changed the schedule %d times meanwhile", changeAttempts)
}

// ScheduleInfo describes a schedule.
type ScheduleInfo struct {
	Name    string
	When    Schedule
	Type    string
	Queue   string
	Payload []byte
	Since   time.Time // when it was registered
	Last    time.Time // its last tick that was enqueued, zero if none was
	Next    time.Time // the tick after now
}

// List returns the schedules by name. Those that cannot be opened, or not in a few
// seconds, are missing, and the error says why; the others are returned with it. What
// has been opened or refused a short time ago is not opened again.
func (s *Scheduler) List(ctx context.Context) ([]ScheduleInfo, error) {
	now, _, ticks, err := s.store.poll(ctx)
	if err != nil {
		return nil, err
	}
	timeout := listTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)*3/4)
	}
	if err := s.read(ctx, now, timeout); err != nil {
		return nil, err
	}
	entries, _, _ := s.book.entries(-1)
	var infos []ScheduleInfo
	for _, en := range newest(entries) {
		d := en.def
		infos = append(infos, ScheduleInfo{
			Name: d.Name, When: Schedule{d.Spec}, Type: d.Type, Queue: d.queue(), Payload: slices.Clone(d.Payload),
			Since: d.anchor(), Last: ticks[en.field], Next: d.ticker.next(now),
		})
	}
	slices.SortFunc(infos, func(a, b ScheduleInfo) int { return strings.Compare(a.Name, b.Name) })
	if err := s.book.unread(false); err != nil {
		return infos, fmt.Errorf("asynqjobs: a schedule does not open: %w", err)
	}
	return infos, nil
}

// newest returns the entries that open, one of each name. There are two of a name
// only while processes with different PRF keys run; the one registered last
// counts.
func newest(entries []entry) []entry {
	at := map[string]int{}
	var out []entry
	for _, en := range entries {
		if en.def == nil {
			continue
		}
		i, ok := at[en.def.Name]
		switch {
		case !ok:
			at[en.def.Name] = len(out)
			out = append(out, en)
		case en.def.Anchor > out[i].def.Anchor, en.def.Anchor == out[i].def.Anchor && en.field > out[i].field:
			out[i] = en
		}
	}
	return out
}

// String says what the Scheduler is, and nothing of its keys.
func (s *Scheduler) String() string { return "asynqjobs.Scheduler(" + s.c.e.String() + ")" }

// GoString is String.
func (s *Scheduler) GoString() string { return s.String() }

// LogValue is String.
func (s *Scheduler) LogValue() slog.Value { return slog.StringValue(s.String()) }
