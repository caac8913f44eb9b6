package asynqjobs

import (
	"context"
	"sync"
	"time"

	"github.com/hibiken/asynq"
)

const (
	// queueCheckEvery is the least time between two checks of one queue.
	queueCheckEvery = 5 * time.Minute
	// maxCheckedQueues bounds the queues that are remembered. More queues are checked more often.
	maxCheckedQueues = 1024
)

// queueCheck logs queues into which tasks are enqueued and that no server processes. A nil queueCheck checks nothing.
type queueCheck struct {
	inspector *asynq.Inspector
	tel       *instruments
	now       func() time.Time

	mu     sync.Mutex
	closed bool
	last   map[string]time.Time
	checks sync.WaitGroup
}

func newQueueCheck(c *config, tel *instruments) *queueCheck {
	if c.inspector == nil {
		return nil
	}
	return &queueCheck{inspector: c.inspector, tel: tel, now: c.now, last: make(map[string]time.Time)}
}

// enqueued checks, in the background, the queue of a task that was enqueued.
func (q *queueCheck) enqueued(ctx context.Context, queue string) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if last, ok := q.last[queue]; q.closed || ok && now.Sub(last) < queueCheckEvery {
		return
	}
	if len(q.last) >= maxCheckedQueues {
		clear(q.last)
	}
	q.last[queue] = now
	ctx = context.WithoutCancel(ctx)
	q.checks.Go(func() { q.check(ctx, queue) })
}

func (q *queueCheck) check(ctx context.Context, queue string) {
	servers, err := q.inspector.Servers() // bounded by the timeouts of its Redis client
	if err != nil {
		return // the next check may succeed, and Redis has its own alarms
	}
	for _, s := range servers {
		if _, ok := s.Queues[queue]; ok && s.Status == "active" {
			return
		}
	}
	q.tel.log.ErrorContext(ctx, "sealcache: no running server processes this queue, and its tasks wait", "queue", queue)
}

// close waits for the checks that run and starts no others.
func (q *queueCheck) close() {
	if q == nil {
		return
	}
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.checks.Wait()
}
