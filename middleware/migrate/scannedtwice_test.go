package migrate_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// scanThrice makes SCAN of one master return all names thrice, each time as a batch. The first batch is held after it has read its entries,
// until the names are measured for the third time: the second batch is done with them or repeats them, or the third one begins.
type scanThrice struct {
	addr string
	read func() // when the first batch has read its entries

	mu           sync.Mutex
	names        []string
	scans        int
	measured     int
	losesReplies bool          // the replies to deletions of its entries are lost, after the server has executed them
	digest       string        // of dropSource
	changed      chan struct{} // is closed after read
	released     chan struct{}

	reading sync.Mutex
	wasRead bool
}

// onNode is the hook of the client of a node.
type onNode struct{ *scanThrice }

func (onNode) DialHook(next redis.DialHook) redis.DialHook { return next }
func (onNode) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h onNode) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		scan, ok := cmd.(*redis.ScanCmd)
		if !ok {
			return next(ctx, cmd)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		cursor := fmt.Sprint(scan.Args()[1])
		if cursor == "0" { // a run tries its keys with the first names, before it scans them all
			h.scans++
		}
		following := map[string]uint64{"0": 1, "1": 2, "2": 0}
		scan.SetVal(slices.Clone(h.names), following[cursor])
		return nil
	}
}

func (*scanThrice) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*scanThrice) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h *scanThrice) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		args := cmds[0].Args()
		switch {
		case args[0] == "strlen" && h.has(args[1]):
			h.mu.Lock()
			if h.scans == 2 {
				h.measured++
			}
			third := h.measured == 3
			h.mu.Unlock()
			if third {
				<-h.changed
				h.mu.Lock()
				h.losesReplies = false
				h.mu.Unlock()
				close(h.released)
			}
		case len(args) == 4 && args[2] == 1 && h.has(args[3]): // the originals are read
			h.reading.Lock()
			if h.wasRead {
				h.reading.Unlock()
				return next(ctx, cmds)
			}
			err := next(ctx, cmds)
			h.wasRead = cmds[0].Err() == nil // the node knows the script
			if h.wasRead {
				h.read()
				close(h.changed)
			}
			first := h.wasRead
			h.reading.Unlock()
			if first {
				<-h.released
			}
			return err
		case len(args) > 3 && h.has(args[3]) && h.isDeletion(cmds):
			err := next(ctx, cmds)
			h.mu.Lock()
			defer h.mu.Unlock()
			if !h.losesReplies || redis.HasErrorPrefix(cmds[0].Err(), "NOSCRIPT") {
				return err
			}
			for _, cmd := range cmds {
				cmd.SetErr(io.EOF)
			}
			return io.EOF
		}
		return next(ctx, cmds)
	}
}

func (h *scanThrice) has(name any) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.names, fmt.Sprint(name))
}

// isDeletion reports whether commands delete with dropSource.
func (h *scanThrice) isDeletion(cmds []redis.Cmder) bool {
	args := cmds[0].Args()
	if args[0] == "eval" && strings.Contains(fmt.Sprint(args[1]), sendsDeletions) {
		h.mu.Lock()
		h.digest = rediscmd.NewScript(fmt.Sprint(args[1])).Digest
		h.mu.Unlock()
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return args[0] == "evalsha" && args[1] == h.digest
}

// A batch does not judge a copy by an original that it read before another batch changed the same entry.
func TestNamesThatAreScannedTwice(t *testing.T) {
	t.Parallel()
	r := newRenamingOfCounters(t)
	rdb := redis.NewClusterClient(r.cluster.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	node := r.cluster.Nodes()[1]
	h := &scanThrice{addr: node.Addr(), names: onNodes(t, "ns:*", node), changed: make(chan struct{}), released: make(chan struct{}), losesReplies: true, read: func() { r.incrementAll(t) }}
	rdb.OnNewNode(func(c *redis.Client) {
		if c.Options().Addr == h.addr {
			c.AddHook(onNode{h})
		}
	})
	rdb.AddHook(h)
	report, err := migrate.Run(tuned(t.Context(), rediswalk.Tuning{BatchSize: 2, Workers: 2}), rdb, r.config)
	require.NoError(t, err)
	require.True(t, report.Done(), "%+v", report)
	require.True(t, h.wasRead)
	r.requireIncremented(t)
}
