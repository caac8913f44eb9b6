package audit

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// Names and fields of asynq 0.26 (asynq/internal/base, asynq/internal/proto). asynq has no public package for its
// messages, so they are read by their field numbers.
const (
	workersPrefix    = asynqwire.KeyPrefix + "workers:"
	schedulersPrefix = asynqwire.KeyPrefix + "schedulers:"
	historyPrefix    = asynqwire.KeyPrefix + "scheduler_history:"
	serversPrefix    = asynqwire.KeyPrefix + "servers:"

	taskPayload, taskError, taskHeaders, taskLast = 2, 7, 15, 15
	workerPayload, workerLast                     = 6, 9
	schedulerPayload, schedulerLast               = 4, 7
	serverLast                                    = 9
)

// ofJobs reports whether a name may be one of asynq or of package asynqjobs. Its type decides too.
func ofJobs(name string) bool {
	return strings.HasPrefix(name, asynqwire.KeyPrefix) || asynqwire.IsScheduleKey(name)
}

// role is the purpose of an entry in a job queue.
type role int

const (
	roleNone       role = iota // not an entry of a queue: it is counted like any other entry
	roleMembers                // a collection whose members are names, ids or keys; see members.go
	roleCount                  // a number, as text
	roleLock                   // an id, as text
	roleServer                 // the description of a server, as a message
	roleWorkers                // copies of payloads
	roleSchedulers             // copies of payloads
	roleSchedules              // sealed definitions
	roleTicks                  // times
)

// roleOf returns the role of an entry by its name and type, as asynq 0.26 and asynqjobs write them.
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
	case kind == "string" && braced(serversPrefix):
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

// afterBrace returns what follows "asynq:{queue}:". The name of a queue may contain braces too, so nextBrace tries the next
// one.
func afterBrace(name string) (rest string, ok bool) {
	inner, ok := strings.CutPrefix(name, asynqwire.KeyPrefix+"{")
	if !ok {
		return "", false
	}
	return nextBrace(inner)
}

func nextBrace(s string) (rest string, ok bool) {
	_, rest, ok = strings.Cut(s, "}:")
	return rest, ok
}

// roleInQueue returns the role of an entry whose name is "asynq:{queue}:" and rest.
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

// maxText bounds the text that is read of an id or of a server's description.
const maxText = 64 << 10

// holds reports whether a text fits the role.
func (r role) holds(text []byte) bool {
	switch r {
	case roleCount:
		return len(text) <= 20 && len(bytes.Trim(text, "0123456789")) == 0
	case roleLock:
		return isID(string(text))
	case roleServer:
		_, err := parseMessage(text, 0, 0, 0, serverLast)
		return len(text) < maxText && err == nil
	default:
		return true
	}
}

// jobs examines entries that may belong to jobs, and returns the names of those that do not.
func (a *auditor) jobs(ctx context.Context, names []string, f *findings) (others []string, err error) {
	var tasks, rest []string
	for _, name := range names {
		if asynqwire.IsTaskKey(name) {
			tasks = append(tasks, name)
		} else {
			rest = append(rest, name)
		}
	}
	if others, err = a.tasks(ctx, tasks, f); err != nil {
		return nil, err
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
			return nil, jobsError(err)
		}
		if !is {
			others = append(others, name)
		}
	}
	return others, nil
}

// jobsError is the error of reading an entry of job queues.
func jobsError(err error) error {
	return fmt.Errorf("cannot read the entries of job queues: %w", rediserr.Wrap(err))
}

// inRole examines an entry that has a role by its name and type. It reports false if the entry holds something else.
func (a *auditor) inRole(ctx context.Context, name, kind string, text *redis.StringCmd, f *findings) (bool, error) {
	client, r := a.servers.Client, roleOf(name, kind)
	switch r {
	case roleWorkers, roleSchedulers, roleSchedules, roleTicks:
		if ok, err := a.readable(ctx, name, nil, f); err != nil || !ok {
			return true, err
		}
	}
	switch r {
	case roleCount, roleLock, roleServer:
		b, err := text.Bytes()
		if err != nil || !r.holds(b) {
			return false, unlessChanged(err)
		}
		doubtful, err := a.doubtful(ctx, r, name, b)
		switch {
		case err != nil:
			return false, err
		case doubtful:
			f.notUnderstood(name, a.Samples)
		default:
			f.jobs.Bookkeeping++
		}
	case roleWorkers:
		infos, err := client.HVals(ctx, name).Result()
		if err != nil {
			return false, unlessChanged(err)
		}
		a.copies(infos, workerPayload, workerLast, &f.jobs.Running, f)
	case roleSchedulers:
		err := pages(func(from, to int64) ([]string, error) { return client.LRange(ctx, name, from, to).Result() }, func(infos []string) error {
			a.copies(infos, schedulerPayload, schedulerLast, &f.jobs.Scheduled, f)
			return nil
		})
		if err != nil {
			return false, unlessChanged(err)
		}
	case roleSchedules:
		sealed, err := client.HGetAll(ctx, name).Result()
		if err != nil {
			return false, unlessChanged(err)
		}
		for field, s := range sealed {
			f.job(&f.jobs.Scheduled, rediswalk.BytesOf(s), nil)
			if !asynqwire.IsScheduleField(field) {
				f.notUnderstood(name, a.Samples)
			}
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

func (a *auditor) copies(messages []string, field, last protowire.Number, t *Tally, f *findings) {
	for _, text := range messages {
		m, err := parseMessage(rediswalk.BytesOf(text), field, 0, 0, last)
		if err != nil || m.unknown {
			f.jobs.Unparsed++
		}
		if err == nil {
			f.job(t, m.payload, nil)
		}
	}
}

// doubtful reports whether an entry with the form of its role may hold something else. Examples are a lock that names no
// task, and fields that asynq 0.26 does not write.
func (a *auditor) doubtful(ctx context.Context, r role, name string, text []byte) (bool, error) {
	switch r {
	case roleServer:
		m, err := parseMessage(text, 0, 0, 0, serverLast)
		return m.unknown, err
	case roleLock:
		id := string(text)
		if isUUID(id) { // a lock may outlive its task
			return false, nil
		}
		var tasks []string
		for rest, ok := afterBrace(name); ok; rest, ok = nextBrace(rest) {
			tasks = append(tasks, name[:len(name)-len(rest)]+"t:"+id)
		}
		kinds, err := a.servers.Kinds(ctx, tasks)
		if err != nil || slices.ContainsFunc(kinds, func(kind string) bool { return kind != "none" }) {
			return false, err
		}
		still, err := a.servers.Client.GetRange(ctx, name, 0, maxText-1).Result()
		return still == id, unlessChanged(err)
	default:
		return false, nil
	}
}
