package redisstore

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
)

// script is Lua that a node knows by its digest after the first call. Every key that a script uses is declared, as
// Cluster, ACLs and compatible servers require.
type script struct {
	source, digest string
}

func newScript(source string) script {
	return script{source: source, digest: rediscmd.ScriptDigest(source)}
}

type scripts struct {
	setTagged, tag, members, untag, remove, exists, prune, kind, swap, setUnchanged, expire, delete, getWithTTL script
}

func newScripts() scripts {
	return scripts{
		setTagged:    newScript(setTaggedSource),
		tag:          newScript(tagSource),
		members:      newScript(membersSource),
		untag:        newScript(untagSource),
		remove:       newScript(removeSource),
		exists:       newScript(existsSource),
		prune:        newScript(pruneSource),
		kind:         newScript(kindSource),
		swap:         newScript(swapSource),
		setUnchanged: newScript(setUnchangedSource),
		expire:       newScript(expireSource),
		delete:       newScript(deleteSource),
		getWithTTL:   newScript(getWithTTLSource),
	}
}

// command is the call of a script, by its digest or with its source.
func (sc script) command(ctx context.Context, name, body string, keys []string, args []any) *redis.Cmd {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, name, body, len(keys))
	for _, k := range keys {
		all = append(all, k)
	}
	cmd := redis.NewCmd(ctx, append(all, args...)...)
	cmd.SetFirstKeyPos(3)
	return cmd
}

func (sc script) byDigest(ctx context.Context, keys []string, args ...any) *redis.Cmd {
	return sc.command(ctx, "evalsha", sc.digest, keys, args)
}

func (sc script) bySource(ctx context.Context, keys []string, args ...any) *redis.Cmd {
	return sc.command(ctx, "eval", sc.source, keys, args)
}

// run calls an idempotent script, which may be repeated.
func (s *Store) run(ctx context.Context, sc script, keys []string, args ...any) *redis.Cmd {
	cmd := sc.byDigest(ctx, keys, args...)
	_ = s.client.Process(ctx, cmd)
	if unknownScript(cmd.Err()) {
		cmd = sc.bySource(ctx, keys, args...)
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

// runAll calls an idempotent script, in one pipeline over all nodes of a Cluster, and returns an error, or nil,
// for each call. answers holds what the script returned for each call, if that is a number.
func (s *Store) runAll(ctx context.Context, sc script, calls []call) (answers []int64, errs []error) {
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
			execute(ctx, pipe)
		}
	}
	send(func(int) bool { return true },
		func(c call) *redis.Cmd { return sc.byDigest(ctx, c.keys(), c.args...) })
	send(func(i int) bool { return unknownScript(cmds[i].Err()) },
		func(c call) *redis.Cmd { return sc.bySource(ctx, c.keys(), c.args...) })
	answers, errs = make([]int64, len(calls)), make([]error, len(calls))
	for i, cmd := range cmds {
		answers[i], errs[i] = cmd.Int64()
	}
	return answers, errs
}

// runOnce calls a script that must not be repeated.
func (s *Store) runOnce(ctx context.Context, sc script, keys []string, args ...any) *redis.Cmd {
	cmd := s.sendOnce(ctx, func() *redis.Cmd { return sc.byDigest(ctx, keys, args...) })
	if unknownScript(cmd.Err()) {
		cmd = s.sendOnce(ctx, func() *redis.Cmd { return sc.bySource(ctx, keys, args...) })
	}
	return cmd
}

func unknownScript(err error) bool { return rediserr.Code(err) == "NOSCRIPT" }

// execute sends the commands of a pipeline, each of which holds its own error afterwards. go-redis sets these errors
// unless the server refuses a new connection. Reasons are WRONGPASS, a database out of range, and a client name that the
// user may not set. Then the commands of a single node look successful with an empty reply, and only Exec returns the error.
func execute(ctx context.Context, pipe redis.Pipeliner) {
	cmds, err := pipe.Exec(ctx)
	if err == nil || slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Err() != nil }) {
		return
	}
	for _, c := range cmds {
		c.SetErr(err)
	}
}

// once marks a command that go-redis must not send again if the server may have run it.
type once struct{ redis.Cmder }

// NoRetry is true, for go-redis.
func (once) NoRetry() bool { return true }

// sendOnce sends a command once, and again only if the server replied that it did not run it, such as READONLY during a
// failover.
func (s *Store) sendOnce(ctx context.Context, command func() *redis.Cmd) *redis.Cmd {
	const attempts = 4
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		cmd := command()
		_ = s.client.Process(ctx, once{cmd})
		if wait >= 10*time.Millisecond<<(attempts-1) || !rediserr.RefusedForNow(cmd.Err()) {
			return cmd
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return cmd
		case <-timer.C:
		}
	}
}
