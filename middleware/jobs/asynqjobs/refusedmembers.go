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

	"github.com/sealcache/sealcache/middleware/jobs"
)

// maxCarriedBytes bounds what a task carries of refused members: it is read again
// at each of the task's tries.
const maxCarriedBytes = 32 << 20

// room is how many bytes of refused members fit into the task that t becomes.
func (a *aggregator) room(t *asynq.Task) int {
	f := frame{name: t.Type(), headers: t.Headers(), payload: t.Payload()}
	return min(maxCarriedBytes, a.e.MaxPayloadBytes()-f.size())
}

// mayOpen tells whether a member that was refused may open another time: its key is
// missing, or nobody could say. It may be honest, and the key may come back.
func (m *groupMember) mayOpen() bool {
	r := refusal(m.err)
	return !r.definite() || r.Reason == ReasonKeyRemoved
}

func (m *groupMember) kept() member {
	return member{typename: m.found.Type(), payload: m.found.Payload(), headers: m.found.Headers()}
}

// carried picks the members that fit into room bytes, the others are rest. Those
// that may open another time come first. Of the same sort small ones come first, so
// that one large one does not displace a hundred.
func carried(refused []groupMember, room int) (carry []member, rest []groupMember) {
	rank := func(m groupMember) int {
		if m.mayOpen() {
			return 0
		}
		return 1
	}
	sorted := slices.Clone(refused)
	slices.SortStableFunc(sorted, func(a, b groupMember) int {
		if c := rank(a) - rank(b); c != 0 {
			return c
		}
		x, y := a.kept(), b.kept() // headers have a size, too
		return x.size() - y.size()
	})
	for _, m := range sorted {
		kept := m.kept()
		if n := kept.size() + lengthSize; n <= room {
			room -= n
			carry = append(carry, kept)
		} else {
			rest = append(rest, m)
		}
	}
	return carry, rest
}

// enqueueAlone enqueues members, each as a task of its own, the first of them not if
// asynq is to do that, which is given it. The id that one gets follows from its bytes,
// so that a group that is put back and comes again adds none.
func (a *aggregator) enqueueAlone(ctx context.Context, queue string, members []groupMember, returned bool) (first *asynq.Task, err error) {
	copies := map[string]int{}
	var taken []func() error
	for i, m := range members {
		if i == 0 && returned {
			t, opts, err := a.alone(ctx, queue, m, "")
			if err != nil {
				return nil, err
			}
			first = asynq.NewTaskWithHeaders(t.Type(), t.Payload(), t.Headers(), opts...)
			continue
		}
		q := queue
		if q == "" {
			// Nothing opened that says where this is. Any queue of this server will do:
			// its handler refuses the task.
			if q = a.queues[0]; slices.Contains(a.queues, m.place.queue) {
				q = m.place.queue
			}
		}
		sum := digest(m.kept())
		copies[sum]++
		id := "refused-" + sum
		if n := copies[sum]; n > 1 {
			id += "-" + strconv.Itoa(n)
		}
		t, opts, err := a.alone(ctx, q, m, id)
		if err != nil {
			return nil, err
		}
		enqueue := func() error {
			_, err := a.cfg.group.EnqueueContext(ctx, t, opts...)
			return err
		}
		switch err = enqueue(); {
		case errors.Is(err, asynq.ErrTaskIDConflict):
			if m.mayOpen() {
				taken = append(taken, enqueue)
			}
		case err != nil:
			return nil, fmt.Errorf("asynqjobs: %w", err)
		}
	}
	return first, a.enqueueTaken(ctx, taken)
}

// takenPause is longer than asynq takes to delete a task that has run.
const takenPause = time.Second

// enqueueTaken tries again, after a pause, to enqueue what was found to be there. That
// may have been a task that had just put the member back into the group that is opened
// here: it is gone then, and the member would be kept nowhere.
func (a *aggregator) enqueueTaken(ctx context.Context, taken []func() error) error {
	if len(taken) == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("asynqjobs: %w", ctx.Err())
	case <-time.After(takenPause):
	}
	for _, enqueue := range taken {
		if err := enqueue(); err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
			return fmt.Errorf("asynqjobs: %w", err)
		}
	}
	return nil
}

// alone returns a member as a task of its own. One that may open another time is in
// the sealed payload of that task, which is tried until it does and then puts the
// member back into its group; see release. Others are as they were found: a sealed
// one cannot run, for it is bound to its old id.
func (a *aggregator) alone(ctx context.Context, queue string, m groupMember, id string) (*asynq.Task, []asynq.Option, error) {
	var opts []asynq.Option
	if queue != "" {
		opts = append(opts, asynq.Queue(queue))
	}
	if id != "" {
		opts = append(opts, asynq.TaskID(id))
	}
	if m.mayOpen() && m.place.group != "" {
		t, all, err := a.sealer.seal(ctx, asynq.NewTask(carrierType, nil), opts, frame{nothing: true, refused: []member{m.kept()}}, queue == "")
		if !errors.Is(err, jobs.ErrTooLarge) {
			return t, all, err
		}
	}
	return asynq.NewTaskWithHeaders(m.found.Type(), m.found.Payload(), m.found.Headers()), append(opts, asynq.MaxRetry(0)), nil
}

// digest is of all that a member is.
func digest(m member) string {
	f := frame{nothing: true, refused: []member{m}}
	sum := sha256.Sum256(f.append(make([]byte, 0, f.size())))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// release enqueues a member again that was refused, as it was found, into the group,
// and with the id, that it claims, if it opens now and the group is on the queue. The
// errors are those of opening and of enqueueing.
func release(ctx context.Context, e *jobs.Encryptor, c *asynq.Client, queue string, m member) error {
	if _, err := openTask(ctx, e, m.typename, m.payload, m.headers, place{}, true); err != nil {
		return err
	}
	claim, err := claimed(m.payload, m.headers)
	if err != nil {
		return err
	}
	if claim.queue != queue || claim.group == "" {
		return fmt.Errorf("%w: of another queue, or of no group", jobs.ErrUnauthentic)
	}
	t := asynq.NewTaskWithHeaders(m.typename, m.payload, m.headers)
	_, err = c.EnqueueContext(ctx, t, asynq.Queue(claim.queue), asynq.Group(claim.group), asynq.TaskID(claim.id))
	return err
}

// EnqueueRefused enqueues again those members of a group that were refused, are kept
// in the task that info describes (ReasonGroup), and open now: each as it was sealed,
// with its own id, into its own group. It tells how many, of which some may have been
// there already; the error joins what became of the others, so that it is nil if all
// are enqueued.
//
// It is for an operator to whom a key has come back. Delete the task afterwards if the
// others of the group have run: as with any job that is enqueued again, members that
// are enqueued twice run twice, unless they still wait. So does one that was refused
// because it was the copy of another.
func (c *Client) EnqueueRefused(ctx context.Context, info *asynq.TaskInfo) (int, error) {
	if info == nil {
		return 0, errors.New("asynqjobs: EnqueueRefused: nil task")
	}
	o, err := openInfo(ctx, c.e, info)
	if err != nil {
		return 0, err
	}
	n := 0
	var errs []error
	for i, m := range o.refused {
		if err := release(ctx, c.e, c.c, info.Queue, m); err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
			errs = append(errs, fmt.Errorf("asynqjobs: refused member %d: %w", i, err))
			continue
		}
		n++
	}
	return n, errors.Join(errs...)
}
