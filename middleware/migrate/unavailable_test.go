package migrate_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// refusesOnce refuses one INFO after the first entry was written, as a proxy in trouble does.
type refusesOnce struct{ written, refused atomic.Bool }

type refusal string

func (r refusal) Error() string { return string(r) }
func (refusal) RedisError()     {}

func (*refusesOnce) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *refusesOnce) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if text := fmt.Sprint(cmd.Args()...); strings.HasPrefix(cmd.Name(), "eval") && strings.Contains(text, "entry") {
				r.written.Store(true)
			}
		}
		return next(ctx, cmds)
	}
}

func (r *refusesOnce) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "info" && len(cmd.Args()) == 1 && r.written.Load() && r.refused.CompareAndSwap(false, true) {
			cmd.SetErr(refusal("ERR 42"))
			return cmd.Err()
		}
		return next(ctx, cmd)
	}
}

// A run that can no longer see the memory of the server ends. It does not go on as if there were enough.
func TestMemoryNoLongerShown(t *testing.T) {
	t.Parallel()
	rdb, ctx := redistest.Start(t).Client(t), t.Context()
	pipe := rdb.Pipeline()
	for i := range 20_000 {
		pipe.Set(ctx, fmt.Sprint("entry", i), "small", 0)
	}
	_, err := pipe.Exec(ctx)
	require.NoError(t, err)
	var used int64
	_, rest, _ := strings.Cut(rdb.Info(ctx, "memory").Val(), "used_memory:")
	_, err = fmt.Sscan(rest, &used)
	require.NoError(t, err)
	require.NoError(t, rdb.ConfigSet(ctx, "maxmemory", fmt.Sprint(used+4<<20)).Err())
	hook := new(refusesOnce)
	rdb.AddHook(hook)
	_, err = migratetest.Unproven(tuned(ctx, rediswalk.Tuning{BatchSize: 100}), rdb, migrate.Config{Operation: migrate.Seal, Keys: sealtest.Keyring(t)})
	require.ErrorIs(t, err, rediswalk.ErrNoState)
	require.True(t, hook.refused.Load())
}

// A run says that it cannot notice SWAPDB and MOVE if the server does not show their counters.
func TestCountersNotShown(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	require.NoError(t, srv.Client(t).Set(t.Context(), "ns:k", "v", 0).Err())
	rdb := redis.NewClient(&redis.Options{Addr: redistest.Refusing(t, srv.Addr(), map[string]string{"info all": "ERR 42"})})
	t.Cleanup(func() { _ = rdb.Close() })
	r := run(t, rdb, migrate.Config{Operation: migrate.Seal, From: migrate.Space{Namespace: "ns"}, Keys: sealtest.Keyring(t)})
	require.Contains(t, text(t, r), "the run cannot notice SWAPDB and MOVE")
}
