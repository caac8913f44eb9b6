package asynqjobs

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// groupParallel is how many members are opened at a time. A key service has its own
// bound; see package aead.
const groupParallel = 32

// openAll opens the members, as many as the time allows. Those that are left
// have the error of a context that ended.
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
				m.place, m.opened, m.err = a.open(ctx, group, m.found)
			}
		})
	}
	workers.Wait()
	return members
}

// openingOrder puts first the members whose data key most members have: those of
// processes that are at work, whose key is known or soon will be. Garbage that names
// a data key of its own invention each time comes last: a key service answers so many
// questions and no more, and it must not be what uses them up.
func openingOrder(tasks []*asynq.Task) []int {
	keys := make([]string, len(tasks))
	shared := make(map[string]int)
	order := make([]int, len(tasks))
	for i, t := range tasks {
		order[i] = i
		if whole, _, err := wholePayload(t.Payload(), t.Headers()); err == nil {
			keys[i] = wrappedKey(whole)
		}
		shared[keys[i]]++
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(shared[keys[b]], shared[keys[a]]) })
	return order
}

// wrappedKey is the wrapped data key in a sealed value of an envelope, or empty.
func wrappedKey(whole []byte) string {
	const most = 4096
	_, n, err := wire.Parse(whole)
	if err != nil || len(whole)-n < lengthSize {
		return ""
	}
	size := binary.BigEndian.Uint32(whole[n:])
	if size > most || int(size) > len(whole)-n-lengthSize {
		return ""
	}
	return string(whole[n+lengthSize:][:size])
}

const (
	// groupPatience is for how long a group is put back because some of its members
	// do not open yet: time for a new keyset to come to this process, too.
	groupPatience = 15 * time.Minute
	// patienceAgain is when it may be put back for that again.
	patienceAgain = time.Hour
	// maxImpatient bounds the groups that are remembered. Others are not put back.
	maxImpatient = 4096
)

// patience remembers since when groups have been put back.
type patience struct {
	now   func() time.Time
	mu    sync.Mutex
	since map[string]time.Time
}

func newPatience(now func() time.Time) *patience {
	return &patience{now: now, since: make(map[string]time.Time)}
}

// has tells whether there is patience left with the group.
func (p *patience) has(group string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if since, ok := p.since[group]; ok && now.Sub(since) < patienceAgain {
		return now.Sub(since) < groupPatience
	}
	if len(p.since) >= maxImpatient {
		for g, since := range p.since {
			if now.Sub(since) >= patienceAgain {
				delete(p.since, g)
			}
		}
		if len(p.since) >= maxImpatient {
			return false
		}
	}
	p.since[group] = now
	return true
}

// restore forgets a group of which everything was decided.
func (p *patience) restore(group string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.since, group)
}
