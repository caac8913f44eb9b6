package audit

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// What asynq 0.26 keeps, and where (asynq/internal/base, asynq/internal/proto). asynq has no public package for its
// messages, so they are read by their field numbers.
const (
	asynqPrefix      = "asynq:"
	workersPrefix    = "asynq:workers:"
	schedulersPrefix = "asynq:schedulers:"
	historyPrefix    = "asynq:scheduler_history:"

	taskPayload, taskError, taskHeaders = 2, 7, 15
	workerPayload                       = 6
	schedulerPayload                    = 4
)

// ofJobs reports whether a name may be one of asynq or of package asynqjobs. Its type decides too.
func ofJobs(name string) bool {
	return strings.HasPrefix(name, asynqPrefix) || asynqwire.IsScheduleKey(name)
}

// role is what an entry is to jobs.
type role int

const (
	roleNone       role = iota // nothing: it is judged as any other entry
	roleMembers                // a collection whose members are names, ids or keys; see members.go
	roleCount                  // a number, as text
	roleLock                   // an id, as text
	roleServer                 // what a server says of itself, as a message
	roleWorkers                // copies of payloads
	roleSchedulers             // copies of payloads
	roleSchedules              // sealed definitions
	roleTicks                  // times
)

// roleOf knows an entry by its name and its type, as asynq 0.26 and asynqjobs write them.
func roleOf(name, kind string) role {
	if asynqwire.IsScheduleKey(name) {
		_, schedules := asynqwire.ParseSchedulesKey(name)
		_, ticks := asynqwire.ParseTicksKey(name)
		switch {
		case schedules && kind == "hash":
			return roleSchedules
		case ticks && kind == "hash":
			return roleTicks
		}
		return roleNone
	}
	braced := func(prefix string) bool { return strings.HasPrefix(name, prefix+"{") && strings.HasSuffix(name, "}") }
	switch {
	case kind == "string" && braced("asynq:servers:"):
		return roleServer
	case kind == "hash" && braced(workersPrefix):
		return roleWorkers
	case kind == "list" && braced(schedulersPrefix):
		return roleSchedulers
	}
	if memberRule(name, kind) != nil {
		return roleMembers
	}
	for rest, ok := afterBrace(name); ok; rest, ok = nextBrace(rest) {
		if r := roleInQueue(rest, kind); r != roleNone {
			return r
		}
	}
	return roleNone
}

// afterBrace returns what follows "asynq:{queue}:". The name of a queue may hold braces too, so nextBrace goes on.
func afterBrace(name string) (rest string, ok bool) {
	inner, ok := strings.CutPrefix(name, "asynq:{")
	if !ok {
		return "", false
	}
	return nextBrace(inner)
}

func nextBrace(s string) (rest string, ok bool) {
	_, rest, ok = strings.Cut(s, "}:")
	return rest, ok
}

// roleInQueue is for strings under asynq:{queue}: with this end of their name.
func roleInQueue(rest, kind string) role {
	if kind != "string" {
		return roleNone
	}
	switch rest {
	case "paused", "processed", "failed":
		return roleCount
	}
	day, counter := strings.CutPrefix(rest, "processed:")
	if !counter {
		day, counter = strings.CutPrefix(rest, "failed:")
	}
	if counter {
		if _, err := time.Parse(time.DateOnly, day); err == nil {
			return roleCount
		}
	}
	if strings.HasPrefix(rest, "unique:") {
		sum := rest[strings.LastIndexByte(rest, ':')+1:]
		if sum == "" || len(sum) == 32 && strings.Trim(sum, "0123456789abcdef") == "" {
			return roleLock
		}
	}
	return roleNone
}

// maxText bounds what is read of an id or of what a server says of itself.
const maxText = 64 << 10

// holds reports whether a text is what the role has.
func (r role) holds(text []byte) bool {
	switch r {
	case roleCount:
		return len(text) <= 20 && len(bytes.Trim(text, "0123456789")) == 0
	case roleLock:
		return isID(string(text))
	case roleServer:
		_, err := parseMessage(text, 0, 0, 0)
		return len(text) < maxText && err == nil
	default:
		return true
	}
}

// tasksAtATime bounds how many tasks one pipeline reads, with their payloads.
const tasksAtATime = 25

// jobs looks at entries that may belong to jobs, and returns the names of those that do not.
func (a *auditor) jobs(ctx context.Context, names []string, f *findings) (others []string, err error) {
	var tasks, rest []string
	for _, name := range names {
		if asynqwire.IsTaskKey(name) {
			tasks = append(tasks, name)
		} else {
			rest = append(rest, name)
		}
	}
	for len(tasks) > 0 {
		n := min(len(tasks), tasksAtATime)
		not, err := a.tasks(ctx, tasks[:n], f)
		if err != nil {
			return nil, err
		}
		others = append(others, not...)
		tasks = tasks[n:]
	}
	kinds, err := a.servers.Kinds(ctx, rest)
	if err != nil {
		return nil, err
	}
	texts := make([]*redis.StringCmd, len(rest))
	err = a.servers.Pipelined(ctx, func(p redis.Pipeliner) {
		for i, name := range rest {
			if r := roleOf(name, kinds[i]); r == roleCount || r == roleLock || r == roleServer {
				texts[i] = p.GetRange(ctx, name, 0, maxText-1)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	for i, name := range rest {
		is, err := a.inRole(ctx, name, kinds[i], texts[i], f)
		if err != nil {
			return nil, rediserr.Wrap(err)
		}
		if !is {
			others = append(others, name)
		}
	}
	return others, nil
}

// inRole looks at an entry that has a role by its name and type. It reports false if the entry holds something else.
func (a *auditor) inRole(ctx context.Context, name, kind string, text *redis.StringCmd, f *findings) (bool, error) {
	client := a.servers.Client
	switch r := roleOf(name, kind); r {
	case roleCount, roleLock, roleServer:
		b, err := text.Bytes()
		if err != nil || !r.holds(b) {
			return false, unlessChanged(err)
		}
		f.jobs.Bookkeeping++
	case roleWorkers:
		infos, err := client.HVals(ctx, name).Result()
		if err != nil {
			return false, unlessChanged(err)
		}
		a.copies(infos, workerPayload, &f.jobs.Running, f)
	case roleSchedulers:
		err := pages(func(from, to int64) ([]string, error) { return client.LRange(ctx, name, from, to).Result() }, func(infos []string) error {
			a.copies(infos, schedulerPayload, &f.jobs.Scheduled, f)
			return nil
		})
		if err != nil {
			return false, unlessChanged(err)
		}
	case roleSchedules:
		sealed, err := client.HVals(ctx, name).Result()
		if err != nil {
			return false, unlessChanged(err)
		}
		for _, s := range sealed {
			f.job(&f.jobs.Scheduled, rediswalk.BytesOf(s), nil)
		}
	case roleTicks:
		return true, unlessChanged(a.ticks(ctx, name, f))
	case roleMembers:
		return true, unlessChanged(a.members(ctx, name, memberRule(name, kind), f))
	default:
		return false, nil
	}
	return true, nil
}

// unlessChanged returns nil for the error of reading an entry that has another type now.
func unlessChanged(err error) error {
	if rediserr.Code(err) == "WRONGTYPE" {
		return nil
	}
	return err
}

func (a *auditor) copies(messages []string, field protowire.Number, t *Tally, f *findings) {
	for _, text := range messages {
		m, err := parseMessage(rediswalk.BytesOf(text), field, 0, 0)
		if err != nil {
			f.jobs.Unparsed++
			continue
		}
		f.job(t, m.payload, nil)
	}
}

// tasks looks at entries with names of tasks, and returns those that are none.
func (a *auditor) tasks(ctx context.Context, names []string, f *findings) (others []string, err error) {
	cmds := make([]*redis.SliceCmd, len(names))
	err = a.servers.Pipelined(ctx, func(p redis.Pipeliner) {
		for i, name := range names {
			cmds[i] = p.HMGet(ctx, name, "msg", "result")
		}
	})
	if err != nil {
		return nil, err
	}
	for i, cmd := range cmds {
		fields, err := cmd.Result()
		if rediserr.Code(err) == "WRONGTYPE" {
			others = append(others, names[i])
			continue
		}
		if err != nil {
			return nil, rediserr.Wrap(err)
		}
		msg, isMessage := fields[0].(string)
		result, hasResult := fields[1].(string)
		if !isMessage && !hasResult {
			others = append(others, names[i]) // or it is gone
			continue
		}
		f.jobs.Tasks.add(1, int64(len(msg)+len(result)))
		before := f.jobs.plaintextValues()
		f.job(&f.jobs.Results, rediswalk.BytesOf(result), nil)
		m, err := parseMessage(rediswalk.BytesOf(msg), taskPayload, taskError, taskHeaders)
		if err != nil || !isMessage {
			f.notUnderstood(names[i], a.Samples)
		} else {
			f.job(&f.jobs.Payloads, m.payload, m.headers)
			if isHeldMember(m.headers) {
				f.key(keyName{label: heldLabel}, int64(len(m.payload)), false)
			}
			f.headers(m.headers)
			f.failure(m.failure)
		}
		if f.jobs.plaintextValues() > before {
			f.sample("jobs in plaintext", names[i], a.Samples)
		}
	}
	return others, nil
}

func (f *findings) notUnderstood(name string, samples int) {
	f.jobs.Unparsed++
	f.sample("not understood", name, samples)
}

// heldLabel stands for the keys of group members inside tasks, which the tasks do not name.
const heldLabel = "held members of groups"

// isHeldMember reports whether the headers mark a task that holds a member of a group.
func isHeldMember(headers map[string]string) bool {
	for name := range headers {
		if strings.HasPrefix(name, asynqwire.ReservedHeaders) && name != asynqwire.PayloadHeader {
			return true
		}
	}
	return false
}

func (j *JobTally) plaintextValues() int64 {
	return j.Payloads.Plaintext.Values + j.Results.Plaintext.Values + j.Errors.Plaintext.Values + j.Headers.Plaintext.Values
}

// job counts a payload or a result. If a tag stands for the payload, the payload is in a header.
func (f *findings) job(t *Tally, b []byte, headers map[string]string) {
	if len(b) == 0 {
		return // nothing that could be plaintext
	}
	n := int64(len(b))
	if wire.IsTag(b) {
		if headers == nil {
			t.Sealed.add(1, n) // a copy of the tag alone
			return
		}
		sealed, _, err := asynqwire.SealedPayload(b, headers)
		if err != nil {
			t.UnknownFormat.add(1, n)
			return
		}
		b = sealed
		n = int64(len(b))
	}
	if !wire.IsSealed(b) {
		t.Plaintext.add(1, n)
		return
	}
	h, start, err := wire.Parse(b)
	if err != nil || h.Kind == wire.CacheValue || h.Kind == wire.KeyCheck {
		t.UnknownFormat.add(1, n)
		return
	}
	t.Sealed.add(1, n)
	f.key(nameOf(b[start:]), n, false)
}

// headers counts headers that asynqjobs does not write: it seals those of an application.
func (f *findings) headers(h map[string]string) {
	for key, value := range h {
		held := strings.HasPrefix(key, asynqwire.ReservedHeaders) && value == asynqwire.HeldMember
		if key != asynqwire.PayloadHeader && !held {
			f.jobs.Headers.Plaintext.add(1, int64(len(key)+len(value)))
		}
	}
}

// failure counts the error text of a task. Texts that asynq and asynqjobs write themselves say nothing about the task.
func (f *findings) failure(text string) {
	switch failure := asynqwire.ParseFailure(text); failure.Kind {
	case asynqwire.NoFailure, asynqwire.RefusedFailure, asynqwire.NoticeFailure:
	case asynqwire.SealedFailure:
		f.job(&f.jobs.Errors, failure.Sealed, nil)
	case asynqwire.MalformedFailure:
		f.jobs.Errors.UnknownFormat.add(1, int64(len(text)))
	default:
		f.jobs.Errors.Plaintext.add(1, int64(len(text)))
	}
}

// message is the part of an asynq message that is of interest.
type message struct {
	payload []byte
	failure string
	headers map[string]string
}

// eachField calls f with the length-delimited fields of a message, and skips the others.
func eachField(b []byte, f func(num protowire.Number, v []byte) error) error {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("audit: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(num, kind, b); n < 0 {
			return fmt.Errorf("audit: %w", protowire.ParseError(n))
		}
		if kind == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b)
			if err := f(num, v); err != nil {
				return err
			}
		}
		b = b[n:]
	}
	return nil
}

// parseMessage reads a message by its field numbers; 0 is none.
func parseMessage(b []byte, payload, failure, headers protowire.Number) (message, error) {
	m := message{headers: map[string]string{}}
	err := eachField(b, func(num protowire.Number, v []byte) error {
		switch num {
		case payload:
			m.payload = v
		case failure:
			m.failure = string(v)
		case headers: // an entry of a map<string, string>
			var key, value string
			if err := eachField(v, func(num protowire.Number, v []byte) error {
				switch num {
				case 1:
					key = string(v)
				case 2:
					value = string(v)
				}
				return nil
			}); err != nil {
				return err
			}
			m.headers[key] = value
		}
		return nil
	})
	return m, err
}
