package rediswalk

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/internal/redistest"
)

// One refusal proves nothing about a server that has answered INFO before. The same holds for each section of INFO.
func TestRefusedInfoOnce(t *testing.T) {
	t.Parallel()
	ctx, srv := t.Context(), redistest.Start(t)
	for name, call := range map[string]func(s *Servers) error{
		"run id":          func(s *Servers) error { _, err := s.RunID(ctx, s.Client); return err },
		"states":          func(s *Servers) error { _, err := s.States(ctx); return err },
		"other databases": func(s *Servers) error { _, err := s.OtherDatabases(ctx); return err },
		"moves":           func(s *Servers) error { _, err := s.DatabaseMoves(ctx); return err },
	} {
		const second = 2
		addr, _ := redistest.RefusingOnce(t, srv.Addr(), "info", second, "ERR max requests limit exceeded")
		rdb := redis.NewClient(&redis.Options{Addr: addr})
		t.Cleanup(func() { _ = rdb.Close() })
		s, err := New(rdb)
		require.NoError(t, err)
		s.AllowUnwatched = true
		require.NoError(t, call(s), name)
		err = call(s.reconnected(0))
		require.EqualError(t, err, "the server now refuses INFO, although it answered INFO before (allow it in the ACL of the Redis user, or in the proxy): ERR max requests limit exceeded", name)
		require.True(t, transient(err), name)
		require.NoError(t, call(s), name)
	}
}

// A server that refuses INFO, in any wording, can be scanned by a caller that accepts this. It is never taken for one that
// was watched.
func TestRefusedInfo(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	require.NoError(t, srv.Client(t).Set(t.Context(), "k", "v", 0).Err())
	for _, text := range []string{
		"ERR unknown command 'INFO'", "ERR command 'INFO' is blocked", "ERR unsupport command", "ERR access denied",
		"ERR INFO is restricted", "ERR 42", "NOPERM this user has no permissions to run the 'info' command",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			addr := redistest.Refusing(t, srv.Addr(), map[string]string{"info": text})
			rdb := redis.NewClient(&redis.Options{Addr: addr})
			t.Cleanup(func() { _ = rdb.Close() })
			s, err := New(rdb)
			require.NoError(t, err)
			walk := func() (int, *Walk[int], error) {
				n := 0
				w := &Walk[int]{
					Servers: s, Pattern: "*", Log: slog.New(slog.DiscardHandler), Tuning: TuningOf(ctx, 0),
					Work:  func(_ context.Context, names []string) (*int, error) { return new(len(names)), nil },
					Merge: func(_, result *int) { n += *result },
				}
				err := w.Run(ctx, nil, "")
				return n, w, err
			}
			_, _, err = walk()
			require.ErrorIs(t, err, ErrNoInfo, "a migration needs INFO")

			s.AllowUnwatched = true
			n, w, err := walk()
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.True(t, w.Unwatched())
			_, err = s.OtherDatabases(ctx)
			require.ErrorIs(t, err, ErrNoInfo)
			moves, err := s.DatabaseMoves(ctx)
			require.NoError(t, err)
			require.Empty(t, moves.Run)
			require.True(t, moves.Since(DatabaseMoves{Run: "a"}), "the server showed its counters before")
			_, err = s.States(ctx)
			require.ErrorIs(t, err, ErrNoInfo)
		})
	}
	for _, text := range []string{"NOAUTH Authentication required.", "LOADING Redis is loading the dataset in memory"} {
		rdb := redis.NewClient(&redis.Options{Addr: redistest.Refusing(t, srv.Addr(), map[string]string{"info": text}), MaxRetries: -1})
		t.Cleanup(func() { _ = rdb.Close() })
		s, err := New(rdb)
		require.NoError(t, err)
		s.AllowUnwatched = true
		_, err = s.RunID(t.Context(), rdb)
		require.EqualError(t, err, fmt.Sprintf("cannot call INFO: %s", text))
	}
}

// An error of the client for a Cluster may quote arguments, too. The remedy of this package is kept.
func TestErrorOfTheMasters(t *testing.T) {
	t.Parallel()
	addr := redistest.Answering(t, func(command string) string {
		return "-ERR unknown command '" + command + "', with args beginning with: 'secret'"
	})
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{addr}, MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	s, err := New(rdb)
	require.NoError(t, err)
	_, err = s.RunIDs(t.Context())
	require.ErrorContains(t, err, "cannot query the masters of the Redis Cluster: ERR unknown command 'cluster'")
	require.NotContains(t, err.Error(), "secret")
	require.Equal(t, errNoClusterNodes.Error(), rediserr.Text(errNoClusterNodes))
}

// An error says that it is Redis that does not answer.
func TestErrorOfAPipeline(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	o := srv.ClientOptions()
	o.ReadTimeout, o.MaxRetries = 50*time.Millisecond, -1
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	s, err := New(rdb)
	require.NoError(t, err)
	require.NoError(t, rdb.Ping(t.Context()).Err())
	require.NoError(t, srv.Pause())
	_, err = s.Kinds(t.Context(), []string{"k"})
	require.NoError(t, srv.Resume())
	require.ErrorContains(t, err, "cannot call Redis: ")
}

// A value that a proxy could not read is not missing.
func TestReadThroughAProxy(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]string{
		"*2\r\n$1\r\na\r\n-ERR upstream failure": "cannot call MGET: ERR upstream failure",
		"*2\r\n$1\r\na\r\n:1":                    "MGET returned a value of the type int64",
		"*3\r\n$-1\r\n$-1\r\n$-1":                "MGET returned 3 values for 2 keys",
		"*0":                                     "MGET returned 0 values for 2 keys",
	} {
		addr := redistest.Answering(t, func(command string) string {
			if command == "mget" {
				return reply
			}
			return "-ERR unknown command"
		})
		rdb := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
		t.Cleanup(func() { _ = rdb.Close() })
		s, err := New(rdb)
		require.NoError(t, err)
		_, err = s.Read(t.Context(), []string{"a", "b"})
		require.EqualError(t, err, want)
	}
}

// Envoy returns an error in the place of an entry that is not a string. Redis itself returns nil.
func TestReadOfOtherTypesThroughAProxy(t *testing.T) {
	t.Parallel()
	addr := redistest.Answering(t, func(command string) string {
		if command == "mget" {
			return "*2\r\n$1\r\na\r\n-WRONGTYPE Operation against a key holding the wrong kind of value"
		}
		return "-ERR unknown command"
	})
	rdb := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	t.Cleanup(func() { _ = rdb.Close() })
	s, err := New(rdb)
	require.NoError(t, err)
	values, err := s.Read(t.Context(), []string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("a"), nil}, values)
}
