package audit_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// An attacker plants huge entries under the names of jobs and of records of runs. The audit does not read them, and says so.
func TestHugeEntriesOfJobsAreNotRead(t *testing.T) {
	t.Parallel()
	const uuid = "00000000-0000-0000-0000-000000000000"
	ctx := tuned(t.Context(), rediswalk.Tuning{MaxRead: 1 << 20})
	server := redistest.Start(t)
	rdb := server.Client(t)
	huge := strings.Repeat("x", 8<<20)
	for name, put := range map[string]func(ctx context.Context, name string) *redis.IntCmd{
		"asynq:{q}:t:1":                    func(ctx context.Context, name string) *redis.IntCmd { return rdb.HSet(ctx, name, "msg", huge) },
		"asynq:{q}:t:2":                    func(ctx context.Context, name string) *redis.IntCmd { return rdb.HSet(ctx, name, "state", huge) },
		"asynq:workers:{h:1:" + uuid + "}": func(ctx context.Context, name string) *redis.IntCmd { return rdb.HSet(ctx, name, "1", huge) },
		"asynq:schedulers:{h:1:" + uuid + "}": func(ctx context.Context, name string) *redis.IntCmd {
			return rdb.RPush(ctx, name, huge)
		},
		"{sealcache:jobs:x}:schedules": func(ctx context.Context, name string) *redis.IntCmd { return rdb.HSet(ctx, name, huge, "x") },
		"{sealcache:jobs:x}:ticks":     func(ctx context.Context, name string) *redis.IntCmd { return rdb.HSet(ctx, name, "version", huge) },
		"sealcache.runs":               func(ctx context.Context, name string) *redis.IntCmd { return rdb.HSet(ctx, name, "sequence", huge) },
		"asynq:{q}:pending":            func(ctx context.Context, name string) *redis.IntCmd { return rdb.RPush(ctx, name, huge) },
		"asynq:{q}:groups":             func(ctx context.Context, name string) *redis.IntCmd { return rdb.SAdd(ctx, name, huge) },
		"asynq:{q}:scheduled": func(ctx context.Context, name string) *redis.IntCmd {
			return rdb.ZAdd(ctx, name, redis.Z{Member: huge})
		},
	} {
		require.NoError(t, rdb.FlushDB(ctx).Err())
		require.NoError(t, put(ctx, name).Err())
		sent := server.Sent(t)
		r := auditedBy(ctx, t, rdb, audit.Config{Samples: 1})
		require.Less(t, server.Sent(t)-sent, int64(1<<20), name)
		require.EqualValues(t, 1, r.NotRead, name)
		require.Equal(t, []string{name}, r.Samples["not read"])
		answer, why := r.AnythingPlaintext()
		require.Equal(t, audit.Unknown, answer, name)
		require.Contains(t, why[0], "1 entries of jobs or migration records were not read")
		answer, _ = r.AnythingSealed()
		require.Equal(t, audit.Unknown, answer, name)
		answer, _ = r.MayDestroy(1, audit.Conditions{Keyset: []aead.KeyInfo{{ID: 1, Prefix: "TINK"}}, NotPrimarySince: time.Now().Add(-48 * time.Hour)})
		require.Equal(t, audit.Unknown, answer, name)
	}
}

// A queue with many tasks is read, although it is large. Without MEMORY USAGE its size is not known.
func TestLargeQueuesAreRead(t *testing.T) {
	t.Parallel()
	const queue = "asynq:{q}:pending"
	ctx := tuned(t.Context(), rediswalk.Tuning{MaxRead: 1 << 20})
	rdb := redistest.Start(t).Client(t)
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range 50_000 {
			p.RPush(ctx, queue, fmt.Sprintf("%036d", i))
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, rdb.MemoryUsage(ctx, queue, 0).Val(), int64(1<<20))
	r := auditedBy(ctx, t, rdb, audit.Config{})
	require.Zero(t, r.NotRead)
	require.EqualValues(t, 1, r.Jobs.Unparsed, "there are no tasks with these ids")

	require.NoError(t, rdb.Do(ctx, "acl", "setuser", "look", "on", ">PASSWORD", "~*", "+@all", "-memory").Err())
	o := *rdb.Options()
	o.Username, o.Password = "look", "PASSWORD"
	look := redis.NewClient(&o)
	t.Cleanup(func() { _ = look.Close() })
	r = auditedBy(ctx, t, look, audit.Config{})
	require.EqualValues(t, 1, r.NotRead)
	answer, _ := r.AnythingPlaintext()
	require.Equal(t, audit.Unknown, answer)
}

// A message with millions of headers would need many times its size in memory.
func TestMessagesWithTooManyHeadersAreNotUnderstood(t *testing.T) {
	t.Parallel()
	var msg strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&msg, "\x7a\x06\x0a\x04%04d", i)
	}
	rdb := redistest.Start(t).Client(t)
	require.NoError(t, rdb.HSet(t.Context(), "asynq:{q}:t:1", "msg", msg.String()).Err())
	r := audited(t, rdb, audit.Config{})
	require.EqualValues(t, 1, r.Jobs.Unparsed)
	require.Zero(t, r.Jobs.Headers.Plaintext.Values)
}

// longString is a hook of a client that reports the size of a string as more than Redis usually allows, and fails on GET.
type longString struct{ redis.Hook }

func (longString) DialHook(next redis.DialHook) redis.DialHook { return next }

func (longString) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (longString) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		switch cmd.Name() {
		case "strlen":
			cmd.(*redis.IntCmd).SetVal(1 << 31) //nolint:forcetypeassert // a command is one
			return nil
		case "get":
			panic("the value is read")
		}
		return next(ctx, cmd)
	}
}

// A value that is larger than Redis usually allows is not opened.
func TestHugeValuesAreNotOpened(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(shared.Single.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(longString{})
	_, err := audit.Open(t.Context(), rdb, "", "k", sealtest.Keyring(t))
	require.ErrorIs(t, err, middleware.ErrTooLarge)
}
