package rediswalk

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
)

// Call is one call of a script. Cmd holds the reply afterwards.
type Call struct {
	Keys []string
	Args []any
	Cmd  *redis.Cmd
}

// Run makes all calls in one pipeline. It repeats those whose node did not know the script, with the source. If a node does not
// answer, Run makes the calls on the other nodes, and returns an error.
func (s *Servers) Run(ctx context.Context, script rediscmd.Script, calls []*Call) error {
	return s.run(ctx, script, calls, func(c redis.Cmder) redis.Cmder { return c })
}

// RunOnce is Run for a script whose second answer would mislead. If a reply is lost, it returns an error, and the call may
// have been made.
func (s *Servers) RunOnce(ctx context.Context, script rediscmd.Script, calls []*Call) error {
	return s.run(ctx, script, calls, rediscmd.Once)
}

func (s *Servers) run(ctx context.Context, script rediscmd.Script, calls []*Call, sent func(redis.Cmder) redis.Cmder) error {
	if len(calls) == 0 {
		return nil
	}
	first := s.Pipelined(ctx, func(p redis.Pipeliner) {
		for _, c := range calls {
			c.Cmd = script.ByDigest(ctx, c.Keys, c.Args...)
			_ = p.Process(ctx, sent(c.Cmd)) // queues it
		}
	})
	var unknown []*Call
	for _, c := range calls {
		if rediscmd.UnknownScript(c.Cmd.Err()) {
			unknown = append(unknown, c)
		}
	}
	const most = 64 // sources in one pipeline
	for len(unknown) > 0 {
		n := min(len(unknown), most)
		err := s.Pipelined(ctx, func(p redis.Pipeliner) {
			for _, c := range unknown[:n] {
				c.Cmd = script.BySource(ctx, c.Keys, c.Args...)
				_ = p.Process(ctx, sent(c.Cmd))
			}
		})
		if first == nil {
			first = err
		}
		unknown = unknown[n:]
	}
	return first
}
