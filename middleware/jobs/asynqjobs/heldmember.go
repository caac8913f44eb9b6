package asynqjobs

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/internal/sleep"
	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// mayOpen reports whether a refused member may open later: its key is missing, or the key service did not answer. The
// member may be honest, and the key may be added or enabled again.
func (m *groupMember) mayOpen() bool {
	r := refusal(m.err)
	return !r.definite() || r.Reason == ReasonKeyRemoved
}

func (m *groupMember) member() *member {
	return &member{typename: m.found.Type(), payload: m.found.Payload(), headers: m.found.Headers()}
}

// enqueueAlone enqueues refused members, each as a separate task. If returnFirst, it returns the first of them
// instead, for asynq to enqueue: asynq wants a task of every group. The id of each task follows from its bytes, so
// that no further tasks arise if the group is put back and aggregated again.
func (a *aggregator) enqueueAlone(ctx context.Context, queue string, members []groupMember, returnFirst bool) (first *asynq.Task, err error) {
	if returnFirst && len(members) > 0 {
		t, opts, err := a.alone(ctx, queue, &members[0], "")
		if err != nil {
			return nil, err
		}
		first = asynq.NewTaskWithHeaders(t.Type(), t.Payload(), t.Headers(), opts...)
		members = members[1:]
	}
	copies := map[string]int{}
	var conflicts []func() error
	for i := range members {
		m := &members[i]
		t, opts, err := a.alone(ctx, a.queueOf(m, queue), m, aloneID(m, copies))
		if err != nil {
			return nil, err
		}
		enqueue := func() error {
			_, err := a.cfg.group.EnqueueContext(ctx, t, opts...)
			return redisError(err)
		}
		switch err = enqueue(); {
		case errors.Is(err, asynq.ErrTaskIDConflict):
			if m.mayOpen() {
				conflicts = append(conflicts, enqueue)
			}
		case err != nil:
			return nil, err
		}
	}
	return first, enqueueAgain(ctx, conflicts)
}

// queueOf returns the queue for a refused member. If no member has shown the queue of the group, any queue of this server is
// right: its handler refuses the task.
func (a *aggregator) queueOf(m *groupMember, queue string) string {
	switch {
	case queue != "":
		return queue
	case slices.Contains(a.queues, m.claim.queue):
		return m.claim.queue
	default:
		return a.queues[0]
	}
}

// aloneID returns the id of a refused member's task. copies counts members with equal bytes.
func aloneID(m *groupMember, copies map[string]int) string {
	sum := digest(m.member())
	copies[sum]++
	id := "refused-" + sum
	if n := copies[sum]; n > 1 {
		id += "-" + strconv.Itoa(n)
	}
	return id
}

// digest returns a hash of all parts of a member.
func digest(m *member) string {
	f := frame{held: m}
	sum := sha256.Sum256(f.append(make([]byte, 0, f.size())))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// conflictPause is longer than asynq takes to delete a task that has run.
const conflictPause = time.Second

// enqueueAgain enqueues, after a pause, tasks whose ids were taken. An id may have been that of a task that has just put this
// member back into its group, and is about to be deleted. Without another try the member would be lost.
func enqueueAgain(ctx context.Context, conflicts []func() error) error {
	if len(conflicts) == 0 {
		return nil
	}
	if err := sleep.For(ctx, conflictPause); err != nil {
		return fmt.Errorf("asynqjobs: cannot wait to enqueue a task whose new id is taken (it stays in its group): %w", err)
	}
	for _, enqueue := range conflicts {
		if err := enqueue(); err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
			return err
		}
	}
	return nil
}

// alone returns a refused member as a separate task. A member that may open later is held: it is sealed into a
// separate task. The task is tried until the member opens, and then puts the member back into its group. See
// release. Other members stay as they were found: a sealed one cannot run, because it is bound to its old id.
func (a *aggregator) alone(ctx context.Context, queue string, m *groupMember, id string) (*asynq.Task, []asynq.Option, error) {
	var opts []asynq.Option
	if queue != "" {
		opts = append(opts, asynq.Queue(queue))
	}
	if id != "" {
		opts = append(opts, asynq.TaskID(id))
	}
	if m.mayOpen() && m.claim.group != "" {
		t, all, err := a.sealer.seal(ctx, asynq.NewTask(asynqwire.HeldMemberType, nil), opts, frame{held: m.member()}, queue == "")
		if !errors.Is(err, jobs.ErrTooLarge) {
			return t, all, err
		}
	}
	if r := refusal(m.err); r.Reason != ReasonRewritten {
		opts = append(opts, asynq.MaxRetry(0))
	}
	return asynq.NewTaskWithHeaders(m.found.Type(), m.found.Payload(), m.found.Headers()), opts, nil
}

// release enqueues a held member as it was found, into the group and with the id that it claims. It does so only if the member
// opens now and claims this queue.
func release(ctx context.Context, e *jobs.Encryptor, c *asynq.Client, queue string, m member) error {
	if _, err := openTask(ctx, e, m.typename, m.payload, m.headers, identity{}, true); err != nil {
		return err
	}
	claim, err := claimOf(m.payload, m.headers)
	if err != nil {
		return err
	}
	switch {
	case claim.queue != queue:
		return fmt.Errorf("%w: cannot put the task back into its group: it was sealed for another queue", jobs.ErrUnauthentic)
	case claim.group == "":
		return fmt.Errorf("%w: the task waits in a group, but was sealed without a group (asynq.Group)", jobs.ErrUnauthentic)
	}
	t := asynq.NewTaskWithHeaders(m.typename, m.payload, m.headers)
	_, err = c.EnqueueContext(ctx, t, asynq.Queue(claim.queue), asynq.Group(claim.group), asynq.TaskID(claim.id))
	return redisError(err)
}
