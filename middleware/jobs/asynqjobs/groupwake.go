package asynqjobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
)

// asynq 0.26 takes a group off its list of groups when it begins to aggregate it. If it puts the members back, up to three
// minutes later, it does not list the group again. So they would wait until the application adds a member. wake adds one.

const (
	// wakeDelay is longer than wakeEvery and the time after which asynq puts members back.
	wakeDelay = 5 * time.Minute
	// wakeEvery bounds the tasks of wake: one for each group in this time.
	wakeEvery = time.Minute
	// wakeTimeout bounds wake.
	wakeTimeout = 10 * time.Second
)

// wake enqueues a task that holds an empty member of the group. When the task runs, release adds the member to the group.
func (a *aggregator) wake(group string, members []groupMember) {
	ctx, cancel := context.WithTimeout(context.Background(), wakeTimeout)
	defer cancel()
	var queues []string
	for i := range members {
		if queue := a.queueOf(&members[i], ""); !slices.Contains(queues, queue) {
			queues = append(queues, queue)
		}
	}
	for _, queue := range queues {
		err := a.wakeIn(ctx, queue, group)
		if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
			a.tel.log.ErrorContext(ctx, "sealcache: tasks are put back into a group, but stay there until the next task of the group is enqueued", "queue", queue, "error", err)
		}
	}
}

func (a *aggregator) wakeIn(ctx context.Context, queue, group string) error {
	empty := asynq.NewTask(asynqwire.GroupWakeType, nil)
	t, _, err := a.sealer.seal(ctx, empty, []asynq.Option{asynq.Queue(queue), asynq.Group(group)}, frame{}, false)
	if err != nil {
		return err
	}
	now := a.cfg.now()
	id := fmt.Sprintf("wake-%s-%d", digest(&member{typename: group}), now.Unix()/int64(wakeEvery/time.Second))
	m := &member{typename: t.Type(), payload: t.Payload(), headers: t.Headers()}
	t, opts, err := a.sealer.seal(ctx, asynq.NewTask(asynqwire.HeldMemberType, nil),
		[]asynq.Option{asynq.Queue(queue), asynq.TaskID(id), asynq.ProcessAt(now.Add(wakeDelay))}, frame{held: m}, false)
	if err == nil {
		_, err = a.cfg.group.EnqueueContext(ctx, t, opts...)
	}
	return redisError(err)
}

// wakes reports whether the member only wakes its group.
func (m groupMember) wakes() bool { return m.err == nil && m.opened.wakes() }

// wakes reports whether there is nothing to run.
func (o *opened) wakes() bool { return o.task.Type() == asynqwire.GroupWakeType && !o.plaintext }
