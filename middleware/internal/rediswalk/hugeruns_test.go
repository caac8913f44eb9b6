package rediswalk

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

// An attacker plants fields that no run writes. They are not read, and the records still count.
func TestHugeFieldsInRunsAreNotRead(t *testing.T) {
	t.Parallel()
	ctx, server := t.Context(), redistest.Start(t)
	s, err := New(server.Client(t))
	require.NoError(t, err)
	job, huge := strings.Repeat("1", 32), strings.Repeat("x", 8<<20)
	require.NoError(t, s.Client.HSet(ctx, RunsName, strings.Repeat("2", 16), huge, huge, "v").Err())
	sent := server.Sent(t)
	id, err := s.RegisterRun(ctx, Run{Operation: "seal", Job: job, From: "ns:", To: "ns:"})
	require.NoError(t, err)
	require.NoError(t, s.CheckRun(ctx, id))
	require.NoError(t, s.EndRun(ctx, strings.Repeat("2", 16)))
	require.NoError(t, s.EndRun(ctx, id))
	require.ErrorIs(t, s.CheckRun(ctx, id), ErrRunUndone)
	require.Less(t, server.Sent(t)-sent, int64(1<<20))
}

// Many planted records are refused before they are read. As many of the largest records as a run keeps are read.
func TestTooManyRunsAreRefused(t *testing.T) {
	t.Parallel()
	ctx, server := t.Context(), redistest.Start(t)
	s, err := New(server.Client(t))
	require.NoError(t, err)
	plant := func(n int, record string) {
		t.Helper()
		require.NoError(t, s.Client.Del(ctx, RunsName).Err())
		pipe := s.Client.Pipeline()
		for i := range n {
			pipe.HSet(ctx, RunsName, fmt.Sprintf("%016x", i), record)
		}
		_, err := pipe.Exec(ctx)
		require.NoError(t, err)
	}
	largest := strings.Repeat("x", maxRunBytes)
	plant(maxRuns, largest)
	_, err = s.runs(ctx)
	require.NoError(t, err)
	for n, record := range map[int]string{maxRunsBytes/maxRunBytes + 1: largest, maxRunsFields + 1: ""} {
		plant(n, record)
		sent := server.Sent(t)
		for _, read := range []func() error{
			func() error { return s.CheckRun(ctx, "id") },
			func() error { return s.EndRun(ctx, "id") },
			func() error { _, err := s.WasRefused(ctx, Run{}, ""); return err },
		} {
			require.ErrorIs(t, read(), errTooManyRuns)
		}
		require.Less(t, server.Sent(t)-sent, int64(1<<20))
	}
}
