package redisstore

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestWrittenKeys(t *testing.T) {
	t.Parallel()
	known := reachOfCommands()
	keys := func(args ...any) written {
		var w written
		w.add(known, redis.NewCmd(t.Context(), args...))
		return w
	}
	all := written{all: true}
	for _, c := range []struct {
		want written
		args []any
	}{
		{written{}, []any{"GET", "k"}},
		{written{keys: []string{"k"}}, []any{"SET", []byte("k"), "v"}},
		{written{keys: []string{"k", "l"}}, []any{"unlink", "k", "l"}},
		{written{keys: []string{"k", "l"}}, []any{"evalsha", "digest", 2, "k", "l", "argument"}},
		{written{}, []any{"eval", "return 1", 0, "argument"}},
		{all, []any{"eval", "return 1", "1", "k"}},
		{all, []any{"eval", "return 1", 3, "k"}},
		{all, []any{"eval"}},
		{all, []any{"set", 42, "v"}},
		{all, []any{"set"}},
		{all, []any{"flushdb", "async"}},
		{all, []any{"mset", "k", "v"}},
		{all, []any{"a command of tomorrow", "k"}},
	} {
		require.Equal(t, c.want, keys(c.args...), c.args)
	}
}

// Reserve keeps nothing if go-redis names keys in another way than drop expects.
func TestUnknownNamesAreNotKept(t *testing.T) {
	t.Parallel()
	near, err := NewNearCache(1<<20, 1)
	require.NoError(t, err)
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", Username: "app", ContextTimeoutEnabled: true, ClientSideCache: near})
	defer func() { require.NoError(t, client.Close()) }()
	_, err = New(client)
	require.NoError(t, err)
	for _, names := range [][]string{{"k"}, {"0\x003:app\x00k", "k"}, {"1\x003:app\x00k"}} {
		token, fetch := near.Reserve("cache key", names)
		require.Zero(t, token)
		require.True(t, fetch)
	}
	token, fetch := near.Reserve("cache key", []string{"0\x003:app\x00k"})
	require.NotZero(t, token)
	require.True(t, fetch)
	near.drop(written{keys: []string{"k"}})
	require.False(t, near.FulfillOwned("cache key", token, 1, []byte("v")), "what was being fetched is dropped")
}
