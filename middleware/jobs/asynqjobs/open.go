package asynqjobs

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/internal/wire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// opened is a task as its sender made it.
type opened struct {
	task    *asynq.Task // without options and ResultWriter
	clear   bool        // it was never sealed
	refused []member
	lost    uint32
	nothing bool
}

// openTask opens what stands in Redis as typename, payload and headers of the
// task at p, where believe says to take queue, id and group from its claim. A
// clear task is jobs.ErrNotSealed.
func openTask(ctx context.Context, e *jobs.Encryptor, typename string, payload []byte, headers map[string]string, p place, believe bool) (*opened, error) {
	// In three steps, of which only the middle one is on the stack while AES works: each
	// job has a goroutine of its own, whose stack is copied whenever it must grow.
	l, err := locate(payload, headers, p, believe)
	if err != nil {
		return nil, err
	}
	b, err := e.Open(ctx, jobs.Meta{Type: typename, Queue: l.at.queue, ID: l.at.boundID()}, l.sealed)
	if err != nil {
		return nil, err
	}
	return unpack(typename, payload, &l, b)
}

// located is what is sealed of a task, and what it is bound to.
type located struct {
	sealed  []byte
	at      place
	tagged  bool // a tag stands in its place
	foreign bool // it claims another queue or id
}

// locate finds what is sealed of the task at p.
//
//go:noinline
func locate(payload []byte, headers map[string]string, p place, believe bool) (located, error) {
	whole, tagged, err := wholePayload(payload, headers)
	if err != nil {
		return located{}, err
	}
	if !believe {
		if strings.HasPrefix(p.id, reservedID) {
			return located{}, fmt.Errorf("%w: no task has such an id", jobs.ErrUnauthentic)
		}
		if sealed, at := p.cutOwnClaim(whole); sealed != nil {
			return located{sealed: sealed, at: at, tagged: tagged}, nil
		}
	}
	sealed, claim, err := cutClaim(whole)
	if err != nil {
		return located{}, err
	}
	at := claim
	if !believe {
		// Of the claim remains what asynq does not tell a handler: the group of a
		// task that was taken out of one to be run alone, the framing, and that it
		// was sealed for no queue (see aggregator). What is sealed opens only with
		// its own.
		if at.id = p.id; claim.queue != "" {
			at.queue = p.queue
		}
	}
	return located{sealed: sealed, at: at, tagged: tagged, foreign: claim != at}, nil
}

// unpack makes a task of what was opened.
//
//go:noinline
func unpack(typename string, payload []byte, l *located, b []byte) (_ *opened, err error) {
	if l.foreign {
		return nil, fmt.Errorf("%w: the task claims to be another, or of another queue", jobs.ErrUnauthentic)
	}
	f := &frame{payload: b}
	if l.at.framed {
		if f, err = parseFrame(b); err != nil {
			return nil, err
		}
	} else if len(b) == 0 {
		f.payload = nil // as asynq hands over an empty one
	}
	if f.name != "" {
		typename = f.name
	}
	if f.unique != l.tagged {
		return nil, fmt.Errorf("%w: the task was not enqueued in this form", jobs.ErrUnauthentic)
	}
	// The tag is compared with the one that was sealed, not made again: a worker
	// needs no PRF keys, and a job does not depend on theirs being rotated in step.
	if l.tagged && subtle.ConstantTimeCompare(payload[len(payload)-wire.TagSize:], f.tag[:]) != 1 {
		return nil, fmt.Errorf("%w: the uniqueness tag is not that of the task", jobs.ErrUnauthentic)
	}
	return &opened{
		task:    asynq.NewTaskWithHeaders(typename, f.payload, f.headers),
		refused: f.refused,
		lost:    f.lost,
		nothing: f.nothing,
	}, nil
}

// wholePayload finds the sealed value of a task with the claim that follows it, and
// tells whether a tag stands in their place. A clear task is jobs.ErrNotSealed.
func wholePayload(payload []byte, headers map[string]string) (whole []byte, tagged bool, err error) {
	if !jobs.IsSealed(payload) {
		return nil, false, jobs.ErrNotSealed
	}
	text, aside := headers[payloadHeader]
	if tagged = wire.IsTag(payload); tagged != aside {
		return nil, tagged, fmt.Errorf("%w: payload and headers of the task do not belong together", jobs.ErrUnauthentic)
	}
	if aside {
		if payload, err = base64.RawStdEncoding.Strict().DecodeString(text); err != nil || !jobs.IsSealed(payload) {
			return nil, true, fmt.Errorf("%w: header %q does not hold the base64 of something sealed", jobs.ErrUnauthentic, payloadHeader)
		}
	}
	// Another version may have another claim, or none.
	if _, _, err = wire.Parse(payload); err != nil {
		return nil, tagged, err
	}
	return payload, tagged, nil
}

// OpenTask returns the task that info describes as its sender made it: with its
// real type name, payload and headers. Errors are those of jobs.Encryptor.Open. It
// is for tools; handlers get their tasks opened.
func OpenTask(ctx context.Context, e *jobs.Encryptor, info *asynq.TaskInfo) (*asynq.Task, error) {
	if e == nil || info == nil {
		return nil, errors.New("asynqjobs: OpenTask: nil argument")
	}
	o, err := openInfo(ctx, e, info)
	if err != nil {
		return nil, err
	}
	return o.task, nil
}

// OpenRefused returns the members of a group that were refused and are kept in the
// task that info describes (ReasonGroup), as they were found: clear, sealed or
// neither. They come from whoever can write to Redis.
func OpenRefused(ctx context.Context, e *jobs.Encryptor, info *asynq.TaskInfo) ([]*asynq.Task, error) {
	if e == nil || info == nil {
		return nil, errors.New("asynqjobs: OpenRefused: nil argument")
	}
	o, err := openInfo(ctx, e, info)
	if err != nil {
		return nil, err
	}
	var tasks []*asynq.Task
	for _, m := range o.refused {
		tasks = append(tasks, asynq.NewTaskWithHeaders(m.typename, m.payload, m.headers))
	}
	return tasks, nil
}

func openInfo(ctx context.Context, e *jobs.Encryptor, info *asynq.TaskInfo) (*opened, error) {
	o, err := openTask(ctx, e, info.Type, info.Payload, info.Headers, place{queue: info.Queue, id: info.ID}, false)
	if err != nil {
		return nil, fmt.Errorf("asynqjobs: task: %w", err)
	}
	if info.Group != "" {
		if claim, _ := claimed(info.Payload, info.Headers); claim.group != info.Group {
			return nil, fmt.Errorf("asynqjobs: task: %w: sealed for another group", jobs.ErrUnauthentic)
		}
	}
	return o, nil
}

// OpenResult returns the result that the handler of the task gave to WriteResult,
// or nil if there is none (yet). info is the Inspector's. Errors are those of
// jobs.Encryptor.Open.
func OpenResult(ctx context.Context, e *jobs.Encryptor, info *asynq.TaskInfo) ([]byte, error) {
	if e == nil || info == nil {
		return nil, errors.New("asynqjobs: OpenResult: nil argument")
	}
	if len(info.Result) == 0 {
		return nil, nil
	}
	b, err := e.Open(ctx, jobs.Meta{Kind: jobs.Result, Type: info.Type, Queue: info.Queue, ID: info.ID}, info.Result)
	if err != nil {
		return nil, fmt.Errorf("asynqjobs: result: %w", err)
	}
	return b, nil
}

// OpenFailure returns the text of the last error or panic of the task that info
// describes. What asynq or this package wrote in clear (a lost lease, a timeout, a
// Refusal) is returned as it is.
func OpenFailure(ctx context.Context, e *jobs.Encryptor, info *asynq.TaskInfo) (string, error) {
	if e == nil || info == nil {
		return "", errors.New("asynqjobs: OpenFailure: nil argument")
	}
	return openFailure(ctx, e, info.Type, place{queue: info.Queue, id: info.ID}, info.LastErr)
}
