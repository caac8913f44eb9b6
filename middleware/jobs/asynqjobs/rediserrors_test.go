package asynqjobs_test

import (
	"context"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// Text that an error of the server quotes is not passed on.
func TestRedisErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	ctx := t.Context()
	// asynq's script fails on a key of another type.
	require.NoError(t, b.rdb.Set(ctx, "asynq:{default}:t:an-id", "x", 0).Err())
	require.NoError(t, b.rdb.Set(ctx, "asynq:{default}:pending", "x", 0).Err())
	_, err := b.client.Enqueue(asynq.NewTask("secret-type", []byte("secret")), asynq.TaskID("another"))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
	_, err = b.client.Enqueue(asynq.NewTask("t", nil), asynq.TaskID("an-id"))
	require.ErrorIs(t, err, asynq.ErrTaskIDConflict)
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	_, err = b.client.EnqueueContext(ctx, asynq.NewTask("t", nil))
	require.ErrorIs(t, err, context.Canceled)

	for _, text := range []quotation{
		"ERR unknown command 'evalsha', with args beginning with: 'abc' '1' 'secret' ",
		"WRONGTYPE Operation against a key holding the wrong kind of value 'secret'",
	} {
		rdb := redis.NewClient(&redis.Options{Addr: b.srv.Addr()})
		rdb.AddHook(text)
		c, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), b.e)
		require.NoError(t, err)
		_, err = c.Enqueue(asynq.NewTask("t", nil))
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
		err = c.Ping()
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
		require.NoError(t, rdb.Close())
	}
}

// quotation answers every command with an error that quotes a value.
type quotation string

func (q quotation) Error() string { return string(q) }
func (quotation) RedisError()     {}

func (quotation) DialHook(next redis.DialHook) redis.DialHook { return next }
func (quotation) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (q quotation) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		cmd.SetErr(q)
		return q
	}
}
