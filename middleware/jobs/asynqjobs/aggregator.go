package asynqjobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/jobs"
)

// aggregator opens the members of a group, has the application make one task of
// them, and seals that.
//
// asynq tells it neither the members' queue nor their ids. The members claim both
// in what they carry, and open only if they were enqueued there; two that claim one
// id are copies of one. The task that comes out is bound to the queue that the
// members name, so that a handler on another queue, to which somebody moved them,
// refuses it.
type aggregator struct {
	e        *jobs.Encryptor
	next     asynq.GroupAggregator
	cfg      *config
	tel      *telemetry
	sealer   *sealer
	patience *patience
	queue    string   // of a server that has only one, else empty
	queues   []string // all of the server's
}

const (
	// groupOpening bounds the opening of a whole group, and groupSealing what comes
	// after it; asynq takes a set back two minutes after it began.
	groupOpening = 30 * time.Second
	groupSealing = 60 * time.Second
	// carrierType is the type of a task that holds nothing but refused members.
	carrierType = "sealcache:refused"
)

// Aggregate returns nil if the group cannot be opened now: asynq then logs that it
// could not enqueue the task, and puts the members back. An outage does that, for it
// ends, and for a time a member that may open later. Whatever somebody can bring
// about who writes to Redis, an unknown key or more members than can be opened, must
// not stop the group: in the end such members are refused, and the rest runs.
func (a *aggregator) Aggregate(group string, tasks []*asynq.Task) *asynq.Task {
	members := a.openAll(group, tasks)
	ctx, cancel := context.WithTimeout(context.Background(), groupSealing)
	defer cancel()
	if m, wait := a.wait(group, members); wait {
		a.tel.retried(ctx, m.place, refusal(m.err).Reason)
		return nil
	}
	queue := a.agree(members)
	var clear []*asynq.Task
	var refused []groupMember
	for _, m := range members {
		switch {
		case m.err != nil:
			a.tel.refused(ctx, m.place, refusal(m.err).Reason)
			refused = append(refused, m)
		case m.opened.clear:
			a.tel.clear(ctx, m.place)
			clear = append(clear, m.opened.task)
		default:
			a.tel.sealed(ctx)
			clear = append(clear, m.opened.task)
		}
	}
	var t *asynq.Task
	switch {
	case len(clear) > 0:
		if t = a.next.Aggregate(group, clear); t == nil {
			return nil
		}
	case len(refused) > 0:
		t = asynq.NewTask(carrierType, nil)
	default:
		return nil
	}
	return a.seal(ctx, queue, t, frame{nothing: len(clear) == 0}, refused)
}

// wait tells whether to put the group back, and because of which member. If nothing
// was answered that is an outage, and it ends. If it was, what might open later may
// also be what somebody planted who writes to Redis: then there is an end to waiting.
// With a client for them such members wait by themselves.
func (a *aggregator) wait(group string, members []groupMember) (groupMember, bool) {
	var open *groupMember
	answered, out := false, false
	for i := range members {
		switch m := &members[i]; {
		case m.err == nil:
			answered = answered || !m.opened.clear
		case !refusal(m.err).definite():
			open = m
			out = out || !errors.Is(m.err, jobs.ErrUnknownKey)
		default:
			answered = answered || errors.Is(m.err, jobs.ErrUnauthentic) && !errors.Is(m.err, errClaim)
		}
	}
	switch {
	case open == nil:
		a.patience.restore(group)
		return groupMember{}, false
	case out && !answered:
		return *open, true
	case a.cfg.group != nil:
		return groupMember{}, false
	default:
		return *open, a.patience.has(group)
	}
}

// seal seals what the application made of the members in clear, and sees to those
// that were refused.
func (a *aggregator) seal(ctx context.Context, queue string, t *asynq.Task, extra frame, refused []groupMember) *asynq.Task {
	var forced []asynq.Option
	if queue != "" {
		forced = append(forced, asynq.Queue(queue)) // asynq ignores the task's own
	}
	switch {
	case len(refused) == 0:
	case a.cfg.group == nil:
		var rest []groupMember
		if extra.refused, rest = carried(refused, a.room(t)); len(rest) > 0 {
			extra.lost = uint32(len(rest))
			a.tel.lost(ctx, queue, len(rest))
		}
	default:
		// Each alone, and nothing of them in the good task. Where there is none, asynq is
		// given the first of them, for it wants a task.
		first, err := a.enqueueAlone(ctx, queue, refused, extra.nothing)
		if err != nil {
			a.tel.log.ErrorContext(ctx, "sealcache: refused members of a group could not be enqueued", "queue", queue, "error", err)
			return nil // put back; what was enqueued already has an id
		}
		if extra.nothing {
			return first
		}
	}
	sealed, opts, err := a.sealer.seal(ctx, t, forced, extra, queue == "")
	if err != nil {
		if errors.Is(err, jobs.ErrTooLarge) {
			a.tel.log.ErrorContext(ctx, "sealcache: aggregated task is too large to be sealed, and so again when its members come back: set asynq.Config.GroupMaxSize", "queue", queue, "error", err)
		} else {
			a.tel.log.ErrorContext(ctx, "sealcache: aggregated task could not be sealed", "queue", queue, "error", err)
		}
		return nil
	}
	return asynq.NewTaskWithHeaders(sealed.Type(), sealed.Payload(), sealed.Headers(), opts...)
}

type groupMember struct {
	found  *asynq.Task
	place  place // as claimed
	opened *opened
	err    error
}

// open opens one member, which must have been enqueued into this group.
func (a *aggregator) open(ctx context.Context, group string, t *asynq.Task) (place, *opened, error) {
	claim, err := claimed(t.Payload(), t.Headers())
	if errors.Is(err, jobs.ErrNotSealed) && a.cfg.tolerant() {
		return place{}, &opened{task: asynq.NewTaskWithHeaders(t.Type(), t.Payload(), t.Headers()), clear: true}, nil
	}
	if err != nil {
		return place{}, nil, err
	}
	if err = ctx.Err(); err != nil {
		return claim, nil, err // not every AEAD looks
	}
	o, err := openTask(ctx, a.e, t.Type(), t.Payload(), t.Headers(), place{}, true)
	if err == nil && claim.group != group {
		err = fmt.Errorf("%w: enqueued into another group", jobs.ErrUnauthentic)
	}
	return claim, o, err
}

// agree finds the queue of the group and refuses members that were not enqueued
// there, or twice. It returns the server's queue if it has only one, else that
// which most members name, else nothing: they are all in clear.
func (a *aggregator) agree(members []groupMember) string {
	queue := a.queue
	if queue == "" {
		votes := map[string]int{}
		for _, m := range members {
			if m.err == nil && !m.opened.clear {
				if votes[m.place.queue]++; queue == "" || votes[m.place.queue] > votes[queue] {
					queue = m.place.queue
				}
			}
		}
	}
	seen := map[string]bool{}
	for i, m := range members {
		if m.err != nil || m.opened.clear {
			continue
		}
		if m.place.queue != queue || seen[m.place.id] {
			members[i].err = fmt.Errorf("%w: moved from another queue, or copied", jobs.ErrUnauthentic)
			continue
		}
		seen[m.place.id] = true
	}
	return queue
}
