package rediscmd_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/redistest"
)

func TestScript(t *testing.T) {
	t.Parallel()
	rdb, ctx := redistest.Start(t).Client(t), t.Context()
	require.Equal(t, "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", rediscmd.NewScript("return 1").Digest)

	script := rediscmd.NewScript("return KEYS[1] .. ARGV[1]")
	byDigest := script.ByDigest(ctx, []string{"a"}, "b")
	require.Error(t, rdb.Process(ctx, byDigest))
	require.True(t, rediscmd.UnknownScript(byDigest.Err()))
	require.True(t, rediscmd.UnknownScript(rediscmd.ErrUnknownScript))
	for _, command := range []*redis.Cmd{script.BySource(ctx, []string{"a"}, "b"), script.ByDigest(ctx, []string{"a"}, "b")} {
		require.NoError(t, rdb.Process(ctx, command))
		require.Equal(t, "ab", command.Val())
	}
}

// go-redis leaves the commands without an error if the server refuses the connection.
func TestExecOverARefusedConnection(t *testing.T) {
	t.Parallel()
	srv := redistest.StartWith(t, redistest.Options{Password: "right"})
	o := srv.ClientOptions()
	o.Password = "wrong"
	rdb, ctx := redis.NewClient(o), t.Context()
	t.Cleanup(func() { _ = rdb.Close() })
	for name, pipe := range map[string]redis.Pipeliner{"pipeline": rdb.Pipeline(), "transaction": rdb.TxPipeline()} {
		get := pipe.Get(ctx, "k")
		_, refused := rediscmd.Exec(ctx, pipe)
		require.ErrorContains(t, refused, "WRONGPASS", name)
		require.ErrorContains(t, get.Err(), "WRONGPASS", name)
	}

	pipe := srv.Client(t).Pipeline()
	missing, wrongType := pipe.Get(ctx, "k"), pipe.Do(ctx, "lpush", "k")
	cmds, refused := rediscmd.Exec(ctx, pipe)
	require.NoError(t, refused)
	require.Len(t, cmds, 2)
	require.ErrorIs(t, missing.Err(), redis.Nil)
	require.ErrorContains(t, wrongType.Err(), "wrong number of arguments")
}
