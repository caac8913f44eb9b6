package redisstore

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediserr"
)

// watched is a command of a batch to a Cluster. A node may redirect some commands (MOVED, ASK), for a long time while it moves a
// slot. go-redis follows only after a pause, in which all callers of the batch would wait. So the batch ends when all replies are
// there, and each caller of a redirected command repeats it over the pool. go-redis follows a single command without a pause. The two
// commands of GetBytesMax are a pipeline, so they wait for the pause alone. Under MaxActiveConns, go-redis would refuse callers that
// repeat at the same time, so there it follows the redirections of the batch.
type watched struct {
	redis.Cmder
	batch *watchedBatch
	set   bool // it has a result
}

type watchedBatch struct {
	once       bool         // go-redis must not repeat the batch
	left       atomic.Int64 // commands without a result
	redirected atomic.Bool
	end        context.CancelFunc
}

// watch replaces the commands of a batch.
func watch(cmds []redis.Cmder, once bool, end context.CancelFunc) {
	batch := &watchedBatch{once: once, end: end}
	batch.left.Store(int64(len(cmds)))
	all := make([]watched, len(cmds))
	for i, cmd := range cmds {
		all[i] = watched{Cmder: cmd, batch: batch}
		cmds[i] = &all[i]
	}
}

// NoRetry is for go-redis.
func (w *watched) NoRetry() bool { return w.batch.once }

// SetErr is called by go-redis for each reply.
func (w *watched) SetErr(err error) {
	b := w.batch
	if w.set && b.redirected.Load() && errors.Is(err, context.Canceled) {
		return // go-redis gives the end of the batch to commands that have succeeded
	}
	w.Cmder.SetErr(err)
	if code := rediserr.Code(err); code == "MOVED" || code == "ASK" {
		b.redirected.Store(true)
	}
	if !w.set {
		w.set = true
		b.left.Add(-1)
	}
	if b.left.Load() <= 0 && b.redirected.Load() {
		b.end()
	}
}
