package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// What asynq 0.26 keeps, and where (asynq/internal/base, asynq/internal/proto). Its messages are read by their field
// numbers; it has no public package for them.
const (
	workersPrefix    = "asynq:workers:"
	schedulersPrefix = "asynq:schedulers:"

	// Those of middleware/jobs/asynqjobs: two hashes for each namespace of jobs, "{sealcache:jobs:ns}:schedules" with
	// sealed definitions, and ":ticks" with times.
	schedulePrefix = "{sealcache:jobs:"

	// asynqPrefix begins the names of asynq's keys.
	asynqPrefix = "asynq:"

	taskPayload, taskError, taskHeaders = 2, 7, 15
	workerPayload                       = 6
	schedulerPayload                    = 4
)

// isTask tells whether a name is that of a task's hash: asynq:{queue}:t:id.
func isTask(name string) bool {
	rest, ok := strings.CutPrefix(name, "asynq:{")
	if !ok {
		return false
	}
	i := strings.LastIndex(rest, "}:t:") // an id may hold anything, a queue no brace that would be found first
	return i >= 0
}

// ofJobs tells whether a name may be one of asynq or of package asynqjobs. Whether it is, its type decides too.
func ofJobs(name string) bool {
	return strings.HasPrefix(name, asynqPrefix) || strings.HasPrefix(name, schedulePrefix)
}

// role is what an entry is to jobs.
type role int

const (
	roleNone       role = iota // nothing: it is judged as any other entry
	roleIDs                    // ids, names of queues and groups, times
	roleCount                  // a number, as text
	roleLock                   // an id, as text
	roleServer                 // what a server says of itself, as a message
	roleWorkers                // copies of payloads
	roleSchedulers             // copies of payloads
	roleSchedules              // sealed definitions
)

// roleOf knows an entry by its name and its type, as asynq 0.26 has them (internal/base, internal/rdb).
func roleOf(name, kind string) role {
	if rest, ok := strings.CutPrefix(name, schedulePrefix); ok {
		ns, what, _ := strings.Cut(rest, "}:")
		switch {
		case kind != "hash" || ns != "" && middleware.CheckNamespace(ns) != nil:
		case what == "schedules":
			return roleSchedules
		case what == "ticks":
			return roleIDs
		}
		return roleNone
	}
	switch name + " " + kind {
	case "asynq:servers zset", "asynq:workers zset", "asynq:schedulers zset", "asynq:queues set":
		return roleIDs
	}
	braced := func(prefix string) bool { return strings.HasPrefix(name, prefix+"{") && strings.HasSuffix(name, "}") }
	switch {
	case kind == "string" && braced("asynq:servers:"):
		return roleServer
	case kind == "hash" && braced(workersPrefix):
		return roleWorkers
	case kind == "list" && braced(schedulersPrefix):
		return roleSchedulers
	case kind == "zset" && strings.HasPrefix(name, "asynq:scheduler_history:"):
		return roleIDs
	}
	rest, ok := strings.CutPrefix(name, "asynq:{")
	for ok { // the name of a queue may hold braces, too
		if _, rest, ok = strings.Cut(rest, "}:"); ok {
			if r := roleInQueue(rest, kind); r != roleNone {
				return r
			}
		}
	}
	return roleNone
}

// roleInQueue is for what follows asynq:{queue}: in a name.
func roleInQueue(rest, kind string) role {
	switch rest + " " + kind {
	case "pending list", "active list", "scheduled zset", "retry zset", "archived zset", "completed zset", "lease zset",
		"groups set", "aggregation_sets zset":
		return roleIDs
	case "paused string", "processed string", "failed string":
		return roleCount
	}
	day, counter := strings.CutPrefix(rest, "processed:")
	if !counter {
		day, counter = strings.CutPrefix(rest, "failed:")
	}
	switch {
	case counter && kind == "string":
		if _, err := time.Parse(time.DateOnly, day); err == nil {
			return roleCount
		}
	case kind == "zset" && strings.HasPrefix(rest, "g:"):
		return roleIDs
	case kind == "string" && strings.HasPrefix(rest, "unique:"):
		sum := rest[strings.LastIndexByte(rest, ':')+1:]
		if sum == "" || len(sum) == 32 && strings.Trim(sum, "0123456789abcdef") == "" {
			return roleLock
		}
	}
	return roleNone
}

// maxText bounds what is read of an id or of what a server says of itself.
const maxText = 64 << 10

// holds tells whether what was read of an entry is what its role has in it.
func (r role) holds(text []byte) bool {
	switch r {
	case roleCount:
		return len(text) <= 20 && len(bytes.Trim(text, "0123456789")) == 0
	case roleLock:
		return len(text) < maxText && !wire.IsSealed(text)
	case roleServer:
		_, err := parseMessage(text, 0, 0, 0)
		return len(text) < maxText && err == nil
	default:
		return true
	}
}

// tasksAtATime bounds how many tasks are read with one pipeline, payloads and all.
const tasksAtATime = 25

// queues looks at what may belong to jobs, and returns the names of what does not.
func (a *auditor) queues(ctx context.Context, names []string, f *findings) (strangers []string, err error) {
	var tasks, others []string
	for _, name := range names {
		if isTask(name) {
			tasks = append(tasks, name)
		} else {
			others = append(others, name)
		}
	}
	for len(tasks) > 0 {
		n := min(len(tasks), tasksAtATime)
		not, err := a.tasks(ctx, tasks[:n], f)
		if err != nil {
			return nil, err
		}
		strangers = append(strangers, not...)
		tasks = tasks[n:]
	}
	kinds, err := a.servers.Kinds(ctx, others)
	if err != nil {
		return nil, err
	}
	texts := make([]*redis.StringCmd, len(others)) // of those that have some
	err = a.servers.Pipelined(ctx, func(p redis.Pipeliner) {
		for i, name := range others {
			if r := roleOf(name, kinds[i]); r == roleCount || r == roleLock || r == roleServer {
				texts[i] = p.GetRange(ctx, name, 0, maxText-1)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	for i, name := range others {
		is, err := a.inRole(ctx, name, roleOf(name, kinds[i]), texts[i], f)
		if err != nil {
			return nil, rediswalk.WithoutNames(err)
		}
		if !is {
			strangers = append(strangers, name)
		}
	}
	return strangers, nil
}

// inRole looks at an entry that has a role by its name and type. It is not in it if it holds something else.
func (a *auditor) inRole(ctx context.Context, name string, r role, text *redis.StringCmd, f *findings) (bool, error) {
	client := a.servers.Client
	switch r {
	case roleNone:
		return false, nil
	case roleCount, roleLock, roleServer:
		b, err := text.Bytes()
		if err != nil || !r.holds(b) {
			return false, changed(err)
		}
		f.jobs.Bookkeeping++
	case roleWorkers:
		infos, err := client.HVals(ctx, name).Result()
		if err != nil {
			return false, changed(err)
		}
		a.copies(infos, workerPayload, &f.jobs.Running, f)
	case roleSchedulers:
		const part = 1000
		for from := int64(0); ; from += part {
			infos, err := client.LRange(ctx, name, from, from+part-1).Result()
			if err != nil {
				return false, changed(err)
			}
			a.copies(infos, schedulerPayload, &f.jobs.Scheduled, f)
			if len(infos) < part {
				break
			}
		}
	case roleSchedules:
		sealed, err := client.HVals(ctx, name).Result()
		if err != nil {
			return false, changed(err)
		}
		for _, s := range sealed {
			f.job(&f.jobs.Scheduled, rediswalk.BytesOf(s), nil)
		}
	default:
		f.jobs.Bookkeeping++
	}
	return true, nil
}

// changed is the error of reading what has become of another type meanwhile: none.
func changed(err error) error {
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
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

// tasks looks at what has the names of tasks, and returns those that are none.
func (a *auditor) tasks(ctx context.Context, names []string, f *findings) (strangers []string, err error) {
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
		if redis.HasErrorPrefix(err, "WRONGTYPE") {
			strangers = append(strangers, names[i])
			continue
		}
		if err != nil {
			return nil, rediswalk.WithoutNames(err)
		}
		msg, isMessage := fields[0].(string)
		result, hasResult := fields[1].(string)
		if !isMessage && !hasResult {
			strangers = append(strangers, names[i]) // or gone meanwhile
			continue
		}
		f.jobs.Tasks.add(1, int64(len(msg)+len(result)))
		before := f.jobs.plaintextValues()
		f.job(&f.jobs.Results, rediswalk.BytesOf(result), nil)
		m, err := parseMessage(rediswalk.BytesOf(msg), taskPayload, taskError, taskHeaders)
		if err != nil || !isMessage {
			f.jobs.Unparsed++
			f.sample("not understood", names[i], a.Samples)
		} else {
			f.job(&f.jobs.Payloads, m.payload, m.headers)
			if m.headers[asynqwire.HeldMemberHeader] != "" {
				f.key(cachevalue.KeyName{Label: heldLabel}, 1, int64(len(m.payload)))
			}
			f.headers(m.headers)
			f.failure(m.failure)
		}
		if f.jobs.plaintextValues() > before {
			f.sample("jobs in clear", names[i], a.Samples)
		}
	}
	return strangers, nil
}

// heldLabel stands for the keys of group members that are held, sealed, inside tasks of their own.
const heldLabel = "held members of groups"

func (j *JobTally) plaintextValues() int64 {
	return j.Payloads.Plaintext.Values + j.Results.Plaintext.Values + j.Errors.Plaintext.Values + j.Headers.Plaintext.Values
}

// job counts a payload or a result. Where a tag stands for the payload, the payload is in a header.
func (f *findings) job(t *Tally, b []byte, headers map[string]string) {
	if len(b) == 0 {
		return // there is nothing that could be in clear
	}
	n := int64(len(b))
	if wire.IsTag(b) {
		if headers == nil {
			t.Sealed.add(1, n) // a copy of the tag alone
			return
		}
		sealed, err := base64.RawStdEncoding.Strict().DecodeString(headers[asynqwire.PayloadHeader])
		if err != nil || !wire.IsSealed(sealed) {
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
	if err != nil || h.Kind == wire.CacheValue {
		t.UnknownFormat.add(1, n)
		return
	}
	t.Sealed.add(1, n)
	f.key(cachevalue.KeyOf(b[start:]), 1, n)
}

// headers counts those that are not ours: asynqjobs seals what an application puts there.
func (f *findings) headers(h map[string]string) {
	for key, value := range h {
		if key != asynqwire.PayloadHeader && (key != asynqwire.HeldMemberHeader || value != asynqwire.HeldMember) {
			f.jobs.Headers.Plaintext.add(1, int64(len(key)+len(value)))
		}
	}
}

// failure counts an error text. The constant texts of asynq and asynqjobs hold nothing of the task.
func (f *findings) failure(text string) {
	switch parsed := asynqwire.ParseFailure(text); parsed.Kind {
	case asynqwire.NoFailure, asynqwire.RefusedFailure, asynqwire.NoticeFailure:
	case asynqwire.SealedFailure:
		f.job(&f.jobs.Errors, parsed.Sealed, nil)
	case asynqwire.MalformedFailure:
		f.jobs.Errors.UnknownFormat.add(1, int64(len(text)))
	default:
		f.jobs.Errors.Plaintext.add(1, int64(len(text)))
	}
}

// message is what is of interest in one of asynq's.
type message struct {
	payload []byte
	failure string
	headers map[string]string
}

// parseMessage reads a message by its field numbers; 0 is none.
func parseMessage(b []byte, payload, failure, headers protowire.Number) (message, error) {
	m := message{headers: map[string]string{}}
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return m, fmt.Errorf("audit: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if kind != protowire.BytesType || num != payload && num != failure && num != headers {
			if n = protowire.ConsumeFieldValue(num, kind, b); n < 0 {
				return m, fmt.Errorf("audit: %w", protowire.ParseError(n))
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return m, fmt.Errorf("audit: %w", protowire.ParseError(n))
		}
		b = b[n:]
		switch num {
		case payload:
			m.payload = v
		case failure:
			m.failure = string(v)
		case headers:
			key, value, err := parsePair(v)
			if err != nil {
				return m, err
			}
			m.headers[key] = value
		}
	}
	return m, nil
}

// parsePair reads an entry of a map<string, string>.
func parsePair(b []byte) (key, value string, err error) {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return "", "", fmt.Errorf("audit: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, kind, b); n < 0 {
				return "", "", fmt.Errorf("audit: %w", protowire.ParseError(n))
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return "", "", fmt.Errorf("audit: %w", protowire.ParseError(n))
		}
		b = b[n:]
		switch num {
		case 1:
			key = string(v)
		case 2:
			value = string(v)
		}
	}
	return key, value, nil
}
