package asynqjobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// aggregator opens the members of a group, passes them to the application's aggregator, and seals the task that it returns.
//
// asynq passes neither the members' queue nor their ids. Each member claims both (see identity.go), and opens only if the
// claim is true. Two members that claim one id are copies. The resulting task is bound to the queue that its members were
// sealed for. If an attacker has moved the group to another queue, the handler there refuses the task.
type aggregator struct {
	e      *jobs.Encryptor
	next   asynq.GroupAggregator
	cfg    *config
	tel    *instruments
	sealer *sealer
	queues []string // of the server
}

const (
	// groupOpening bounds the opening of a group, and groupSealing the work after it. Two minutes after it began, asynq
	// puts the members of a group back.
	groupOpening = 30 * time.Second
	groupSealing = 60 * time.Second
)

// Aggregate returns nil if the group cannot be opened now. asynq then logs that it could not enqueue the task, and puts the
// members back. This happens in an outage, which ends. An attacker who can write to Redis can plant members under unknown keys,
// or more members than can be opened. Such members are set aside, and the others run.
func (a *aggregator) Aggregate(group string, tasks []*asynq.Task) *asynq.Task {
	members := a.openAll(group, tasks)
	t := a.aggregate(group, members)
	if t == nil {
		a.wake(group, members)
	}
	return t
}

func (a *aggregator) aggregate(group string, members []groupMember) *asynq.Task {
	ctx, cancel := context.WithTimeout(context.Background(), groupSealing)
	defer cancel()
	all := members
	if members = slices.DeleteFunc(slices.Clone(all), groupMember.wakes); len(members) == 0 {
		return a.seal(ctx, a.agree(all), asynq.NewTask(asynqwire.GroupWakeType, nil))
	}
	if m, r := unanswered(members); r != nil {
		a.tel.retried(ctx, m.claim, r.Reason)
		return nil
	}
	queue := a.agree(members)
	var readable []*asynq.Task
	var refused []groupMember
	sealed := false
	for _, m := range members {
		switch {
		case m.err != nil:
			a.tel.refused(ctx, m.claim, refusal(m.err).Reason)
			refused = append(refused, m)
			continue
		case m.opened.plaintext:
			a.tel.plaintext(ctx, m.claim)
		default:
			a.tel.sealed(ctx)
			sealed = true
		}
		readable = append(readable, m.opened.task)
	}
	var t *asynq.Task
	if len(readable) > 0 {
		if t = a.next.Aggregate(group, readable); t == nil {
			return nil
		}
	}
	first, err := a.enqueueAlone(ctx, queue, refused, t == nil)
	if err != nil {
		a.tel.log.ErrorContext(ctx, "sealcache: tasks that do not open could not be enqueued outside their group, so all tasks are put back into the group", "queue", queue, "error", err)
		return nil // the group is put back; members that were enqueued already keep their ids
	}
	if t == nil {
		return first
	}
	if !sealed && a.cfg.writesPlaintext() {
		return a.plaintext(ctx, queue, t)
	}
	return a.seal(ctx, queue, t)
}

// unanswered returns a member whose key service did not answer, if it answered for no member of the group: that is
// an outage. If it answered for some members, an attacker may have planted the others, and the group must not wait
// for them.
func unanswered(members []groupMember) (groupMember, *Refusal) {
	var waiting groupMember
	var why *Refusal
	for _, m := range members {
		if m.err == nil {
			if !m.opened.plaintext {
				return groupMember{}, nil
			}
			continue
		}
		r := refusal(m.err)
		switch {
		case r.unanswered() || r.Reason == ReasonOther: // the time limit for opening has passed
			waiting, why = m, r
		case r.Reason == ReasonUnauthentic && !errors.Is(m.err, errClaim):
			return groupMember{}, nil
		}
	}
	return waiting, why
}

// seal seals the task that the application made of the readable members. If sealing fails, it returns nil, and
// asynq puts the members back.
func (a *aggregator) seal(ctx context.Context, queue string, t *asynq.Task) *asynq.Task {
	var forced []asynq.Option
	if queue != "" {
		forced = append(forced, asynq.Queue(queue)) // asynq ignores the task's own
	}
	sealed, opts, err := a.sealer.seal(ctx, t, forced, frame{}, queue == "")
	if err != nil {
		a.logSealingFailed(ctx, queue, err)
		return nil
	}
	return asynq.NewTaskWithHeaders(sealed.Type(), sealed.Payload(), sealed.Headers(), opts...)
}

// plaintext returns the task that the application made of plaintext members, while plaintext is written.
func (a *aggregator) plaintext(ctx context.Context, queue string, t *asynq.Task) *asynq.Task {
	if _, _, err := checkTask(t, nil); err != nil {
		a.logSealingFailed(ctx, queue, err)
		return nil
	}
	return t
}

// logSealingFailed logs that an aggregated task cannot be enqueued.
func (a *aggregator) logSealingFailed(ctx context.Context, queue string, err error) {
	if errors.Is(err, jobs.ErrTooLarge) {
		a.tel.log.ErrorContext(ctx, "sealcache: the aggregated task is too large, so its tasks are put back into their group (set a smaller GroupMaxSize)",
			"queue", queue, "error", err)
		return
	}
	a.tel.log.ErrorContext(ctx, "sealcache: the aggregated task could not be sealed, so its tasks are put back into their group", "queue", queue, "error", err)
}

// open opens one member, which must have been enqueued into this group.
func (a *aggregator) open(ctx context.Context, group string, t *asynq.Task) (identity, *opened, error) {
	claim, err := claimOf(t.Payload(), t.Headers())
	if errors.Is(err, jobs.ErrNotSealed) && a.cfg.tolerant() {
		return identity{}, &opened{task: plaintextTask(t.Type(), t.Payload(), t.Headers()), plaintext: true}, nil
	}
	if err != nil {
		return identity{}, nil, err
	}
	if err = ctx.Err(); err != nil {
		return claim, nil, err // not every AEAD looks at ctx
	}
	o, err := openTask(ctx, a.e, t.Type(), t.Payload(), t.Headers(), identity{}, true)
	if err == nil && (claim.group != group || o.held != nil) {
		err = fmt.Errorf("%w: the task was sealed for another group (asynq.Group)", jobs.ErrUnauthentic)
	}
	return claim, o, err
}

// agree finds the queue of the group, and refuses members that were not enqueued there and copies. It returns the server's only
// queue, or else the queue that most members claim, or "" if all members are plaintext.
func (a *aggregator) agree(members []groupMember) string {
	queue := ""
	if len(a.queues) == 1 {
		queue = a.queues[0]
	} else {
		votes := map[string]int{}
		for _, m := range members {
			if m.err == nil && !m.opened.plaintext {
				if votes[m.claim.queue]++; queue == "" || votes[m.claim.queue] > votes[queue] {
					queue = m.claim.queue
				}
			}
		}
	}
	seen := map[string]bool{}
	for i, m := range members {
		if m.err != nil || m.opened.plaintext {
			continue
		}
		if m.claim.queue != queue || seen[m.claim.id] {
			members[i].err = fmt.Errorf("%w: the task was sealed for another queue, or is a copy of a task in the same group", jobs.ErrUnauthentic)
			continue
		}
		seen[m.claim.id] = true
	}
	return queue
}
