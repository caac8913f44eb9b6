package asynqjobs

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/jobs"
)

// A place is where a task is: what its payload is bound to beside its type.
type place struct {
	queue string // empty: not bound (an aggregator was not told)
	id    string
	group string // empty: in no group
}

// boundID is the id that the payload of a task at p is bound to. A member of a
// group is bound to the group, too: its id is one that no other task can have.
func (p place) boundID() string {
	if p.group == "" {
		return p.id
	}
	return reservedID + netstring(p.group) + p.id
}

// reservedID starts what boundID makes for members of groups. Ids of tasks must
// not start so.
const reservedID = "\x00group"

// placeOf is where asynq says that the task of a handler's context is.
func placeOf(ctx context.Context) (place, bool) {
	id, ok1 := asynq.GetTaskID(ctx)
	queue, ok2 := asynq.GetQueueName(ctx)
	return place{queue: queue, id: id}, ok1 && ok2 && id != "" && queue != ""
}

// The headers of a sealed task. asynq tells its aggregator and the RetryDelayFunc
// neither queue nor id, so the task carries them: what is claimed there is what
// the payload was bound to, or it does not open. Where asynq does tell, the claim
// is not believed.
const (
	claimHeader   = "sealcache"         // netstrings: queue, id and, in a group, group
	payloadHeader = "sealcache-payload" // base64 of the sealed payload of a unique task
)

func (p place) claim() string {
	s := netstring(p.queue) + netstring(p.id)
	if p.group != "" {
		s += netstring(p.group)
	}
	return s
}

// claimed reads the place that a task's headers claim, and tells whether they do.
func claimed(headers map[string]string) (place, bool, error) {
	s, ok := headers[claimHeader]
	if !ok {
		return place{}, false, nil
	}
	var p place
	var ok1, ok2, ok3 bool
	p.queue, s, ok1 = cutNetstring(s)
	p.id, s, ok2 = cutNetstring(s)
	if ok3 = true; s != "" {
		p.group, s, ok3 = cutNetstring(s)
		ok3 = ok3 && p.group != ""
	}
	if !ok1 || !ok2 || !ok3 || s != "" || p.id == "" {
		return place{}, true, fmt.Errorf("%w: header %q of a task", jobs.ErrUnsupportedFormat, claimHeader)
	}
	return p, true, nil
}

func netstring(s string) string { return strconv.Itoa(len(s)) + ":" + s }

func cutNetstring(s string) (first, rest string, ok bool) {
	length, rest, ok := strings.Cut(s, ":")
	n, err := strconv.Atoi(length)
	if !ok || err != nil || n < 0 || n > len(rest) || strconv.Itoa(n) != length {
		return "", "", false
	}
	return rest[:n], rest[n:], true
}
