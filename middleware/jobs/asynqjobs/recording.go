package asynqjobs

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/internal/sleep"
)

// recordingClient is a Redis client for asynq.Client. Under a context of a recording, it records the script with which asynq
// enqueues a task, and answers as if Redis had accepted the task. asynq has no call that enqueues many tasks, and does not
// export its commands.
type recordingClient struct{ redis.UniversalClient }

// recording collects the command of one task. It is not safe for concurrent use.
type recording struct {
	sha  string // of the script that asynq has named
	call *scriptCall
	err  error // of a queue that could not be registered
}

type recordingKey struct{}

// in returns a context under which commands are recorded.
func (r *recording) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, recordingKey{}, r)
}

// take returns the recorded command, or nil, and forgets it.
func (r *recording) take() *scriptCall {
	call := r.call
	r.sha, r.call = "", nil
	return call
}

func recordingIn(ctx context.Context) *recording {
	r, _ := ctx.Value(recordingKey{}).(*recording)
	return r
}

// scriptCall is a recorded command. Its reply may be read after sendScripts.
type scriptCall struct {
	script rediscmd.Script
	keys   []string
	args   []any
	reply  *redis.Cmd
}

// bytes returns about how much the command sends.
func (s *scriptCall) bytes() int {
	n := 0
	for _, arg := range s.args {
		if b, ok := arg.([]byte); ok {
			n += len(b)
		}
	}
	return n
}

// slot returns what the keys of one queue have in common. They are on one node.
func (s *scriptCall) slot() string {
	if len(s.keys) == 0 {
		return ""
	}
	tag, _, _ := strings.Cut(s.keys[0], "}")
	return tag
}

// EvalSha asks for the source of the script, so that it can be sent along.
func (c recordingClient) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	r := recordingIn(ctx)
	if r == nil {
		return c.UniversalClient.EvalSha(ctx, sha, keys, args...)
	}
	r.sha = sha
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(rediscmd.ErrUnknownScript)
	return cmd
}

// Eval records the command.
func (c recordingClient) Eval(ctx context.Context, source string, keys []string, args ...any) *redis.Cmd {
	r := recordingIn(ctx)
	if r == nil {
		return c.UniversalClient.Eval(ctx, source, keys, args...)
	}
	r.call = &scriptCall{script: rediscmd.Script{Source: source, Digest: r.sha}, keys: slices.Clone(keys), args: slices.Clone(args)}
	cmd := redis.NewCmd(ctx)
	cmd.SetVal(int64(1))
	return cmd
}

// SAdd registers a queue at once, because asynq remembers that it is registered. If Redis does not answer, the other tasks of
// the recording do not wait for it again.
func (c recordingClient) SAdd(ctx context.Context, key string, members ...any) *redis.IntCmd {
	r := recordingIn(ctx)
	if r == nil {
		return c.UniversalClient.SAdd(ctx, key, members...)
	}
	if r.err != nil {
		cmd := redis.NewIntCmd(ctx)
		cmd.SetErr(r.err)
		return cmd
	}
	cmd := c.UniversalClient.SAdd(ctx, key, members...)
	r.err = cmd.Err()
	return cmd
}

// scriptAttempts bounds the attempts for a command that the server refuses to run, as during a failover.
const scriptAttempts = 4

// sendScripts runs the commands in one pipeline. Commands that the server did not run are sent again.
func sendScripts(ctx context.Context, rdb redis.UniversalClient, calls []*scriptCall) {
	withSource := false
	for attempt := range scriptAttempts {
		if len(calls) == 0 {
			return
		}
		sendScriptsOnce(ctx, rdb, calls, withSource)
		var again []*scriptCall
		refused := false
		for _, s := range calls {
			if err := s.reply.Err(); rediserr.RefusedForNow(err) {
				refused = true
				again = append(again, s)
			} else if rediscmd.UnknownScript(err) {
				again = append(again, s)
			}
		}
		calls, withSource = again, true
		if refused && attempt < scriptAttempts-1 && sleep.For(ctx, 10*time.Millisecond<<attempt) != nil {
			return
		}
	}
}

// sendScriptsOnce sends a pipeline. The first command of each script and queue has the source, so that the node knows it: the
// others name it by its digest.
func sendScriptsOnce(ctx context.Context, rdb redis.UniversalClient, calls []*scriptCall, withSource bool) {
	type node struct{ digest, slot string }
	known := make(map[node]bool)
	pipe := rdb.Pipeline()
	for _, s := range calls {
		at := node{s.script.Digest, s.slot()}
		command := s.script.ByDigest
		if withSource || !known[at] {
			command = s.script.BySource
			known[at] = true
		}
		s.reply = command(ctx, s.keys, s.args...)
		_ = pipe.Process(ctx, rediscmd.Once(s.reply)) // queues it
	}
	_, _ = rediscmd.Exec(ctx, pipe)
}
