package monitor

import (
	"context"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
)

// withoutMemory is a hook for servers that do not offer MEMORY in scripts, as some
// managed services do. asynq's Inspector estimates the memory of a queue with it, and
// fails for the whole queue without it. It also fails for a queue with a list that names
// a missing task. The hook answers such a script with 0.
type withoutMemory struct{}

func (withoutMemory) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (withoutMemory) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (withoutMemory) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil {
			return nil
		}
		script, ok := cmd.(*redis.Cmd)
		if !ok || !rediserr.NotOffered(err) && !isMissingTask(err) {
			return err
		}
		switch args := cmd.Args(); cmd.Name() {
		case "evalsha":
			// The text of the script is not known. go-redis sends it after this answer.
			script.SetErr(rediscmd.ErrUnknownScript)
			return rediscmd.ErrUnknownScript
		case "eval":
			if text, _ := args[1].(string); strings.Contains(text, `"MEMORY", "USAGE"`) {
				script.SetErr(nil)
				script.SetVal(int64(0))
				return nil
			}
		}
		return err
	}
}

// isMissingTask reports whether asynq's estimate failed because a list names a task that does not exist. Redis may have
// evicted it, or an attacker may have added the name.
func isMissingTask(err error) bool {
	return rediserr.NoNumber(err, "bytes")
}
