package redisstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
)

// Limits of the combiner.
const (
	combinedCommands = 300
	combinedBytes    = 1 << 20
	largestValue     = 64 << 10 // combining does not speed up larger values

	nearOperation = 150 * time.Microsecond // a shorter operation shows that the server is on the same host
	nearLimit     = 4
	farLimit      = 64
	fewCallers    = 8       // so many callers of a server on the same host need no pipeline
	peakDecay     = 100     // calls after which about a third of an earlier peak is left
	timedCalls    = 8       // one call of so many is timed
	stackOfBatch  = 6 << 10 // bytes
	manyQueues    = 64      // queues of masters above which unused ones are dropped
	unusedFor     = time.Minute
)

// A combiner sends commands of concurrent callers together (group commit). Up to a limit, each call uses its own
// connection of the client's pool. Further calls wait in a queue. When a call finishes, all waiting calls are sent in one
// pipeline. So a single caller takes the same path as without a combiner, and no call waits for a timer.
//
// Each batch runs in its own goroutine, under a context that no caller can cancel. So a caller whose context ends does
// not stop the commands of others. go-redis sends a batch with a write once, because it would repeat the writes of callers that
// have left. Each caller then repeats its command over the pool, under its own context.
type combiner struct {
	client  redis.UniversalClient
	pool    int  // connections per node
	retries bool // the client repeats commands
	log     *slog.Logger

	one       queue     // of a single node
	cluster   masterFor // nil for a single node
	watches   bool      // the callers of redirected commands repeat them at once, and go-redis has connections for that
	readAlone bool      // a pipeline would read past the client's cache, or from masters in place of replicas
	mu        sync.RWMutex
	queues    map[string]*queue // of masters, by address

	replyBytes atomic.Int64 // mean size of replies to GET
	batches    atomic.Int64
	combined   atomic.Int64
	waiting    atomic.Int64
}

// masterFor finds the master of a key, as *redis.ClusterClient does.
type masterFor interface {
	MasterForKey(ctx context.Context, key string) (*redis.Client, error)
}

// newCombiner returns nil for a type that embeds a client of go-redis: it may override Get, and a pipeline would bypass the
// override.
func newCombiner(client redis.UniversalClient, log *slog.Logger) *combiner {
	switch c := client.(type) {
	case *redis.Client:
		o := c.Options()
		return &combiner{
			client: client, pool: connections(o.PoolSize, o.MaxActiveConns), retries: o.MaxRetries > 0, log: log,
			readAlone: o.ClientSideCache != nil || o.ClientSideCacheConfig != nil,
		}
	case *redis.ClusterClient:
		o := c.Options()
		return &combiner{
			client: client, pool: connections(o.PoolSize, o.MaxActiveConns), retries: o.MaxRedirects > 0, log: log,
			cluster: c, watches: o.MaxActiveConns <= 0, readAlone: o.ReadOnly, queues: make(map[string]*queue),
		}
	default:
		return nil
	}
}

// connections returns how many calls go-redis can send at the same time. Above maxActive it refuses a call, and does not let it
// wait.
func connections(poolSize, maxActive int) int {
	if maxActive > 0 {
		return min(poolSize, maxActive)
	}
	return poolSize
}

// A queue holds the calls to one master that wait. Its mutex guards its fields and those of its calls.
type queue struct {
	mu          sync.Mutex
	running     int     // calls and batches under way
	callers     int     // under way or waiting; those of a batch leave before they are woken
	peakCallers float64 // the most callers of the last calls
	calls       uint    // since the queue was made
	first, last *waitingCall
	fastest     fastest
}

// waitingCall is a command in a queue or in a batch.
type waitingCall struct {
	ctx        context.Context //nolint:containedctx // lives as long as the call that waits
	cmd, also  redis.Cmder
	args       []any  // of cmd, before hooks could change them
	space      [5]any // holds args without an allocation
	size       int
	write      bool
	prev, next *waitingCall
	queued     bool
	done       chan struct{} // closed after the batch; then the fields below, cmd and also may be read
	err        error
	sentOnce   bool // go-redis did not repeat the batch
}

func isWrite(w *waitingCall) bool { return w.write }

// asGiven undoes what hooks have changed in the arguments, because they see a repeated command again.
func (w *waitingCall) asGiven() {
	copy(w.cmd.Args(), w.args)
	if w.also != nil {
		w.also.Args()[1] = w.args[1] // the key
	}
}

// request is one command of a caller.
type request struct {
	key            string
	cmd            redis.Cmder
	also           redis.Cmder // a read that is sent right after cmd, or nil; its error does not count
	size           int         // of the value
	write          bool        // the command writes, so an unknown outcome matters
	callerOwnedArg int         // index of an argument that the caller may change after an error, 0 for none
}

// process sends a command and returns its error. If the error is not that of the command, the command belongs to a batch
// that still runs, and must not be read.
func (c *combiner) process(ctx context.Context, r request) error {
	if !r.write {
		r.size = int(c.replyBytes.Load())
	}
	q := c.queueFor(ctx, r)
	if q == nil {
		return c.observe(r, c.over(ctx, r.cmd, r.also))
	}
	q.mu.Lock()
	start := q.enter()
	if q.running < q.limit(c.pool) {
		q.running++
		q.mu.Unlock()
		return c.observe(r, c.alone(ctx, q, r, start))
	}
	if err := ctx.Err(); err != nil {
		q.callers--
		q.mu.Unlock()
		return err
	}
	if r.callerOwnedArg > 0 {
		if b, ok := r.cmd.Args()[r.callerOwnedArg].([]byte); ok {
			r.cmd.Args()[r.callerOwnedArg] = bytes.Clone(b)
		}
	}
	w := &waitingCall{ctx: ctx, cmd: r.cmd, also: r.also, size: r.size, write: r.write, done: make(chan struct{})}
	w.args = append(w.space[:0], r.cmd.Args()...)
	q.push(w)
	c.waiting.Add(1)
	q.mu.Unlock()
	return c.observe(r, c.wait(q, w))
}

// queueFor returns the queue of a request, or nil if the request does not queue.
func (c *combiner) queueFor(ctx context.Context, r request) *queue {
	switch {
	case r.size > largestValue, !r.write && c.readAlone:
		return nil
	case c.cluster == nil:
		return &c.one
	case r.key == "": // go-redis sends it to any node
		return nil
	}
	node, err := c.cluster.MasterForKey(ctx, r.key)
	if err != nil {
		return nil // go-redis finds the same error
	}
	addr := node.Options().Addr
	c.mu.RLock()
	q := c.queues[addr]
	c.mu.RUnlock()
	if q != nil {
		return q
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if q = c.queues[addr]; q == nil {
		if len(c.queues) >= manyQueues {
			c.dropUnused(time.Now())
		}
		q = &queue{}
		c.queues[addr] = q
	}
	return q
}

// dropUnused forgets masters without a timed call in the last minute: a Cluster whose nodes change their addresses must not
// leave queues behind. A call that has just found such a queue may use it.
func (c *combiner) dropUnused(now time.Time) {
	for addr, q := range c.queues {
		q.mu.Lock()
		unused := q.running == 0 && q.first == nil && now.Sub(q.fastest.second) > unusedFor
		q.mu.Unlock()
		if unused {
			delete(c.queues, addr)
		}
	}
}

// alone sends a command over the pool. If a hook of the client panics, another call still gets the connection.
func (c *combiner) alone(ctx context.Context, q *queue, r request, start time.Time) (err error) {
	succeeded := false
	defer func() { c.finish(q, 1, start, succeeded) }() //nolint:contextcheck // a batch outlives its callers
	err = c.over(ctx, r.cmd, r.also)
	succeeded = err == nil || errors.Is(err, redis.Nil)
	return err
}

// over sends a command, and the read that goes with it, over the pool.
func (c *combiner) over(ctx context.Context, cmd, also redis.Cmder) error {
	if also == nil {
		return c.client.Process(ctx, cmd)
	}
	pipe := c.client.Pipeline()
	_, _ = pipe.Process(ctx, cmd), pipe.Process(ctx, also) // queues them
	_, _ = rediscmd.Exec(ctx, pipe)
	return cmd.Err()
}

// observe updates the mean size of replies to GET.
func (c *combiner) observe(r request, err error) error {
	if reply, ok := r.cmd.(*redis.StringCmd); ok && err == nil {
		mean := c.replyBytes.Load()
		c.replyBytes.Store(mean + (int64(len(reply.Val()))-mean)/8) // approximate: another update may be lost
	}
	return err
}

// wait waits for the batch of a call, or for the end of its context.
func (c *combiner) wait(q *queue, w *waitingCall) error {
	select {
	case <-w.done:
	case <-w.ctx.Done():
		if q.withdraw(w) {
			c.waiting.Add(-1)
			return w.ctx.Err()
		}
		select {
		case <-w.done: // at the same time
		default:
			if w.write {
				return &unknownOutcome{w.ctx.Err()}
			}
			return w.ctx.Err()
		}
	}
	if c.retries && w.ctx.Err() == nil && repeatable(w.err, w.sentOnce) {
		w.asGiven()
		return c.over(w.ctx, w.cmd, w.also)
	}
	return w.err
}

// repeatable reports whether the caller repeats a command of a batch. It does so after errors after which go-redis would repeat
// a single command. After a broken connection it does not if go-redis has repeated the batch. A timeout is excluded: the caller
// has already waited for that long.
func repeatable(err error, sentOnce bool) bool {
	switch rediserr.Code(err) {
	case "MOVED", "ASK":
		return true
	}
	if rediserr.RefusedForNow(err) || redis.IsMaxClientsError(err) {
		return true // go-redis repeats a batch of reads only if its first command is refused
	}
	var op *net.OpError
	return sentOnce && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op) && !op.Timeout())
}

// finish ends a call or batch, and takes n callers out of the count. start is when it began, or the zero time if it is not
// timed. If calls wait, finish sends them as the next batch.
func (c *combiner) finish(q *queue, n int, start time.Time, succeeded bool) {
	q.mu.Lock()
	q.callers -= n
	if succeeded && !start.IsZero() {
		now := time.Now()
		q.fastest.add(now, now.Sub(start))
	}
	var batch []*waitingCall
	if q.running <= q.limit(c.pool) {
		batch = q.take()
	}
	if batch == nil {
		q.running--
	}
	q.mu.Unlock()
	if batch != nil {
		c.waiting.Add(-int64(len(batch)))
		c.batches.Add(1)
		c.combined.Add(int64(len(batch)))
		go c.send(q, batch)
	}
}

// send sends a batch in one pipeline, and then wakes its callers.
func (c *combiner) send(q *queue, batch []*waitingCall) {
	growStack(len(batch))
	start, completed, succeeded := time.Now(), false, false
	sentOnce := slices.ContainsFunc(batch, isWrite)
	defer func() {
		if !completed {
			c.logPanic(recover())
		}
		q.leave(len(batch))
		for _, w := range batch {
			if w.err, w.sentOnce = w.cmd.Err(), sentOnce; !completed {
				w.err = errPanicked
			}
			close(w.done)
		}
		c.finish(q, 0, start, succeeded)
	}()
	ctx, cancel := bound(batch)
	defer cancel()
	pipe := c.client.Pipeline()
	_ = pipe.BatchProcess(ctx, c.commands(batch, cancel)...) // queues them
	_, _ = rediscmd.Exec(ctx, pipe)
	// watch ends a batch before go-redis repeats its other commands, as after a broken connection.
	sentOnce = sentOnce || errors.Is(ctx.Err(), context.Canceled)
	completed = true
	err := batch[0].cmd.Err()
	succeeded = err == nil || errors.Is(err, redis.Nil)
}

// commands returns the commands of a batch as go-redis gets them. end ends the context of the batch.
func (c *combiner) commands(batch []*waitingCall, end context.CancelFunc) []redis.Cmder {
	cmds := make([]redis.Cmder, 0, 2*len(batch))
	for _, w := range batch {
		cmd := w.cmd
		if w.write && !c.watches {
			cmd = rediscmd.Once(cmd) // reads keep their type, by which hooks may look for them
		}
		if cmds = append(cmds, cmd); w.also != nil {
			cmds = append(cmds, w.also)
		}
	}
	if c.watches {
		watch(cmds, slices.ContainsFunc(batch, isWrite), end)
	}
	return cmds
}

// growStack makes the stack of a new goroutine large enough for a pipeline of go-redis while it is still empty. Otherwise it
// grows and is copied several times on the way, which took a quarter of the time of a small batch.
//
//go:noinline
func growStack(i int) byte {
	var frame [stackOfBatch]byte
	frame[i%stackOfBatch] = 1 // without a use of the frame, the compiler leaves it out
	return frame[i*i%stackOfBatch]
}

// bound returns the context of a batch: that of its first caller without its end, until the latest deadline. If a caller has no
// deadline, the batch has none, and go-redis's timeouts bound it as they bound a single command.
func bound(batch []*waitingCall) (context.Context, context.CancelFunc) {
	ctx := context.WithoutCancel(batch[0].ctx)
	var latest time.Time
	for _, w := range batch {
		deadline, ok := w.ctx.Deadline()
		if !ok {
			return context.WithCancel(ctx)
		}
		if deadline.After(latest) {
			latest = deadline
		}
	}
	return context.WithDeadline(ctx, latest)
}

var errPanicked = errors.New("a hook of the Redis client panicked, so it is unknown whether the command was executed")

// logPanic reports the panic of a hook, which ends a batch and not the process. The value may quote a command.
func (c *combiner) logPanic(value any) {
	if value != nil {
		c.log.Error("redisstore: a hook of the Redis client panicked; the calls of its batch failed", "type", fmt.Sprintf("%T", value), "stack", string(debug.Stack()))
	}
}

// unknownOutcome is the error of a write whose context ended after the write was sent.
type unknownOutcome struct{ cause error }

func (e *unknownOutcome) Error() string {
	return errtext.Text(e.cause) + " (the command was sent, but the result is unknown)"
}
func (e *unknownOutcome) Unwrap() error { return e.cause }
