package rediswalk

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

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
					Work:  func(_ context.Context, names []string) (int, error) { return len(names), nil },
					Merge: func(tally, result int) int { n += result; return tally + result },
				}
				err := w.Run(ctx, nil, "")
				return n, w, err
			}
			_, _, err = walk()
			require.ErrorContains(t, err, "call INFO", "a migration needs INFO")

			s.AllowUnwatched = true
			n, w, err := walk()
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.True(t, w.Unwatched())
			others, err := s.OtherDatabases(ctx)
			require.NoError(t, err)
			require.Empty(t, others)
			moves, err := s.DatabaseMoves(ctx)
			require.NoError(t, err)
			require.Empty(t, moves.Run)
			require.True(t, moves.Since(DatabaseMoves{Run: "a"}), "the server showed its counters before")
			_, err = s.States(ctx)
			require.ErrorIs(t, err, ErrNoState)
		})
	}
	for _, text := range []string{"NOAUTH Authentication required.", "LOADING Redis is loading the dataset in memory"} {
		rdb := redis.NewClient(&redis.Options{Addr: redistest.Refusing(t, srv.Addr(), map[string]string{"info": text}), MaxRetries: -1})
		t.Cleanup(func() { _ = rdb.Close() })
		s, err := New(rdb)
		require.NoError(t, err)
		s.AllowUnwatched = true
		_, err = s.RunID(t.Context(), rdb)
		require.EqualError(t, err, fmt.Sprintf("rediswalk: cannot call INFO: %s", text))
	}
}
