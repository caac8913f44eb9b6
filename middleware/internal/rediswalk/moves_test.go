package rediswalk

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

// Each counter alone shows that entries may have moved, or that the counters cannot tell. Other calls do not.
func TestDatabaseMovesSince(t *testing.T) {
	t.Parallel()
	earlier := DatabaseMoves{Run: "a", Calls: 5, Infos: 1000, Resets: "calls=1,usec=20"}
	for name, c := range map[string]struct {
		now  DatabaseMoves
		want bool
	}{
		"nothing":                         {DatabaseMoves{Run: "a", Calls: 5, Infos: 1001, Resets: "calls=1,usec=20"}, false},
		"a call":                          {DatabaseMoves{Run: "a", Calls: 6, Infos: 1001, Resets: "calls=1,usec=20"}, true},
		"a reset and a call":              {DatabaseMoves{Run: "a", Calls: 1, Infos: 2000, Resets: "calls=1,usec=20"}, true},
		"a reset and as many calls":       {DatabaseMoves{Run: "a", Calls: 5, Infos: 3, Resets: "calls=1,usec=20"}, true},
		"a reset and as many INFO":        {DatabaseMoves{Run: "a", Calls: 5, Infos: 1001, Resets: "calls=1,usec=21"}, true},
		"another run":                     {DatabaseMoves{Run: "b", Infos: 1}, false},
		"another run, and a call":         {DatabaseMoves{Run: "b", Calls: 1, Infos: 1}, true},
		"another run, and a reset":        {DatabaseMoves{Run: "b", Infos: 1, Resets: "calls=1,usec=20"}, true},
		"no answer any more":              {DatabaseMoves{}, true},
		"another run, with as many calls": {DatabaseMoves{Run: "b", Calls: 5, Infos: 1001, Resets: "calls=1,usec=20"}, true},
	} {
		require.Equal(t, c.want, c.now.Since(earlier), name)
	}
	require.True(t, earlier.Since(DatabaseMoves{}), "no answer before")
	require.False(t, DatabaseMoves{}.Since(DatabaseMoves{}), "a server that shows nothing")
}

// The counters are those of the server. Its own reset of them does not go unnoticed.
func TestDatabaseMovesOfAServer(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	s, err := New(rdb)
	require.NoError(t, err)
	moves := func() DatabaseMoves {
		m, err := s.DatabaseMoves(t.Context())
		require.NoError(t, err)
		return m
	}
	require.NoError(t, rdb.Set(t.Context(), "k", "v", 0).Err())
	before := moves()
	require.NotEmpty(t, before.Run)
	require.False(t, moves().Since(before), "INFO alone")
	for _, command := range [][]any{{"move", "k", 1}, {"swapdb", 0, 1}, {"config", "resetstat"}} {
		before = moves()
		require.NoError(t, rdb.Do(t.Context(), command...).Err())
		require.True(t, moves().Since(before), command)
	}
	before = moves()
	require.False(t, moves().Since(before), "calls before do not count")
}

// A server that leaves sections out of INFO shows neither its other databases nor calls of SWAPDB.
func TestInfoWithoutSections(t *testing.T) {
	t.Parallel()
	addr := redistest.Answering(t, func(command string) string {
		if command != "info" {
			return "-ERR unknown command"
		}
		const info = "redis_mode:standalone\r\nrole:master\r\nrun_id:a\r\n"
		return fmt.Sprintf("$%d\r\n%s", len(info), info)
	})
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = rdb.Close() })
	s, err := New(rdb)
	require.NoError(t, err)
	_, err = s.OtherDatabases(t.Context())
	require.ErrorIs(t, err, ErrNoInfo)
	moves, err := s.DatabaseMoves(t.Context())
	require.NoError(t, err)
	require.Empty(t, moves.Run)
}
