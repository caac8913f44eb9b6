package migrate_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// losesDeletions loses the first two deletions of originals before they arrive, and calls lost then. In the next attempt it calls
// change when the copies are to be written again or, if late, before the originals are deleted. When copies of what has changed
// are written, it calls stop.
type losesDeletions struct {
	late               bool
	lost, change, stop func()

	digest  string // of dropSource
	first   string // the first original of the batch
	times   int    // deletions that were lost
	changed bool
	stopped bool
}

func (*losesDeletions) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*losesDeletions) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *losesDeletions) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	const most = 2
	return func(ctx context.Context, cmds []redis.Cmder) error {
		args := cmds[0].Args()
		if args[0] == "eval" && strings.Contains(fmt.Sprint(args[1]), sendsDeletions) {
			h.digest = rediscmd.NewScript(fmt.Sprint(args[1])).Digest
		}
		const drop = 7 // evalsha, script, 1, key, and the arguments of dropSource for an original
		deletes := len(args) == drop && (args[1] == h.digest || strings.Contains(fmt.Sprint(args[1]), sendsDeletions))
		writes := len(args) > 3 && args[0] == "set" && args[3] == "nx"
		switch {
		case deletes && h.times < most:
			h.first = fmt.Sprint(args[3])
			for _, cmd := range cmds {
				cmd.SetErr(io.EOF)
			}
			if h.times++; h.times == most {
				h.lost()
			}
			return io.EOF
		case h.times == most && !h.changed && (h.late && deletes && args[3] == h.first || !h.late && writes):
			h.changed = true
			if h.late {
				h.change()
				return next(ctx, cmds)
			}
			err := next(ctx, cmds)
			h.change()
			return err
		case h.changed && writes && !h.stopped:
			h.stopped = true
			err := next(ctx, cmds)
			h.stop()
			return err
		}
		return next(ctx, cmds)
	}
}

// If deletions of originals are lost, and the next attempt finds that the originals have changed, the copies of what they hold
// then do not stay when the run ends.
func TestCopiesOfChangesAfterLostDeletions(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprint("found when the originals are deleted: ", late), func(t *testing.T) {
			t.Parallel()
			r := newRenamingOfCounters(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			rdb, app := r.cluster.Client(t), r.cluster.Client(t)
			originals := scanned(t, app, "ns:*")
			h := &losesDeletions{late: late, change: func() { r.incrementAll(t) }, stop: cancel, lost: func() {
				if late {
					return
				}
				for name := range scanned(t, app, "ns:*") { // so that the next attempt writes the copies again
					if !originals[name] {
						if err := app.Del(t.Context(), name).Err(); err != nil {
							t.Error(err)
						}
					}
				}
			}}
			rdb.AddHook(h)
			_, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
			require.ErrorIs(t, err, context.Canceled)
			require.True(t, h.stopped)
			require.Len(t, scanned(t, app, "ns:*"), r.n, "no copies are left")
			r.completes(t)
			r.requireIncremented(t)
		})
	}
}

// A run that ends without an answer to deletions warns that copies may be left.
func TestWarningAfterLostDeletions(t *testing.T) {
	t.Parallel()
	r := newRenaming(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rdb := r.cluster.Client(t)
	rdb.AddHook(&losesDeletions{lost: cancel})
	report, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.ErrorIs(t, err, context.Canceled)
	require.Greater(t, len(scanned(t, r.cluster.Client(t), "ns:*")), r.n, "there are copies")
	require.Contains(t, strings.Join(report.Warnings, "\n"), "copies of entries may be left")
	require.Empty(t, r.completes(t).Warnings)
	r.requireAll(t)
}

// A run of Unseal that ends warns that it has left plaintext.
func TestWarningOfUnsealThatEnds(t *testing.T) {
	t.Parallel()
	r, _, _ := unsealing(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rdb := r.cluster.Client(t)
	rdb.AddHook(&afterFirstCopies{do: cancel})
	report, err := migrate.Run(tuned(ctx, rediswalk.Tuning{BatchSize: 100, Workers: 1}), rdb, r.config)
	require.ErrorIs(t, err, context.Canceled)
	require.Greater(t, len(scanned(t, r.cluster.Client(t), "ns:*")), r.n, "there are copies")
	require.Contains(t, strings.Join(report.Warnings, "\n"), "copies of entries may be left")
	require.Empty(t, r.completes(t).Warnings)
	require.Len(t, scanned(t, r.cluster.Client(t), "ns:*"), r.n)
}
