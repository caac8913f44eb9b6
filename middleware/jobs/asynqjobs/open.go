package asynqjobs

import (
	"context"
	"crypto/subtle"
	"fmt"
	"maps"
	"strings"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/internal/wire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// opened is a task as its sender made it.
type opened struct {
	task      *asynq.Task // without options and ResultWriter
	plaintext bool        // it was never sealed
	held      *member     // nothing is run, and this member is put back into its group
	trace     map[string]string
	tick      *Tick // the task is a tick
}

// plaintextTask returns a plaintext task without a ResultWriter, which would write results as plaintext, and without headers
// that only sealed tasks have.
func plaintextTask(typename string, payload []byte, headers map[string]string) *asynq.Task {
	headers = maps.Clone(headers)
	maps.DeleteFunc(headers, func(name, _ string) bool { return strings.HasPrefix(name, asynqwire.ReservedHeaders) })
	return asynq.NewTaskWithHeaders(typename, payload, headers)
}

// openTask opens the task that Redis holds with this type, payload and headers at at. If trustClaim, queue, id and group come
// from the task's claim instead. A plaintext task is jobs.ErrNotSealed.
func openTask(ctx context.Context, e *jobs.Encryptor, typename string, payload []byte, headers map[string]string, at identity, trustClaim bool) (*opened, error) {
	// Only the second of these steps is on the stack while AES works. Each job has a separate goroutine, whose stack
	// is copied whenever it grows.
	l, err := locate(payload, headers, at, trustClaim)
	if err != nil {
		return nil, err
	}
	b, err := e.Open(ctx, jobs.Meta{Type: typename, Queue: l.at.queue, ID: l.at.boundID()}, l.sealed)
	if err != nil {
		return nil, err
	}
	return unpack(typename, payload, &l, b)
}

// located is the sealed value of a task, and its binding.
type located struct {
	sealed []byte
	at     identity
	tagged bool // the stored payload is a tag
	moved  bool // the task claims another queue or id
}

// locate finds the sealed value of the task at at.
//
//go:noinline
func locate(payload []byte, headers map[string]string, at identity, trustClaim bool) (located, error) {
	whole, tagged, err := asynqwire.SealedPayload(payload, headers)
	if err != nil {
		return located{}, err
	}
	if !trustClaim {
		if strings.HasPrefix(at.id, reservedID) {
			return located{}, fmt.Errorf("%w: the id of the task starts with a zero byte, and asynqjobs enqueues no such task", jobs.ErrUnauthentic)
		}
		if sealed, own := at.cutOwnClaim(whole); sealed != nil {
			return located{sealed: sealed, at: own, tagged: tagged}, nil
		}
	}
	sealed, claim, err := cutClaim(whole)
	if err != nil {
		return located{}, err
	}
	bound := claim
	if !trustClaim {
		// asynq does not pass three facts to a handler, so they come from the claim. They are the group of a task
		// that runs alone, whether there is a frame, and whether the task was sealed for no queue. See aggregator.
		// The value opens only if they are true.
		if bound.id = at.id; claim.queue != "" {
			bound.queue = at.queue
		}
	}
	return located{sealed: sealed, at: bound, tagged: tagged, moved: claim != bound}, nil
}

// unpack makes a task of the opened bytes.
//
//go:noinline
func unpack(typename string, payload []byte, l *located, b []byte) (_ *opened, err error) {
	if l.moved {
		return nil, fmt.Errorf("%w: the task was sealed for another queue or id", jobs.ErrUnauthentic)
	}
	f := &frame{payload: b}
	if l.at.framed {
		if f, err = parseFrame(b); err != nil {
			return nil, err
		}
	} else if len(b) == 0 {
		f.payload = nil // as asynq hands over an empty payload
	}
	if f.name != "" {
		typename = f.name
	}
	switch {
	case f.unique && !l.tagged:
		return nil, fmt.Errorf("%w: a task sealed with asynq.Unique is stored as one without it (delete it, and enqueue the job again)", jobs.ErrUnauthentic)
	case l.tagged && !f.unique:
		return nil, fmt.Errorf("%w: a task sealed without asynq.Unique is stored as one with it (delete it, and enqueue the job again)", jobs.ErrUnauthentic)
	}
	// The tag is compared with the sealed one and not computed again, so that workers need no PRF keys.
	if l.tagged && subtle.ConstantTimeCompare(payload[len(payload)-wire.TagSize:], f.tag[:]) != 1 {
		return nil, fmt.Errorf("%w: the payload was sealed for another unique task (asynq.Unique)", jobs.ErrUnauthentic)
	}
	return &opened{task: asynq.NewTaskWithHeaders(typename, f.payload, f.headers), held: f.held, trace: f.trace, tick: f.tick}, nil
}

// OpenTask returns the task that info describes as its sender made it: with its real type name, payload and headers. Errors
// are those of jobs.Encryptor.Open. It is for tools; handlers get their tasks opened. Job.Args also decodes the arguments.
func OpenTask(ctx context.Context, e *jobs.Encryptor, info *asynq.TaskInfo) (*asynq.Task, error) {
	if err := checkGiven("OpenTask", e, info); err != nil {
		return nil, err
	}
	o, err := openInfo(ctx, e, info)
	if err != nil {
		return nil, err
	}
	return o.task, nil
}

// checkGiven returns an error if an argument of a function is nil.
func checkGiven(function string, e *jobs.Encryptor, info *asynq.TaskInfo) error {
	switch {
	case e == nil:
		return fmt.Errorf("asynqjobs: %s: the encryptor is nil (make one with jobs.NewEncryptor)", function)
	case info == nil:
		return fmt.Errorf("asynqjobs: %s: the task info is nil", function)
	default:
		return nil
	}
}

func openInfo(ctx context.Context, e *jobs.Encryptor, info *asynq.TaskInfo) (*opened, error) {
	o, err := openTask(ctx, e, info.Type, info.Payload, info.Headers, identity{queue: info.Queue, id: info.ID}, false)
	if err != nil {
		return nil, within("open the task", err)
	}
	if info.Group != "" {
		if claim, _ := claimOf(info.Payload, info.Headers); claim.group != info.Group {
			return nil, fmt.Errorf("asynqjobs: open the task: %w: the task was sealed for another group (asynq.Group)", jobs.ErrUnauthentic)
		}
	}
	return o, nil
}

// OpenResult returns the result that the handler of the task gave to WriteResult, or nil if there is none yet. info comes from
// an asynq.Inspector. Errors are those of jobs.Encryptor.Open.
func OpenResult(ctx context.Context, e *jobs.Encryptor, info *asynq.TaskInfo) ([]byte, error) {
	if err := checkGiven("OpenResult", e, info); err != nil {
		return nil, err
	}
	if len(info.Result) == 0 {
		return nil, nil
	}
	b, err := e.Open(ctx, jobs.Meta{Kind: jobs.Result, Type: info.Type, Queue: info.Queue, ID: info.ID}, info.Result)
	if err != nil {
		return nil, within("open the result of the task", err)
	}
	return b, nil
}

// OpenFailure returns the text of the last error or panic of the task that info describes. Plaintext is returned as it is.
// It may be a text of asynq or of this package (a lost lease, a timeout, a Refusal). It may also be planted by an attacker
// with write access to Redis.
func OpenFailure(ctx context.Context, e *jobs.Encryptor, info *asynq.TaskInfo) (string, error) {
	if err := checkGiven("OpenFailure", e, info); err != nil {
		return "", err
	}
	return openFailure(ctx, e, info.Type, identity{queue: info.Queue, id: info.ID}, info.LastErr)
}
