package monitor

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/rediscmd"
)

// refusal is an error reply.
type refusal string

func (r refusal) Error() string { return string(r) }
func (refusal) RedisError()     {}

// Only an answer that the server does not offer MEMORY counts: a script that may have run in part is not sent again.
func TestRefusedMemoryCommand(t *testing.T) {
	t.Parallel()
	const script = `return redis.call("MEMORY", "USAGE", KEYS[1])`
	for text, refused := range map[string]bool{
		"ERR unknown command 'memory'":             true,
		"ERR MEMORY is restricted":                 false,
		"MEMORY is disabled":                       true,
		"NOAUTH Authentication required.":          false,
		"READONLY You can't write":                 false,
		"ERR max number of clients reached":        false,
		"WRONGTYPE Operation against a key":        false,
		"ERR upstream timed out":                   false,
		"NOSCRIPT No matching script. Use EVAL.":   false,
		"OOM command not allowed when used memory": false,
	} {
		process := withoutMemory{}.ProcessHook(func(_ context.Context, cmd redis.Cmder) error {
			cmd.SetErr(refusal(text))
			return cmd.Err()
		})
		ask := func(args ...any) (*redis.Cmd, error) {
			cmd := redis.NewCmd(t.Context(), args...)
			return cmd, process(t.Context(), cmd)
		}
		_, err := ask("evalsha", "0a", 1, "k")
		require.Equal(t, refused, errors.Is(err, rediscmd.ErrUnknownScript), text)
		cmd, err := ask("eval", script, 1, "k")
		require.Equal(t, refused, err == nil, text)
		if refused {
			require.EqualValues(t, 0, cmd.Val(), text)
		}
		_, err = ask("eval", "return 1", 0)
		require.Equal(t, refusal(text), err)
	}
}
