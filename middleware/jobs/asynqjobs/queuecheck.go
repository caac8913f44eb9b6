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
	// queueCheckGrace is the time after which a queue without a server is logged. The servers of a deployment may start after
	// its clients.
	queueCheckGrace = time.Minute
	// maxCheckedQueues bounds the queues that are remembered. More queues are checked more often.
	maxCheckedQueues = 1024
)

// queueCheck logs queues into which tasks are enqueued and that no server processes. A nil queueCheck checks nothing.
type queueCheck struct {
	inspector *asynq.Inspector
	tel       *instruments
	now       func() time.Time
	grace     time.Duration

	mu     sync.Mutex
	closed bool
	end    chan struct{}
	last   map[string]time.Time
	checks sync.WaitGroup
}

func newQueueCheck(c *config, tel *instruments) *queueCheck {
	if c.inspector == nil {
		return nil
	}
	return &queueCheck{
		inspector: c.inspector, tel: tel, now: c.now, grace: c.grace, end: make(chan struct{}), last: make(map[string]time.Time),
	}
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
	if q.served(queue) {
		return
	}
	timer := time.NewTimer(q.grace)
	defer timer.Stop()
	select {
	case <-q.end:
	case <-timer.C:
		if !q.served(queue) {
			q.tel.log.ErrorContext(ctx, "sealcache: no running asynq server processes this queue, so its tasks wait", "queue", queue)
		}
	}
}

// served reports whether a running server processes the queue. If Redis does not answer, it reports true.
func (q *queueCheck) served(queue string) bool {
	servers, err := q.inspector.Servers() // bounded by the timeouts of its Redis client
	for _, s := range servers {
		if _, ok := s.Queues[queue]; ok && s.Status == "active" {
			return true
		}
	}
	return err != nil
}

// close ends the checks and starts no others.
func (q *queueCheck) close() {
	if q == nil {
		return
	}
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.end)
	}
	q.mu.Unlock()
	q.checks.Wait()
}
