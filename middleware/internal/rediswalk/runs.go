package rediswalk

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
)

// RunsName is the name of a hash in each database that records the writing runs. A run that resumes from a checkpoint
// finds there whether another run has undone its work since.
const RunsName = "sealcache.runs"

const (
	sequenceField = "sequence"
	runsKeptFor   = 30 * 24 * time.Hour
	maxRuns       = 200
	refusedSize   = 16 // hexadecimal digits of Run.Refused

	maxRunBytes   = 64 << 10 // of a record: a thousand masters
	maxRunID      = 32
	maxRunsFields = 100 * maxRuns
	maxRunsBytes  = 32 << 20 // more than maxRuns of the largest records
)

// readRunsSource returns the records as pairs, or nil if there are too many. An attacker may have planted huge fields, so those
// that cannot be records are left out. KEYS: the hash. Its four numbers bound fields, an id, a record, and all records.
const readRunsSource = `
if redis.call('HLEN', KEYS[1]) > %d then return false end
local records, size = {}, 0
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
	local n = #id <= %d and redis.call('HSTRLEN', KEYS[1], id)
	if n and n <= %d then
		size = size + n
		if size > %d then return false end
		records[#records+1] = id
		records[#records+1] = redis.call('HGET', KEYS[1], id)
	end
end
return records`

// Run is the record of a writing run.
type Run struct {
	Sequence  int64  `json:"sequence"`
	Operation string `json:"operation"`
	Job       string `json:"job"`  // digest of everything that decides what is written
	From      string `json:"from"` // prefix of the stored names, up to the first byte that is not UTF-8
	To        string `json:"to"`
	Done      bool   `json:"done"` // the run is complete: no checkpoint continues it
	// Refused is a digest of the keys of a run that stopped because its keys are wrong.
	Refused string `json:"refused,omitempty"`
	// Replicas is how many replicas each master had when the run began or was resumed, by the master's run_id. Masters without
	// any are left out.
	Replicas map[string]int `json:"replicas,omitempty"`
	// Began is when the run began, in Unix seconds by the clock of a server. It is 0 if no server showed it.
	Began int64 `json:"began,omitempty"`
}

// ErrRunUndone reports that a checkpoint is out of date. Either the record of its run is gone, as after a flush, or
// the run is complete. Or another run with other settings has changed the same names since. The text of the returned
// error says which.
var ErrRunUndone = errors.New("the checkpoint file is out of date")

var (
	errRunLost      = fmt.Errorf("%w: Redis has no record of the run that wrote it (remove the file to begin again)", ErrRunUndone)
	errRunDone      = fmt.Errorf("%w: the run that wrote it is already complete (remove the file)", ErrRunUndone)
	errRunOverruled = fmt.Errorf("%w: a later run with other settings changed the same entries (remove the file to begin again)", ErrRunUndone)
)

// ErrOpposed reports that an opposite run changed the same names during a run: one of them seals, and the other unseals.
var ErrOpposed = errors.New("a sealing run and an unsealing run changed the same entries (repeat only the run you want)")

// ErrRunsRefused reports that the user may not read or write the records.
var ErrRunsRefused = errors.New("the Redis user may not read or write the key " + RunsName + " (allow it in the user's ACL)")

// errTooManyRuns reports that the hash holds more than the project writes.
var errTooManyRuns = errors.New("the key " + RunsName + " holds more than any run writes (delete it)")

// RegisterRun records a run and returns its id.
func (s *Servers) RegisterRun(ctx context.Context, r Run) (id string, err error) {
	var b [8]byte
	rand.Read(b[:]) // never fails
	id = hex.EncodeToString(b[:])
	if err := s.addRun(ctx, id, r); err != nil {
		return "", err
	}
	if err := s.pruneRuns(ctx); err != nil {
		return "", err
	}
	return id, nil
}

// ProveRuns returns ErrRunsRefused if the user may not read or write the records, and another refusal as it is. It changes
// nothing: Redis checks the rights before it refuses the arguments.
func (s *Servers) ProveRuns(ctx context.Context) error {
	const none = "sealcache.dry-run"
	var cmds []redis.Cmder
	err := s.Pipelined(ctx, func(p redis.Pipeliner) {
		for _, args := range [][]any{
			{"hlen", RunsName},
			{"hkeys", RunsName},
			{"hstrlen", RunsName, none},
			{"hget", RunsName, none},
			{"hdel", RunsName, none},
			{"hset", RunsName, none, "", none},         // a field without a value
			{"hincrby", RunsName, sequenceField, none}, // not a number
			{"expire", RunsName, none},
		} {
			cmds = append(cmds, p.Do(ctx, args...))
		}
	})
	if err != nil {
		return err
	}
	for _, c := range cmds {
		err := c.Err()
		if rediserr.Denied(err) {
			return ErrRunsRefused
		}
		refusesArguments := func(part string) bool { return strings.Contains(rediserr.Text(err), part) }
		if rediserr.IsReply(err) && !slices.ContainsFunc([]string{"argument", "integer", "syntax"}, refusesArguments) {
			return CallError(strings.ToUpper(c.Name()), err)
		}
	}
	return nil
}

// addRun writes a record that is not there yet.
func (s *Servers) addRun(ctx context.Context, id string, r Run) (err error) {
	if r.Sequence, err = s.Client.HIncrBy(ctx, RunsName, sequenceField, 1).Result(); err != nil {
		return runsError(err)
	}
	return s.writeRun(ctx, id, r)
}

// validStart returns what precedes the first byte that is not UTF-8, which JSON cannot hold. The shorter prefix overlaps
// all names that the longer one overlaps.
func validStart(prefix string) string {
	for i, r := range prefix {
		if _, n := utf8.DecodeRuneInString(prefix[i:]); r == utf8.RuneError && n == 1 {
			return prefix[:i]
		}
	}
	return prefix
}

// knownReplicas returns what a record may hold: masters that have replicas, with the run_id of a Redis.
func knownReplicas(replicas map[string]int) map[string]int {
	known := maps.Clone(replicas)
	maps.DeleteFunc(known, func(master string, n int) bool { return n < 1 || !isHex(master, 40) })
	return known
}

// EndRun records that a run is complete. An older copy of its checkpoint is then refused.
func (s *Servers) EndRun(ctx context.Context, id string) error {
	_, err := s.changeRun(ctx, id, func(r *Run) { r.Done = true })
	return err
}

// RefuseRun records that a run stopped because its keys, of which keys is a digest, are wrong. r is the record of the run,
// which a failover, a flush or an eviction may have removed.
func (s *Servers) RefuseRun(ctx context.Context, id string, r Run, keys string) error {
	changed, err := s.changeRun(ctx, id, func(r *Run) { r.Refused = keys })
	if err != nil || changed {
		return err
	}
	r.Sequence, r.Refused = 0, keys // before all others: this run does not undo them
	return s.writeRun(ctx, id, r)
}

// ExpectReplicas records the replicas that a resumed run has found, besides those of the run before.
func (s *Servers) ExpectReplicas(ctx context.Context, id string, replicas map[string]int) error {
	_, err := s.changeRun(ctx, id, func(r *Run) {
		for master, n := range knownReplicas(replicas) {
			if r.Replicas == nil {
				r.Replicas = make(map[string]int)
			}
			r.Replicas[master] = max(r.Replicas[master], n)
		}
	})
	return err
}

// Unconfirmed returns how many replicas of each master have to confirm the next run of a job. They are those of the runs
// since the last complete one, and those of the run that it resumes. A single server that has another run_id since was
// promoted, or it is an old master that was restarted. If it started after such a run, it has to have the replicas of that
// run, too.
func (s *Servers) Unconfirmed(ctx context.Context, job, resumed string, masters []State) (replicas map[string]int, err error) {
	all, err := s.runs(ctx)
	complete := int64(0)
	for _, r := range all {
		if r.Job == job && r.Done {
			complete = max(complete, r.Sequence)
		}
	}
	replicas = make(map[string]int)
	for id, r := range all {
		if r.Job != job || r.Sequence <= complete && id != resumed {
			continue
		}
		for master, n := range r.Replicas {
			replicas[master] = max(replicas[master], n)
			if len(masters) == 1 && s.cluster == nil && r.Began > 0 && masters[0].Started > r.Began+clockError {
				replicas[masters[0].RunID] = max(replicas[masters[0].RunID], n)
			}
		}
	}
	return replicas, err
}

// clockError is by how many seconds the start of a server may be wrong: it is shown in whole seconds.
const clockError = 2

// WasRefused reports whether a run on some of the names of r was refused because of the same keys.
func (s *Servers) WasRefused(ctx context.Context, r Run, keys string) (bool, error) {
	all, err := s.runs(ctx)
	for _, other := range all {
		if other.Refused == keys && r.overlaps(other) {
			return true, err
		}
	}
	return false, err
}

// changeRun reports whether there was a record to change.
func (s *Servers) changeRun(ctx context.Context, id string, change func(r *Run)) (changed bool, err error) {
	all, err := s.runs(ctx)
	r, ok := all[id]
	if err != nil || !ok {
		return false, err
	}
	change(&r)
	return true, s.writeRun(ctx, id, r)
}

func (s *Servers) writeRun(ctx context.Context, id string, r Run) error {
	r.From, r.To, r.Replicas = validStart(r.From), validStart(r.To), knownReplicas(r.Replicas)
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := s.Client.HSet(ctx, RunsName, id, text).Err(); err != nil {
		return runsError(err)
	}
	if err := s.Client.Expire(ctx, RunsName, runsKeptFor).Err(); err != nil {
		return runsError(err)
	}
	return nil
}

func runsError(err error) error {
	if rediserr.Denied(err) {
		return ErrRunsRefused
	}
	return rediserr.Wrap(err)
}

func (s *Servers) runs(ctx context.Context) (map[string]Run, error) {
	script := rediscmd.NewScript(fmt.Sprintf(readRunsSource, maxRunsFields, maxRunID, maxRunBytes, maxRunsBytes))
	call := &Call{Keys: []string{RunsName}}
	if err := s.Run(ctx, script, []*Call{call}); err != nil {
		return nil, runsError(err)
	}
	fields, err := call.Cmd.StringSlice()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, errTooManyRuns
	case err != nil:
		return nil, runsError(err)
	}
	all := make(map[string]Run, len(fields)/2)
	for i := 0; i+1 < len(fields); i += 2 {
		if id := fields[i]; id != sequenceField {
			if r, ok := parseRun(fields[i+1]); ok {
				all[id] = r
			}
		}
	}
	return all, nil
}

// parseRun accepts only what writeRun writes, so that nothing can hide in a record.
func parseRun(text string) (Run, bool) {
	var r Run
	if len(text) > maxRunBytes || json.Unmarshal([]byte(text), &r) != nil {
		return r, false
	}
	again, err := json.Marshal(r)
	return r, err == nil && string(again) == text && isHex(r.Job, 32) && (r.Refused == "" || isHex(r.Refused, refusedSize)) && len(knownReplicas(r.Replicas)) == len(r.Replicas) && len(r.Operation) <= len("reseal")
}

func isHex(s string, n int) bool { return len(s) == n && strings.Trim(s, "0123456789abcdef") == "" }

// pruneRuns removes the oldest records. A run whose record is gone starts from the beginning. Refusals without a sequence are
// counted for themselves, so that they neither go first nor take the places of runs: see RefuseRun. Refusals of a server that did
// not tell the time go last.
func (s *Servers) pruneRuns(ctx context.Context) error {
	all, err := s.runs(ctx)
	if err != nil || len(all) <= maxRuns {
		return err
	}
	var runs, refusals []string
	for id, r := range all {
		if r.Sequence > 0 {
			runs = append(runs, id)
		} else {
			refusals = append(refusals, id)
		}
	}
	slices.SortFunc(runs, func(a, b string) int { return cmp.Compare(all[a].Sequence, all[b].Sequence) })
	began := func(id string) int64 {
		if at := all[id].Began; at > 0 {
			return at
		}
		return math.MaxInt64
	}
	slices.SortFunc(refusals, func(a, b string) int { return cmp.Compare(began(a), began(b)) })
	oldest := func(ids []string) []string { return ids[:max(len(ids)-maxRuns/2, 0)] }
	if err := s.Client.HDel(ctx, RunsName, slices.Concat(oldest(runs), oldest(refusals))...).Err(); err != nil {
		return runsError(err)
	}
	return nil
}

// CheckRun returns ErrRunUndone with its cause if a run cannot be resumed.
func (s *Servers) CheckRun(ctx context.Context, id string) error {
	all, err := s.runs(ctx)
	if err != nil {
		return err
	}
	own, ok := all[id]
	switch {
	case !ok:
		return errRunLost
	case own.Done:
		return errRunDone
	}
	for _, r := range all {
		if r.Sequence > own.Sequence && r.Job != own.Job && own.overlaps(r) {
			return errRunOverruled
		}
	}
	return nil
}

// UnfinishedOpposites returns the ids of earlier runs that are not complete and that may still undo the work of a run. Each of
// them is under way, or was stopped.
func (s *Servers) UnfinishedOpposites(ctx context.Context, id string) ([]string, error) {
	all, err := s.runs(ctx)
	if err != nil {
		return nil, err
	}
	own := all[id]
	var unfinished []string
	for other, r := range all {
		if own.opposes(r) && !r.Done && r.Sequence < own.Sequence {
			unfinished = append(unfinished, other)
		}
	}
	slices.Sort(unfinished)
	return unfinished, nil
}

// CheckEnd returns ErrOpposed if an opposite run began during a run, or ended during it. unfinished is what
// UnfinishedOpposites returned when the run began. left reports whether one of these is still not complete, and no run on all
// of its names has ended since. Such a run has reported it, or has done its work.
func (s *Servers) CheckEnd(ctx context.Context, id string, unfinished []string) (left bool, err error) {
	all, err := s.runs(ctx)
	if err != nil {
		return false, err
	}
	own := all[id]
	for other, r := range all {
		earlier := slices.Contains(unfinished, other)
		if own.opposes(r) && (r.Sequence > own.Sequence || r.Done && earlier) {
			return false, ErrOpposed
		}
		left = left || own.opposes(r) && earlier && !superseded(r, all)
	}
	return left, nil
}

// superseded reports whether a later run that seals or unseals all names of a run has ended.
func superseded(r Run, all map[string]Run) bool {
	for _, later := range all {
		covers := strings.HasPrefix(r.From, later.From) && strings.HasPrefix(r.To, later.To)
		if later.Done && later.Sequence > r.Sequence && covers && (later.Operation == r.Operation || later.opposes(r)) {
			return true
		}
	}
	return false
}

// opposes reports whether one of two runs seals what the other unseals.
func (r Run) opposes(other Run) bool {
	const seal, unseal = "seal", "unseal"
	return (r.Operation == seal && other.Operation == unseal || r.Operation == unseal && other.Operation == seal) && r.overlaps(other)
}

func (r Run) overlaps(other Run) bool {
	for _, a := range []string{r.From, r.To} {
		for _, b := range []string{other.From, other.To} {
			if strings.HasPrefix(a, b) || strings.HasPrefix(b, a) {
				return true
			}
		}
	}
	return false
}

// IsRuns reports whether the fields of a hash are records of runs and nothing else.
func IsRuns(fields map[string]string) bool {
	for id, text := range fields {
		if id == sequenceField {
			if len(text) > 19 || strings.Trim(text, "0123456789") != "" {
				return false
			}
			continue
		}
		if _, ok := parseRun(text); !ok || !isHex(id, 16) {
			return false
		}
	}
	return true
}
