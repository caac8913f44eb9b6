package migrate

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// infos counts the calls of INFO, and answers them without a server.
type infos struct{ n int }

func (*infos) DialHook(redis.DialHook) redis.DialHook {
	return func(context.Context, string, string) (net.Conn, error) { return nil, redis.ErrClosed }
}

func (i *infos) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(context.Context, redis.Cmder) error {
		i.n++
		return nil
	}
}

func (*infos) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A run that ended because INFO was refused for half a minute does not call INFO again for as long.
func TestNoSecondLookWithoutInfo(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(new(redis.Options))
	t.Cleanup(func() { _ = rdb.Close() })
	calls := new(infos)
	rdb.AddHook(calls)
	servers, err := rediswalk.New(rdb)
	require.NoError(t, err)
	m := &migration{servers: servers, walk: new(rediswalk.Walk[Counts])}
	refused := fmt.Errorf("wrapped: %w", rediswalk.ErrInfoRefused)
	require.Equal(t, refused, m.watched(t.Context(), func(context.Context) error { return refused }))
	require.Equal(t, 1, calls.n)
}
