package asynqjobs

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/middleware/jobs"
)

// scheduleStore keeps periodic jobs in two hashes that lie in one slot of a
// cluster. In both, a field is the keyed pseudonym of a job's name.
//
//   - schedules: the sealed definition, which is bound to its field
//   - ticks: when the job's last tick was, in Unix milliseconds; and under
//     "version" a text that is another one after every change of schedules
//
// Whoever can write to Redis can delete a job or move its last tick. A tick of the
// last two minutes does not run again for that, because its task is still there.
type scheduleStore struct {
	rdb                    redis.UniversalClient
	e                      *jobs.Encryptor
	schedules, ticks       string // keys
	polls, swaps, advances *redis.Script
}

const versionField = "version"

func newScheduleStore(rdb redis.UniversalClient, e *jobs.Encryptor) *scheduleStore {
	slot := "{sealcache:jobs:" + e.Namespace() + "}"
	return &scheduleStore{
		rdb: rdb, e: e, schedules: slot + ":schedules", ticks: slot + ":ticks",
		polls: redis.NewScript(pollScript), swaps: redis.NewScript(swapScript), advances: redis.NewScript(advanceScript),
	}
}

// An entry is one stored schedule.
type entry struct {
	field string
	raw   string // as stored
	def   *definition
	err   error // why it does not open
}

// open opens what is stored under field.
func (s *scheduleStore) open(ctx context.Context, field, raw string) entry {
	en := entry{field: field, raw: raw}
	b, err := s.e.Open(ctx, jobs.Meta{Kind: jobs.Schedule, ID: field}, []byte(raw))
	if err != nil {
		en.err = err
		return en
	}
	d := new(definition)
	if err := json.Unmarshal(b, d); err != nil {
		en.err = fmt.Errorf("%w: a schedule that is not JSON", jobs.ErrUnsupportedFormat)
		return en
	}
	if en.err = d.parse(); en.err == nil {
		en.def = d
	}
	return en
}

// seal is the inverse, at the time now, for the field that the name has under the
// primary PRF key.
func (s *scheduleStore) seal(ctx context.Context, d *definition, now time.Time) (field, raw string, err error) {
	if field, err = s.e.Token(scheduleDomain, []byte(d.Name)); err != nil {
		return "", "", err
	}
	raw, err = s.sealAs(ctx, field, d, now)
	return field, raw, err
}

// sealAs is seal for a given field. It does not change d.
func (s *scheduleStore) sealAs(ctx context.Context, field string, d *definition, now time.Time) (string, error) {
	c := *d
	c.Sealed = now.UnixMilli()
	b, err := json.Marshal(&c)
	if err != nil {
		return "", fmt.Errorf("asynqjobs: schedule: %w", err)
	}
	sealed, err := s.e.Seal(ctx, jobs.Meta{Kind: jobs.Schedule, ID: field}, b)
	if err != nil {
		return "", fmt.Errorf("asynqjobs: schedule: %w", err)
	}
	return string(sealed), nil
}

// pollScript returns the time of the server, so that all schedulers go by one
// clock, and the ticks.
//
// KEYS[1] ticks
const pollScript = `
local t = redis.call('TIME')
return {t[1], t[2], redis.call('HGETALL', KEYS[1])}`

// poll returns the server's time, the version of the schedules and their last
// ticks by field.
func (s *scheduleStore) poll(ctx context.Context) (now time.Time, version string, ticks map[string]time.Time, err error) {
	v, err := s.polls.Run(ctx, s.rdb, []string{s.ticks}).Slice()
	if err != nil {
		return time.Time{}, "", nil, fmt.Errorf("asynqjobs: schedules: %w", err)
	}
	malformed := errors.New("asynqjobs: schedules: unexpected answer of the server")
	if len(v) != 3 {
		return time.Time{}, "", nil, malformed
	}
	sec, ok1 := v[0].(string)
	micro, ok2 := v[1].(string)
	pairs, ok3 := v[2].([]any)
	n, err1 := strconv.ParseInt(sec, 10, 64)
	m, err2 := strconv.ParseInt(micro, 10, 64)
	if !ok1 || !ok2 || !ok3 || err1 != nil || err2 != nil || len(pairs)%2 != 0 {
		return time.Time{}, "", nil, malformed
	}
	ticks = make(map[string]time.Time, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		field, ok1 := pairs[i].(string)
		value, ok2 := pairs[i+1].(string)
		if !ok1 || !ok2 {
			return time.Time{}, "", nil, malformed
		}
		if field == versionField {
			version = value
		} else if ms, err := strconv.ParseInt(value, 10, 64); err == nil {
			ticks[field] = time.UnixMilli(ms)
		}
	}
	return time.Unix(n, m*1000), version, ticks, nil
}

// all opens every schedule. One that cannot be opened now is taken from known, if
// it has not changed: an outage of the key service must not end what runs already.
func (s *scheduleStore) all(ctx context.Context, known map[string]entry) ([]entry, error) {
	stored, err := s.rdb.HGetAll(ctx, s.schedules).Result()
	if err != nil {
		return nil, fmt.Errorf("asynqjobs: schedules: %w", err)
	}
	entries := make([]entry, 0, len(stored))
	for field, raw := range stored {
		en := s.open(ctx, field, raw)
		if was := known[field]; en.err != nil && !jobs.Permanent(en.err) && was.raw == raw && was.def != nil {
			en = was
		}
		entries = append(entries, en)
	}
	return entries, nil
}

// of returns what is stored under a name, under every key of the PRF set; raw is
// empty where nothing is.
func (s *scheduleStore) of(ctx context.Context, name string) ([]entry, error) {
	fields, err := s.e.Tokens(scheduleDomain, []byte(name))
	if err != nil {
		return nil, err
	}
	values, err := s.rdb.HMGet(ctx, s.schedules, fields...).Result()
	if err != nil {
		return nil, fmt.Errorf("asynqjobs: schedules: %w", err)
	}
	entries := make([]entry, len(fields))
	for i, v := range values {
		entries[i] = entry{field: fields[i]}
		if raw, ok := v.(string); ok && raw != "" {
			entries[i] = s.open(ctx, fields[i], raw)
		}
	}
	return entries, nil
}

// named is of, and adds what is stored under fields of PRF keys that are gone: it
// opens every schedule to find the name. One that cannot be opened now is in err.
func (s *scheduleStore) named(ctx context.Context, name string) (entries []entry, unread, err error) {
	if entries, err = s.of(ctx, name); err != nil {
		return nil, nil, err
	}
	all, err := s.all(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	for _, en := range all {
		switch {
		case slices.ContainsFunc(entries, func(have entry) bool { return have.field == en.field }):
		case en.def != nil && en.def.Name == name:
			entries = append(entries, en)
		case errors.Is(en.err, jobs.ErrKeyServiceUnavailable):
			unread = fmt.Errorf("asynqjobs: a schedule cannot be read: %w", en.err)
		}
	}
	return entries, unread, nil
}

// swapScript replaces what is stored under some fields if that is what was read.
// The version comes first, and is a new one whatever was there: Redis does not take
// back what a script did before it failed. A last tick that was noted meanwhile under
// the new field is kept.
//
// KEYS[1] schedules, KEYS[2] ticks
// ARGV: how many fields, each with what it must hold ("" for nothing); the new
// field and value ("" for none); its last tick ("" for none); a random text
const swapScript = `
local n = tonumber(ARGV[1])
for i = 1, n do
  if (redis.call('HGET', KEYS[1], ARGV[2*i]) or '') ~= ARGV[2*i+1] then return 0 end
end
local at = 2*n + 2
local t = redis.call('TIME')
redis.call('HSET', KEYS[2], 'version', t[1] .. '.' .. t[2] .. '-' .. ARGV[at+3])
local tick = ARGV[at+2]
if tick ~= '' and ARGV[at] ~= '' then
  local noted = redis.call('HGET', KEYS[2], ARGV[at]) or ''
  local cur = tonumber(noted)
  if cur and cur > tonumber(tick) and cur < (t[1] + 1) * 1000 then tick = noted end
end
for i = 1, n do
  redis.call('HDEL', KEYS[1], ARGV[2*i])
  redis.call('HDEL', KEYS[2], ARGV[2*i])
end
if ARGV[at] ~= '' then redis.call('HSET', KEYS[1], ARGV[at], ARGV[at+1]) end
if tick ~= '' then redis.call('HSET', KEYS[2], ARGV[at], tick) end
return 1`

// swap replaces entries by raw under field, or deletes them if field is empty, and
// tells whether they were still what was read. A last tick is kept if it is given.
func (s *scheduleStore) swap(ctx context.Context, entries []entry, field, raw string, last time.Time) (bool, error) {
	args := []any{len(entries)}
	for _, en := range entries {
		args = append(args, en.field, en.raw)
	}
	tick := ""
	if !last.IsZero() {
		tick = strconv.FormatInt(last.UnixMilli(), 10)
	}
	n, err := s.swaps.Run(ctx, s.rdb, []string{s.schedules, s.ticks}, append(args, field, raw, tick, rand.Text())...).Int()
	if err != nil {
		return false, fmt.Errorf("asynqjobs: schedules: %w", err)
	}
	return n == 1, nil
}

// advanceScript notes a tick, unless the schedule was replaced or a later tick has
// been noted. What lies in the server's future is no tick, but a mistake.
//
// KEYS[1] schedules, KEYS[2] ticks; ARGV[1] field, ARGV[2] the last 16 bytes of
// the schedule (an authentication tag), ARGV[3] the tick
const advanceScript = `
local def = redis.call('HGET', KEYS[1], ARGV[1])
if not def or string.sub(def, -16) ~= ARGV[2] then return -1 end
local cur = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '')
if cur and cur >= tonumber(ARGV[3]) and cur < (redis.call('TIME')[1] + 1) * 1000 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 1`

const tagBytes = 16

// advance notes that the tick of an entry was enqueued.
func (s *scheduleStore) advance(ctx context.Context, en entry, tick time.Time) error {
	tag := en.raw[max(0, len(en.raw)-tagBytes):]
	if err := s.advances.Run(ctx, s.rdb, []string{s.schedules, s.ticks}, en.field, tag, tick.UnixMilli()).Err(); err != nil {
		return fmt.Errorf("asynqjobs: schedules: %w", err)
	}
	return nil
}
