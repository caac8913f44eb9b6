package rediscmd

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Exec sends the commands of a pipeline. Afterwards each command has its reply or its error.
//
// refused is the error of a server that refused a new connection. Reasons are WRONGPASS, a database out of range, and a
// client name that the user may not set. go-redis then returns the error only from its Exec. The commands of a single node
// look successful with an empty reply, so Exec gives them the error.
func Exec(ctx context.Context, pipe redis.Pipeliner) (cmds []redis.Cmder, refused error) {
	cmds, err := pipe.Exec(ctx)
	if err == nil || slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Err() != nil }) {
		return cmds, nil
	}
	for _, c := range cmds {
		c.SetErr(err)
	}
	return cmds, err
}

// Once returns a command that go-redis does not send again if the server may have run it. cmd has the reply.
func Once(cmd redis.Cmder) redis.Cmder { return once{cmd} }

type once struct{ redis.Cmder }

// NoRetry is true, for go-redis.
func (once) NoRetry() bool { return true }
