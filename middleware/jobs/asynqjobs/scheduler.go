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
	poll    time.Duration
	catchUp time.Duration
}

const (
	// DefaultPollInterval is the default of WithPollInterval.
	DefaultPollInterval = time.Second
	// DefaultCatchUp is the default of WithCatchUp.
	DefaultCatchUp = time.Minute

	// tickRetention keeps a tick's task in Redis after it has run. It is longer than
	// a scheduler may be held up between reading the last tick and enqueueing
	// (enqueueTimeout), and than DefaultCatchUp, with room for clocks that differ.
	tickRetention  = 2 * time.Minute
	enqueueTimeout = 10 * time.Second
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
	if !c.e.HasPRF() {
		return nil, fmt.Errorf("asynqjobs: NewScheduler: %w", jobs.ErrNoPRF)
	}
	s := &Scheduler{c: c, store: newScheduleStore(rdb, c.e), poll: DefaultPollInterval, catchUp: DefaultCatchUp}
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
// opts may be MaxRetry, Queue, Timeout and Retention. A tick is one task
// with an id of its own, kept for two minutes after it has run or as long as
// Retention says.
func (s *Scheduler) ScheduleOnce(ctx context.Context, name string, when Schedule, t *asynq.Task, opts ...asynq.Option) (changed bool, err error) {
	for range changeAttempts {
		now, _, ticks, err := s.store.poll(ctx)
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
		if stored(found) == 0 {
			// It may be under a PRF key that is gone; it would run beside this one.
			if found, _, err = s.store.named(ctx, name); err != nil {
				return false, err
			}
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
		field, raw, err := s.store.seal(ctx, def, now)
		if err != nil {
			return false, err
		}
		if same != nil && stored(found) == 1 && same.field == field && underSameKey(same.raw, raw) && now.Sub(def.sealed()) < resealAfter {
			return false, nil
		}
		ok, err := s.store.swap(ctx, found, field, raw, last)
		if err != nil {
			return false, err
		}
		if ok {
			return same == nil, nil
		}
	}
	return false, fmt.Errorf("asynqjobs: ScheduleOnce: others changed the schedule %d times meanwhile", changeAttempts)
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
// that were enqueued are not touched.
func (s *Scheduler) Cancel(ctx context.Context, name string) (bool, error) {
	for range changeAttempts {
		found, unread, err := s.store.named(ctx, name)
		if err != nil {
			return false, err
		}
		if stored(found) == 0 {
			return false, unread
		}
		ok, err := s.store.swap(ctx, found, "", "", time.Time{})
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

// List returns the schedules by name. Those that cannot be opened are missing,
// and the error says why; the others are returned with it.
func (s *Scheduler) List(ctx context.Context) ([]ScheduleInfo, error) {
	now, _, ticks, err := s.store.poll(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := s.store.all(ctx, nil)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, en := range entries {
		if en.err != nil {
			errs = append(errs, fmt.Errorf("asynqjobs: a schedule does not open: %w", en.err))
		}
	}
	var infos []ScheduleInfo
	for _, en := range newest(entries) {
		d := en.def
		infos = append(infos, ScheduleInfo{
			Name: d.Name, When: Schedule{d.Spec}, Type: d.Type, Queue: d.queue(), Payload: d.Payload,
			Since: d.anchor(), Last: ticks[en.field], Next: d.ticker.next(now),
		})
	}
	slices.SortFunc(infos, func(a, b ScheduleInfo) int { return strings.Compare(a.Name, b.Name) })
	return infos, errors.Join(errs...)
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
