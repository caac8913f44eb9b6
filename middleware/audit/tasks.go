package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// taskFields returns the fields of a task's hash. Releases of asynq before 0.24 wrote timeout and deadline.
func taskFields() []string {
	return []string{"msg", "result", "state", "pending_since", "unique_key", "group", "timeout", "deadline"}
}

// knownTask reports whether a task's hash has the given number of fields, all of which are known. Each short one must hold
// a value that asynq can have written.
func knownTask(fields []any, size int64) bool {
	const texts = 2 // msg and result
	for i, field := range fields {
		text, ok := field.(string)
		switch {
		case !ok:
			continue
		case i >= texts && text != "" && !isID(text):
			return false
		}
		size--
	}
	return size <= 0
}

// tasks examines entries with names of tasks, and returns the names of those that are not tasks.
func (a *auditor) tasks(ctx context.Context, names []string, f *findings) (others []string, err error) {
	names, bytes, err := a.tasksOfSize(ctx, names, f)
	if err != nil {
		return nil, err
	}
	err = rediswalk.Groups(len(names), func(i int) int64 { return bytes[i] }, func(from, to int) error {
		not, err := a.readTasks(ctx, names[from:to], f)
		others = append(others, not...)
		return err
	})
	return others, err
}

func (a *auditor) readTasks(ctx context.Context, names []string, f *findings) (others []string, err error) {
	sizes, cmds := make([]*redis.IntCmd, len(names)), make([]*redis.SliceCmd, len(names))
	err = a.servers.Pipelined(ctx, func(p redis.Pipeliner) {
		for i, name := range names {
			sizes[i] = p.HLen(ctx, name)
			cmds[i] = p.HMGet(ctx, name, taskFields()...)
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
			return nil, rediswalk.CallError("HMGET", err)
		}
		size, err := sizes[i].Result()
		if err != nil {
			return nil, rediswalk.CallError("HLEN", err)
		}
		if len(fields) != len(taskFields()) {
			return nil, fmt.Errorf("HMGET returned %d values for %d fields", len(fields), len(taskFields()))
		}
		msg, isMessage := fields[0].(string)
		result, hasResult := fields[1].(string)
		if !isMessage && !hasResult {
			others = append(others, names[i]) // or it is gone
			continue
		}
		known, err := a.knownNow(ctx, names[i], fields, size)
		if err != nil {
			return nil, err
		}
		f.task(names[i], msg, result, known && isMessage, a.Samples)
	}
	return others, nil
}

// knownNow is knownTask for a hash that may have changed between two commands: then it is read again.
func (a *auditor) knownNow(ctx context.Context, name string, fields []any, size int64) (bool, error) {
	for range 3 {
		if knownTask(fields, size) {
			return true, nil
		}
		var err error
		if size, err = a.servers.Client.HLen(ctx, name).Result(); err == nil {
			fields, err = a.servers.Client.HMGet(ctx, name, taskFields()...).Result()
		}
		if err != nil {
			return false, rediserr.Wrap(err)
		}
	}
	return knownTask(fields, size), nil
}

// task counts a task. known reports that asynq writes such a hash.
func (f *findings) task(name, msg, result string, known bool, samples int) {
	f.jobs.Tasks.add(1, int64(len(msg)+len(result)))
	before := f.jobs.plaintextValues()
	f.job(&f.jobs.Results, rediswalk.BytesOf(result), nil)
	m, err := parseMessage(rediswalk.BytesOf(msg), taskPayload, taskError, taskHeaders, taskLast)
	if err != nil || m.unknown || !known {
		f.notUnderstood(name, samples)
	}
	if err == nil && msg != "" {
		f.job(&f.jobs.Payloads, m.payload, m.headers)
		if isHeldMember(m.headers) {
			f.key(keyName{label: heldLabel}, int64(len(m.payload)), false)
		}
		f.headers(m.headers)
		f.failure(m.failure)
	}
	if f.jobs.plaintextValues() > before {
		f.sample("jobs in plaintext", name, samples)
	}
}

// unread counts an entry that was not read. See Report.NotRead.
func (f *findings) unread(name string, samples int) {
	f.notRead++
	f.sample("not read", name, samples)
}

func (f *findings) notUnderstood(name string, samples int) {
	f.jobs.Unparsed++
	f.sample("not understood", name, samples)
}

// heldLabel stands for the keys of group members inside tasks, which the tasks do not name.
const heldLabel = "unknown (asynq group members)"

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
	switch failure := asynqwire.ParseFailure(text); {
	case failure.Kind.Public():
	case failure.Kind == asynqwire.SealedFailure:
		f.job(&f.jobs.Errors, failure.Sealed, nil)
	case failure.Kind == asynqwire.MalformedFailure:
		f.jobs.Errors.UnknownFormat.add(1, int64(len(text)))
	default:
		f.jobs.Errors.Plaintext.add(1, int64(len(text)))
	}
}

// maxHeaders bounds the headers of a message. A planted message may have millions, which need many times its size in memory.
const maxHeaders = 1 << 10

// message holds the fields of an asynq message that the audit needs.
type message struct {
	payload []byte
	failure string
	headers map[string]string
	unknown bool // it has fields that asynq 0.26 does not write
}

// eachField calls f with the length-delimited fields of a message, and skips the others. It reports whether there are fields
// with a number over last, whose content this release does not know.
func eachField(b []byte, last protowire.Number, f func(num protowire.Number, v []byte) error) (unknown bool, err error) {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return unknown, fmt.Errorf("audit: parse a task: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if n = protowire.ConsumeFieldValue(num, kind, b); n < 0 {
			return unknown, fmt.Errorf("audit: parse a task: %w", protowire.ParseError(n))
		}
		unknown = unknown || num > last
		if kind == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(b)
			if err := f(num, v); err != nil {
				return unknown, err
			}
		}
		b = b[n:]
	}
	return unknown, nil
}

// parseMessage reads a message by its field numbers. last is the greatest known number. A field number of 0 means that the
// message has no such field.
func parseMessage(b []byte, payload, failure, headers, last protowire.Number) (message, error) {
	m := message{headers: map[string]string{}}
	more := false
	unknown, err := eachField(b, last, func(num protowire.Number, v []byte) error {
		switch num {
		case payload:
			m.payload = v
		case failure:
			m.failure = string(v)
		case headers: // an entry of a map<string, string>
			if len(m.headers) == maxHeaders {
				return errors.New("audit: parse a task: too many headers")
			}
			var key, value string
			odd, err := eachField(v, 2, func(num protowire.Number, v []byte) error {
				switch num {
				case 1:
					key = string(v)
				case 2:
					value = string(v)
				}
				return nil
			})
			if err != nil {
				return err
			}
			more = more || odd
			m.headers[key] = value
		}
		return nil
	})
	m.unknown = unknown || more
	return m, err
}
