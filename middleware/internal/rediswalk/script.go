package rediswalk

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
)

// Script is Lua that a node knows by its digest after the first call. It must declare every key that it touches, as
// Cluster and ACLs demand.
type Script struct{ source, digest string }

// NewScript returns a script.
func NewScript(source string) Script { return Script{source, rediscmd.ScriptDigest(source)} }

// Call is one call of a script. Cmd holds the reply afterwards.
type Call struct {
	Keys []string
	Args []any
	Cmd  *redis.Cmd
}

func (c *Call) command(ctx context.Context, name, body string) *redis.Cmd {
	all := make([]any, 0, 3+len(c.Keys)+len(c.Args))
	all = append(all, name, body, len(c.Keys))
	for _, k := range c.Keys {
		all = append(all, k)
	}
	c.Cmd = redis.NewCmd(ctx, append(all, c.Args...)...)
	c.Cmd.SetFirstKeyPos(3)
	return c.Cmd
}

// once marks a command that go-redis must not send again after a lost reply.
type once struct{ redis.Cmder }

// NoRetry is true, for go-redis.
func (once) NoRetry() bool { return true }

// Once returns a command that go-redis does not send again after a lost reply. cmd holds the reply.
func Once(cmd redis.Cmder) redis.Cmder { return once{cmd} }

// Run makes all calls in one pipeline. It repeats those whose node did not know the script, with the source. If a node does not
// answer, Run makes the calls on the other nodes, and returns an error.
func (s *Servers) Run(ctx context.Context, script Script, calls []*Call) error {
	return s.run(ctx, script, calls, func(c redis.Cmder) redis.Cmder { return c })
}

// RunOnce is Run for a script whose second answer would mislead. If a reply is lost, it returns an error, and the call may
// have been made.
func (s *Servers) RunOnce(ctx context.Context, script Script, calls []*Call) error {
	return s.run(ctx, script, calls, Once)
}

func (s *Servers) run(ctx context.Context, script Script, calls []*Call, sent func(redis.Cmder) redis.Cmder) error {
	if len(calls) == 0 {
		return nil
	}
	first := s.Pipelined(ctx, func(p redis.Pipeliner) {
		for _, c := range calls {
			_ = p.Process(ctx, sent(c.command(ctx, "evalsha", script.digest)))
		}
	})
	var unknown []*Call
	for _, c := range calls {
		if redis.HasErrorPrefix(c.Cmd.Err(), "NOSCRIPT") {
			unknown = append(unknown, c)
		}
	}
	const most = 64 // sources in one pipeline
	for len(unknown) > 0 {
		n := min(len(unknown), most)
		err := s.Pipelined(ctx, func(p redis.Pipeliner) {
			for _, c := range unknown[:n] {
				_ = p.Process(ctx, sent(c.command(ctx, "eval", script.source)))
			}
		})
		if first == nil {
			first = err
		}
		unknown = unknown[n:]
	}
	return first
}
