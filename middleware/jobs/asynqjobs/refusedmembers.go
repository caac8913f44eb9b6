package asynqjobs

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/hibiken/asynq"
)

// maxCarriedBytes bounds what a task carries of refused members: it is read again
// at each of the task's tries.
const maxCarriedBytes = 32 << 20

// room is how many bytes of refused members fit into the task that t becomes.
func (a *aggregator) room(t *asynq.Task) int {
	f := frame{name: t.Type(), headers: t.Headers(), payload: t.Payload()}
	return min(maxCarriedBytes, a.e.MaxPayloadBytes()-f.size())
}

// carried picks the members that fit into room bytes, the others are rest. Sealed
// ones whose key is missing come first: they may be honest, and the key may come
// back. Of the same sort small ones come first, so that one large one does not
// displace a hundred.
func carried(refused []groupMember, room int) (carry []member, rest []groupMember) {
	rank := func(m groupMember) int {
		switch refusal(m.err).Reason {
		case ReasonKeyRemoved, ReasonUnknownKey:
			return 0
		default:
			return 1
		}
	}
	sorted := slices.Clone(refused)
	slices.SortStableFunc(sorted, func(a, b groupMember) int {
		if c := rank(a) - rank(b); c != 0 {
			return c
		}
		return len(a.found.Payload()) - len(b.found.Payload())
	})
	for _, m := range sorted {
		kept := member{typename: m.found.Type(), payload: m.found.Payload(), headers: m.found.Headers()}
		if n := kept.size() + lengthSize; n <= room {
			room -= n
			carry = append(carry, kept)
		} else {
			rest = append(rest, m)
		}
	}
	return carry, rest
}

// enqueueAlone enqueues members as they were found, each as a task of its own. A
// sealed one cannot run: it is bound to its old id. The id it gets follows from its
// bytes, so that a group that is put back and comes again adds none.
func (a *aggregator) enqueueAlone(ctx context.Context, queue string, members []groupMember) error {
	for _, m := range members {
		q := queue
		if q == "" {
			// Nothing opened that says where this is. Any queue of this server will do:
			// its handler refuses the task.
			if q = a.queues[0]; slices.Contains(a.queues, m.place.queue) {
				q = m.place.queue
			}
		}
		t := asynq.NewTaskWithHeaders(m.found.Type(), m.found.Payload(), m.found.Headers())
		_, err := a.cfg.group.EnqueueContext(ctx, t, asynq.Queue(q), asynq.MaxRetry(0), asynq.TaskID(memberID(m.found)))
		if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
			return fmt.Errorf("asynqjobs: %w", err)
		}
	}
	return nil
}

// memberID is the id of a refused member that stands alone.
func memberID(t *asynq.Task) string {
	m := member{typename: t.Type(), payload: t.Payload(), headers: t.Headers()}
	f := frame{nothing: true, refused: []member{m}}
	sum := sha256.Sum256(f.append(make([]byte, 0, f.size())))
	return "refused-" + base64.RawURLEncoding.EncodeToString(sum[:])
}
