package asynqjobs

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/internal/strictjson"
	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// scheduleStore keeps periodic jobs in two hashes that share one slot of a Cluster. In
// both, a field is the keyed pseudonym of a job's name.
//
//   - schedules: the sealed definition or cancellation, bound to its field
//   - ticks: the time of the job's last tick in Unix milliseconds; and under "version" a
//     random text, which each change of the schedules replaces
//
// An attacker who can write to Redis can delete a job or move its last tick. A tick of the last two
// minutes does not run again because of that: its task still exists.
type scheduleStore struct {
	rdb              redis.UniversalClient
	e                *jobs.Encryptor
	schedules, ticks string // keys
	limit            int    // no sealed schedule has more bytes

	polls, reads, finds, swaps, advances *redis.Script
}

// sealedRoom is what sealing adds at most to a schedule, with room.
const sealedRoom = 128 << 10

func newScheduleStore(rdb redis.UniversalClient, e *jobs.Encryptor) *scheduleStore {
	return &scheduleStore{
		rdb: rdb, e: e, schedules: asynqwire.SchedulesKey(e.Namespace()), ticks: asynqwire.TicksKey(e.Namespace()),
		limit: e.MaxPayloadBytes() + sealedRoom,
		polls: redis.NewScript(pollScript), reads: redis.NewScript(readScript), finds: redis.NewScript(findScript), swaps: redis.NewScript(swapScript), advances: redis.NewScript(advanceScript),
	}
}

// redisFailed wraps an error of Redis without the parts that may quote a stored value.
func redisFailed(action string, err error) error {
	return fmt.Errorf("asynqjobs: cannot %s the schedules in Redis: %w", action, rediserr.Wrap(err))
}

// entry is one stored schedule.
type entry struct {
	field string
	raw   string      // as stored; empty if nothing is
	def   *definition // nil if it does not open
	err   error       // why it does not open
}

// open opens the schedule that is stored under field.
func (s *scheduleStore) open(ctx context.Context, field, raw string) entry {
	en := entry{field: field, raw: raw}
	if strings.HasPrefix(raw, cutMark) {
		en.err = fmt.Errorf("asynqjobs: a stored schedule: %w (raise jobs.WithMaxPayloadBytes)", jobs.ErrTooLarge)
		return en
	}
	b, err := s.e.Open(ctx, jobs.Meta{Kind: jobs.Schedule, ID: field}, []byte(raw))
	if err == nil {
		en.def, err = unmarshal(b)
	}
	en.err = err
	return en
}

// unmarshal refuses members that this release does not know. A newer release may mean by them that the job must not run, and
// the next sealing would drop them.
func unmarshal(b []byte) (*definition, error) {
	d := new(definition)
	if err := strictjson.Unmarshal(b, d); err != nil {
		return nil, fmt.Errorf("%w: a stored schedule has unknown JSON fields (update sealcache)", jobs.ErrUnsupportedFormat)
	}
	if err := d.parse(); err != nil {
		return nil, err
	}
	return d, nil
}

// seal seals d, at the time now, for the field of its name under the primary PRF key.
func (s *scheduleStore) seal(ctx context.Context, d *definition, now time.Time) (entry, error) {
	field, err := s.e.Tokens().Token(asynqwire.ScheduleDomain, []byte(d.Name))
	if err != nil {
		return entry{}, err
	}
	return s.sealAs(ctx, field.String(), d, now)
}

// sealAs seals d for a given field. It does not change d. The entry shares no memory
// with d.
func (s *scheduleStore) sealAs(ctx context.Context, field string, d *definition, now time.Time) (entry, error) {
	c := *d
	c.Sealed = now.UnixMilli()
	b, err := json.Marshal(&c)
	if err != nil {
		return entry{}, fmt.Errorf("asynqjobs: cannot encode a schedule as JSON (report this bug): %w", err)
	}
	sealed, err := s.e.Seal(ctx, jobs.Meta{Kind: jobs.Schedule, ID: field}, b)
	if err != nil {
		return entry{}, within("seal a schedule", err)
	}
	copied, err := unmarshal(b)
	if err != nil {
		return entry{}, err
	}
	return entry{field: field, raw: string(sealed), def: copied}, nil
}

// pollScript returns the server's time, so that all schedulers use one clock, and the
// ticks. It leaves out fields that are too long for a tick or a version, because an attacker may have planted huge ones.
//
// KEYS[1] ticks
const pollScript = `
local t, all, ticks = redis.call('TIME'), redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  if #all[i] <= 64 and #all[i+1] <= 64 then
    ticks[#ticks+1] = all[i]
    ticks[#ticks+1] = all[i+1]
  end
end
return {t[1], t[2], ticks}`

// cutMark replaces the start of a value that is too large for a schedule. No sealed schedule begins with it.
const cutMark = "too large: "

// cutScript keeps only the end of a value that is too large for a schedule.
const cutScript = `
local function cut(value, limit)
  if value and #value > tonumber(limit) then return '` + cutMark + `' .. string.sub(value, -16) end
  return value
end
`

// readScript returns the version and the schedules. It leaves out fields with long names, which are not names of schedules.
//
// KEYS[1] schedules, KEYS[2] ticks
// ARGV[1] the largest size of a schedule
const readScript = cutScript + `
local all, stored = redis.call('HGETALL', KEYS[1]), {redis.call('HGET', KEYS[2], 'version') or ''}
if #stored[1] > 64 then stored[1] = '' end
for i = 1, #all, 2 do
  if #all[i] <= 64 then
    stored[#stored+1] = all[i]
    stored[#stored+1] = cut(all[i+1], ARGV[1])
  end
end
return stored`

// findScript returns the schedules of some fields.
//
// KEYS[1] schedules
// ARGV[1] the largest size of a schedule, and the fields
const findScript = cutScript + `
local found = redis.call('HMGET', KEYS[1], unpack(ARGV, 2))
for i = 1, #found do found[i] = cut(found[i], ARGV[1]) end
return found`

var errMalformed = errors.New("asynqjobs: cannot read the schedules in Redis: unexpected reply (does a proxy change replies?)")

// maxSeconds bounds the server's time. A later time could leave no version for the next call about a schedule.
const maxSeconds = 1 << 40

// poll returns the server's time, the version of the schedules, and the last ticks by
// field.
func (s *scheduleStore) poll(ctx context.Context) (now time.Time, version string, ticks map[string]time.Time, err error) {
	v, err := s.polls.Run(ctx, s.rdb, []string{s.ticks}).Slice()
	if err != nil {
		return time.Time{}, "", nil, redisFailed("read", err)
	}
	if len(v) != 3 {
		return time.Time{}, "", nil, errMalformed
	}
	sec, ok1 := v[0].(string)
	micro, ok2 := v[1].(string)
	pairs, ok3 := v[2].([]any)
	n, err1 := strconv.ParseInt(sec, 10, 64)
	m, err2 := strconv.ParseInt(micro, 10, 64)
	if !ok1 || !ok2 || !ok3 || err1 != nil || err2 != nil || n < 0 || n > maxSeconds || len(pairs)%2 != 0 {
		return time.Time{}, "", nil, errMalformed
	}
	ticks = make(map[string]time.Time, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		field, ok1 := pairs[i].(string)
		value, ok2 := pairs[i+1].(string)
		if !ok1 || !ok2 {
			return time.Time{}, "", nil, errMalformed
		}
		if field == asynqwire.VersionField {
			version = value
		} else if ms, err := strconv.ParseInt(value, 10, 64); err == nil {
			ticks[field] = time.UnixMilli(ms)
		}
	}
	return time.Unix(n, m*1000), version, ticks, nil
}

// all returns the stored schedules by field, and their version.
func (s *scheduleStore) all(ctx context.Context) (stored map[string]string, version string, err error) {
	reply, err := s.reads.Run(ctx, s.rdb, []string{s.schedules, s.ticks}, s.limit).StringSlice()
	switch {
	case err != nil:
		return nil, "", redisFailed("read", err)
	case len(reply)%2 != 1:
		return nil, "", errMalformed
	}
	stored = make(map[string]string, len(reply)/2)
	for i := 1; i < len(reply); i += 2 {
		stored[reply[i]] = reply[i+1]
	}
	return stored, reply[0], nil
}

// fields returns the fields that a name has, one for each key of the PRF set.
func (s *scheduleStore) fields(name string) ([]string, error) {
	tokens, err := s.e.Tokens().All(asynqwire.ScheduleDomain, []byte(name))
	if err != nil {
		return nil, err
	}
	fields := make([]string, len(tokens))
	for i, t := range tokens {
		fields[i] = t.String()
	}
	return fields, nil
}

// of returns the stored bytes under the fields of a name, unopened.
func (s *scheduleStore) of(ctx context.Context, name string) ([]entry, error) {
	fields, err := s.fields(name)
	if err != nil {
		return nil, err
	}
	args := []any{s.limit}
	for _, f := range fields {
		args = append(args, f)
	}
	values, err := s.finds.Run(ctx, s.rdb, []string{s.schedules}, args...).Slice()
	switch {
	case err != nil:
		return nil, redisFailed("read", err)
	case len(values) != len(fields):
		return nil, errMalformed
	}
	entries := make([]entry, len(fields))
	for i, v := range values {
		raw, _ := v.(string)
		entries[i] = entry{field: fields[i], raw: raw}
	}
	return entries, nil
}

// is reports whether en is stored.
func (s *scheduleStore) is(ctx context.Context, en entry) bool {
	values, err := s.finds.Run(ctx, s.rdb, []string{s.schedules}, len(en.raw), en.field).Slice()
	return err == nil && len(values) == 1 && values[0] == en.raw
}

// swapScript replaces the values of some fields if they have not changed since they were read. It writes the version
// first: Redis does not undo the writes of a script before it failed. It keeps a last tick that was noted under the
// new field in the meantime. It returns the version before, or an empty list.
//
// KEYS[1] schedules, KEYS[2] ticks
// ARGV: number of fields, and each with what it must hold ("" for nothing).
// Then the new field and value ("" for none), its last tick ("" for none), the new version, and the largest size of a schedule.
const swapScript = cutScript + `
local n = tonumber(ARGV[1])
local at = 2*n + 2
for i = 1, n do
  if (cut(redis.call('HGET', KEYS[1], ARGV[2*i]), ARGV[at+4]) or '') ~= ARGV[2*i+1] then return {} end
end
local before = redis.call('HGET', KEYS[2], 'version') or ''
if #before > 64 then before = '' end
redis.call('HSET', KEYS[2], 'version', ARGV[at+3])
local tick = ARGV[at+2]
if tick ~= '' and ARGV[at] ~= '' then
  local noted = redis.call('HGET', KEYS[2], ARGV[at]) or ''
  local cur = tonumber(noted)
  if cur and cur > tonumber(tick) and cur < (redis.call('TIME')[1] + 1) * 1000 then tick = noted end
end
for i = 1, n do
  redis.call('HDEL', KEYS[1], ARGV[2*i])
  redis.call('HDEL', KEYS[2], ARGV[2*i])
end
if ARGV[at] ~= '' then redis.call('HSET', KEYS[1], ARGV[at], ARGV[at+1]) end
if tick ~= '' then redis.call('HSET', KEYS[2], ARGV[at], tick) end
return {before}`

// swap replaces old by en, or deletes old if en has no field. It reports whether old was
// still stored, and returns the versions before and after. last is the last tick of en, or
// zero.
func (s *scheduleStore) swap(ctx context.Context, old []entry, en entry, last time.Time) (ok bool, before, after string, err error) {
	args := []any{len(old)}
	for _, o := range old {
		args = append(args, o.field, o.raw)
	}
	tick := ""
	if !last.IsZero() {
		tick = strconv.FormatInt(last.UnixMilli(), 10)
	}
	after = rand.Text()[:asynqwire.ScheduleVersionSize]
	reply, err := s.swaps.Run(ctx, s.rdb, []string{s.schedules, s.ticks}, append(args, en.field, en.raw, tick, after, s.limit)...).StringSlice()
	switch {
	case err != nil:
		return false, "", "", redisFailed("change", err)
	case len(reply) == 0:
		return false, "", "", nil
	case len(reply) != 1:
		return false, "", "", errMalformed
	default:
		return true, reply[0], after, nil
	}
}

// advanceScript notes a tick, unless the schedule was replaced or a later tick is noted. A time in
// the server's future is not a tick, and is overwritten. The tick is not noted either if the last
// tick differs from the one that was read before. A replica that lags has then become the master,
// and may lack the task of this tick. The next pass reads the present state.
//
// KEYS[1] schedules, KEYS[2] ticks.
// ARGV[1] field, ARGV[2] the last 16 bytes of the schedule (an authentication tag),
// ARGV[3] the tick, ARGV[4] the tick before it, or "".
const advanceScript = `
local def = redis.call('HGET', KEYS[1], ARGV[1])
if not def or string.sub(def, -16) ~= ARGV[2] then return -1 end
local cur = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '')
if ARGV[4] ~= '' and (not cur or cur < tonumber(ARGV[4])) then return -2 end
if cur and cur >= tonumber(ARGV[3]) and cur < (redis.call('TIME')[1] + 1) * 1000 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 1`

const tagBytes = 16

// advance notes that the tick of an entry was enqueued. before is the last tick that was
// noted, or zero.
func (s *scheduleStore) advance(ctx context.Context, en entry, before, tick time.Time) error {
	tag := en.raw[max(0, len(en.raw)-tagBytes):]
	earlier := ""
	if !before.IsZero() {
		earlier = strconv.FormatInt(before.UnixMilli(), 10)
	}
	if err := s.advances.Run(ctx, s.rdb, []string{s.schedules, s.ticks}, en.field, tag, tick.UnixMilli(), earlier).Err(); err != nil {
		return redisFailed("change", err)
	}
	return nil
}
