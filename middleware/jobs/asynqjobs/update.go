package asynqjobs

import (
	"context"
	"errors"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// UpdateTaskPayload gives a scheduled task another payload, sealed. asynq's Inspector has a method of the same name that writes
// plaintext, and so destroys a sealed task. Type, headers, queue, id and group stay as they are.
//
// The task must open first. The errors are those of jobs.Encryptor.Open, such as jobs.ErrNotSealed for a plaintext task,
// and those of the Inspector, which refuses tasks that are not scheduled. A payload that is sealed already is
// ErrAlreadySealed. A unique task is refused, because its payload keeps it unique: delete it and enqueue another. If two
// callers update one task at the same time, the last one counts, as with asynq.
func (c *Client) UpdateTaskPayload(ctx context.Context, i *asynq.Inspector, queue, id string, payload []byte) error {
	if i == nil {
		return errors.New("asynqjobs: UpdateTaskPayload: the inspector is nil")
	}
	if jobs.IsSealed(payload) {
		return ErrAlreadySealed
	}
	info, err := i.GetTaskInfo(queue, id)
	if err != nil {
		return redisError(err)
	}
	o, err := openInfo(ctx, c.e, info)
	if err != nil {
		return err
	}
	if o.held != nil {
		return errors.New("asynqjobs: UpdateTaskPayload: this task only stores a group's unopened task (delete this task, enqueue the job again)")
	}
	whole, unique, err := asynqwire.SealedPayload(info.Payload, info.Headers)
	if err != nil {
		return err
	}
	if unique {
		return errors.New("asynqjobs: UpdateTaskPayload: a unique task keeps its payload (delete it and enqueue another)")
	}
	_, at, err := cutClaim(whole)
	if err != nil {
		return err
	}
	f := frame{headers: o.task.Headers(), trace: o.trace, tick: o.tick, payload: payload}
	if o.task.Type() != info.Type {
		f.name = o.task.Type()
	}
	at.framed = !f.bare()
	sealed, err := c.sealer.sealAt(ctx, info.Type, at, &f)
	if err != nil {
		return err
	}
	return redisError(i.UpdateTaskPayload(queue, id, sealed))
}
