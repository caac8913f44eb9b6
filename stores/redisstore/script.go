package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/internal/sleep"
)

type scripts struct {
	setTagged, tag, members, untag, remove, exists, prune, kind, swap, setUnchanged, expire, delete, getWithTTL rediscmd.Script
}

func newScripts() scripts {
	return scripts{
		setTagged:    rediscmd.NewScript(setTaggedSource),
		tag:          rediscmd.NewScript(tagSource),
		members:      rediscmd.NewScript(membersSource),
		untag:        rediscmd.NewScript(untagSource),
		remove:       rediscmd.NewScript(removeSource),
		exists:       rediscmd.NewScript(existsSource),
		prune:        rediscmd.NewScript(pruneSource),
		kind:         rediscmd.NewScript(kindSource),
		swap:         rediscmd.NewScript(swapSource),
		setUnchanged: rediscmd.NewScript(setUnchangedSource),
		expire:       rediscmd.NewScript(expireSource),
		delete:       rediscmd.NewScript(deleteSource),
		getWithTTL:   rediscmd.NewScript(getWithTTLSource),
	}
}

// run calls an idempotent script, which may be repeated.
func (s *Store) run(ctx context.Context, sc rediscmd.Script, keys []string, args ...any) *redis.Cmd {
	cmd := sc.ByDigest(ctx, keys, args...)
	_ = s.client.Process(ctx, cmd)
	if rediscmd.UnknownScript(cmd.Err()) {
		cmd = sc.BySource(ctx, keys, args...)
		_ = s.client.Process(ctx, cmd)
	}
	return cmd
}

// call is one of many calls of a script.
type call struct {
	key  string
	more []string // further keys, which in a Cluster must be in the same slot
	args []any
}

func (c call) keys() []string { return append([]string{c.key}, c.more...) }

// callsOn returns a call on each key, without arguments.
func callsOn(keys []string) []call {
	calls := make([]call, len(keys))
	for i, key := range keys {
		calls[i].key = key
	}
	return calls
}

// runAll calls an idempotent script, in one pipeline over all nodes of a Cluster, and returns an error, or nil,
// for each call. answers holds what the script returned for each call, if that is a number.
func (s *Store) runAll(ctx context.Context, sc rediscmd.Script, calls []call) (answers []int64, errs []error) {
	cmds := make([]*redis.Cmd, len(calls))
	send := func(wanted func(i int) bool, command func(c call) *redis.Cmd) {
		pipe := s.client.Pipeline()
		for i, c := range calls {
			if wanted(i) {
				cmds[i] = command(c)
				_ = pipe.Process(ctx, cmds[i]) // queues it
			}
		}
		if pipe.Len() > 0 {
			_, _ = rediscmd.Exec(ctx, pipe)
		}
	}
	send(func(int) bool { return true },
		func(c call) *redis.Cmd { return sc.ByDigest(ctx, c.keys(), c.args...) })
	send(func(i int) bool { return rediscmd.UnknownScript(cmds[i].Err()) },
		func(c call) *redis.Cmd { return sc.BySource(ctx, c.keys(), c.args...) })
	answers, errs = make([]int64, len(calls)), make([]error, len(calls))
	for i, cmd := range cmds {
		answers[i], errs[i] = cmd.Int64()
	}
	return answers, errs
}

// runOnce calls a script that must not be repeated.
func (s *Store) runOnce(ctx context.Context, sc rediscmd.Script, keys []string, args ...any) *redis.Cmd {
	cmd := s.sendOnce(ctx, func() *redis.Cmd { return sc.ByDigest(ctx, keys, args...) })
	if rediscmd.UnknownScript(cmd.Err()) {
		cmd = s.sendOnce(ctx, func() *redis.Cmd { return sc.BySource(ctx, keys, args...) })
	}
	return cmd
}

// sendOnce sends a command once, and again only if the server replied that it did not run it, such as READONLY during a
// failover.
func (s *Store) sendOnce(ctx context.Context, command func() *redis.Cmd) *redis.Cmd {
	const attempts = 4
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		cmd := command()
		_ = s.client.Process(ctx, rediscmd.Once(cmd))
		if wait >= 10*time.Millisecond<<(attempts-1) || !rediserr.RefusedForNow(cmd.Err()) || sleep.For(ctx, wait) != nil {
			return cmd
		}
	}
}
