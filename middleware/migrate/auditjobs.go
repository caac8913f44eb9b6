package migrate

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// What asynq 0.26 keeps, and where (asynq/internal/base, asynq/internal/proto). Its messages are read by their field
// numbers; it has no public package for them.
const (
	workersPrefix    = "asynq:workers:"
	schedulersPrefix = "asynq:schedulers:"

	// Those of middleware/jobs/asynqjobs: two hashes for each namespace of jobs, "{sealcache:jobs:ns}:schedules" with
	// sealed definitions, and ":ticks" with times.
	schedulePrefix  = "{sealcache:jobs:"
	schedulesSuffix = "}:schedules"

	taskPayload, taskError, taskHeaders = 2, 7, 15
	workerPayload                       = 6
	schedulerPayload                    = 4
)

// How middleware/jobs/asynqjobs seals what does not fit into a payload.
const (
	payloadHeader = "sealcache-payload" // base64, of a unique task
	sealedText    = "sealcache:sealed:" // then base64, of an error
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

// tasksAtATime bounds how many tasks are read with one pipeline, payloads and all.
const tasksAtATime = 25

// queueNames are the names of a batch that belong to queues.
type queueNames struct{ tasks, workers, schedulers, schedules []string }

// take sorts a name in, and tells whether it was one of a queue.
func (q *queueNames) take(name string, j *JobTally) bool {
	switch {
	case strings.HasPrefix(name, schedulePrefix) && strings.HasSuffix(name, schedulesSuffix):
		q.schedules = append(q.schedules, name)
	case strings.HasPrefix(name, schedulePrefix):
		j.Bookkeeping++
	case !strings.HasPrefix(name, reserved):
		return false
	case isTask(name):
		q.tasks = append(q.tasks, name)
	case strings.HasPrefix(name, workersPrefix):
		q.workers = append(q.workers, name)
	case strings.HasPrefix(name, schedulersPrefix):
		q.schedulers = append(q.schedulers, name)
	default:
		j.Bookkeeping++
	}
	return true
}

func (a *auditor) queues(ctx context.Context, q queueNames, f *findings) error {
	tasks := q.tasks
	for len(tasks) > 0 {
		n := min(len(tasks), tasksAtATime)
		if err := a.tasks(ctx, tasks[:n], f); err != nil {
			return err
		}
		tasks = tasks[n:]
	}
	for _, name := range q.workers {
		infos, err := a.servers.client.HVals(ctx, name).Result()
		if err := a.copies(infos, err, workerPayload, &f.jobs.Running, f); err != nil {
			return err
		}
	}
	for _, name := range q.schedulers {
		const most = 10000
		infos, err := a.servers.client.LRange(ctx, name, 0, most-1).Result()
		if err := a.copies(infos, err, schedulerPayload, &f.jobs.Scheduled, f); err != nil {
			return err
		}
	}
	for _, name := range q.schedules {
		sealed, err := a.servers.client.HVals(ctx, name).Result()
		if redis.HasErrorPrefix(err, "WRONGTYPE") {
			f.jobs.Unparsed++
			continue
		}
		if err != nil {
			return withoutNames(err)
		}
		for _, s := range sealed {
			f.job(&f.jobs.Scheduled, bytesOf(s), nil)
		}
	}
	return nil
}

func (a *auditor) copies(messages []string, err error, field protowire.Number, t *Tally, f *findings) error {
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		f.jobs.Unparsed++
		return nil
	}
	if err != nil {
		return withoutNames(err)
	}
	for _, text := range messages {
		m, err := parseMessage(bytesOf(text), field, 0, 0)
		if err != nil {
			f.jobs.Unparsed++
			continue
		}
		f.job(t, m.payload, nil)
	}
	return nil
}

func (a *auditor) tasks(ctx context.Context, names []string, f *findings) error {
	cmds := make([]*redis.SliceCmd, len(names))
	err := a.servers.pipelined(ctx, func(p redis.Pipeliner) {
		for i, name := range names {
			cmds[i] = p.HMGet(ctx, name, "msg", "result")
		}
	})
	if err != nil {
		return err
	}
	for i, cmd := range cmds {
		fields, err := cmd.Result()
		if redis.HasErrorPrefix(err, "WRONGTYPE") {
			f.jobs.Unparsed++
			continue
		}
		if err != nil {
			return withoutNames(err)
		}
		msg, ok := fields[0].(string)
		result, _ := fields[1].(string)
		if !ok {
			continue // gone meanwhile
		}
		f.jobs.Tasks.add(1, int64(len(msg)+len(result)))
		m, err := parseMessage(bytesOf(msg), taskPayload, taskError, taskHeaders)
		if err != nil {
			f.jobs.Unparsed++
			f.sample("not understood", names[i], a.Samples)
			continue
		}
		before := f.jobs.clearValues()
		f.job(&f.jobs.Payloads, m.payload, m.headers)
		f.job(&f.jobs.Results, bytesOf(result), nil)
		f.failure(m.failure)
		if f.jobs.clearValues() > before {
			f.sample("jobs in clear", names[i], a.Samples)
		}
	}
	return nil
}

func (j *JobTally) clearValues() int64 {
	return j.Payloads.Clear.Values + j.Results.Clear.Values + j.Errors.Clear.Values
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
		sealed, err := base64.RawStdEncoding.Strict().DecodeString(headers[payloadHeader])
		if err != nil || !wire.IsSealed(sealed) {
			t.Foreign.add(1, n)
			return
		}
		b = sealed
		n = int64(len(b))
	}
	if !wire.IsSealed(b) {
		t.Clear.add(1, n)
		return
	}
	h, start, err := wire.Parse(b)
	if err != nil || h.Kind == wire.CacheValue {
		t.Foreign.add(1, n)
		return
	}
	t.Sealed.add(1, n)
	f.key(nameOf(b[start:]), 1, n)
}

// failure counts an error's text. Those of asynq, and of sealcache where it could not seal, say nothing of the task.
func (f *findings) failure(text string) {
	if text == "" {
		return
	}
	if i := strings.Index(text, sealedText); i >= 0 {
		sealed, err := base64.RawStdEncoding.Strict().DecodeString(text[i+len(sealedText):])
		if err != nil || !wire.IsSealed(sealed) {
			f.jobs.Errors.Foreign.add(1, int64(len(text)))
			return
		}
		f.job(&f.jobs.Errors, sealed, nil)
		return
	}
	for _, own := range []string{"asynq: ", "asynqjobs: ", "sealcache: ", "context deadline exceeded", "context canceled"} {
		if strings.HasPrefix(text, own) {
			return
		}
	}
	f.jobs.Errors.Clear.add(1, int64(len(text)))
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
			return m, fmt.Errorf("migrate: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if kind != protowire.BytesType || num != payload && num != failure && num != headers {
			if n = protowire.ConsumeFieldValue(num, kind, b); n < 0 {
				return m, fmt.Errorf("migrate: %w", protowire.ParseError(n))
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return m, fmt.Errorf("migrate: %w", protowire.ParseError(n))
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
			return "", "", fmt.Errorf("migrate: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, kind, b); n < 0 {
				return "", "", fmt.Errorf("migrate: %w", protowire.ParseError(n))
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return "", "", fmt.Errorf("migrate: %w", protowire.ParseError(n))
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
