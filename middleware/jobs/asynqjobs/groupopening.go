package asynqjobs

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// groupParallel is how many members are opened at a time. A key service has its own bound; see package aead.
const groupParallel = 32

// groupMember is a member of a group that was opened, or did not open.
type groupMember struct {
	found  *asynq.Task
	claim  identity
	opened *opened
	err    error
}

// openAll opens as many members as the time allows. Members that are left have the error of a context that ended.
func (a *aggregator) openAll(group string, tasks []*asynq.Task) []groupMember {
	ctx, cancel := context.WithTimeout(context.Background(), a.cfg.opening)
	defer cancel()
	members := make([]groupMember, len(tasks))
	order := openingOrder(tasks)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(groupParallel, len(tasks)) {
		workers.Go(func() {
			for n := next.Add(1) - 1; n < int64(len(order)); n = next.Add(1) - 1 {
				m := &members[order[n]]
				m.found = tasks[order[n]]
				m.claim, m.opened, m.err = a.open(ctx, group, m.found)
			}
		})
	}
	workers.Wait()
	return members
}

// openingOrder returns the order in which members are opened. Members under the most common data keys come first: these keys
// belong to processes at work. A key service answers a limited number of questions, and garbage that names a new data key
// each time must not use them up.
func openingOrder(tasks []*asynq.Task) []int {
	keys := make([]string, len(tasks))
	shared := make(map[string]int)
	order := make([]int, len(tasks))
	for i, t := range tasks {
		order[i] = i
		keys[i] = wrappedKey(t)
		shared[keys[i]]++
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(shared[keys[b]], shared[keys[a]]) })
	return order
}

// wrappedKey returns the wrapped data key in a task that an envelope sealed, or "".
func wrappedKey(t *asynq.Task) string {
	whole, _, err := asynqwire.SealedPayload(t.Payload(), t.Headers())
	if err != nil {
		return ""
	}
	return string(wire.StoredKey(whole).Wrapped)
}
