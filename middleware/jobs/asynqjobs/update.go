package asynqjobs

import (
	"context"
	"errors"

	"github.com/hibiken/asynq"
)

// UpdateTaskPayload gives a scheduled task another payload, sealed: what the
// Inspector's method of the same name does in clear, and so destroys a sealed task.
// Type, headers, queue, id and group stay as they are.
//
// The task must open first, with the errors of jobs.Encryptor.Open if it does not:
// jobs.ErrNotSealed of one in clear. A unique task is refused, because its payload is
// what keeps it unique; delete it and enqueue another. Errors of i are as asynq has
// them; a task that is not scheduled is one. As with asynq, another who changes the
// same task at the same time may be the last.
func (c *Client) UpdateTaskPayload(ctx context.Context, i *asynq.Inspector, queue, id string, payload []byte) error {
	if i == nil {
		return errors.New("asynqjobs: UpdateTaskPayload: nil inspector")
	}
	info, err := i.GetTaskInfo(queue, id)
	if err != nil {
		return err
	}
	o, err := openInfo(ctx, c.e, info)
	if err != nil {
		return err
	}
	whole, unique, err := wholePayload(info.Payload, info.Headers)
	if err != nil {
		return err
	}
	if unique {
		return errors.New("asynqjobs: UpdateTaskPayload: a unique task cannot have another payload")
	}
	if o.nothing || o.lost > 0 || len(o.refused) > 0 {
		return errors.New("asynqjobs: UpdateTaskPayload: the task holds members of a group that were refused")
	}
	_, p, err := cutClaim(whole)
	if err != nil {
		return err
	}
	f := frame{headers: o.task.Headers(), payload: payload}
	if o.task.Type() != info.Type {
		f.name = o.task.Type()
	}
	p.framed = !f.bare()
	sealed, err := c.sealer.sealAt(ctx, info.Type, p, &f)
	if err != nil {
		return err
	}
	return i.UpdateTaskPayload(queue, id, sealed)
}
