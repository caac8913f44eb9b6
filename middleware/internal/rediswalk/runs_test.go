package rediswalk

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

// A prefix that is not UTF-8 does not make a record unreadable: its refusal and its replicas would be forgotten.
func TestRunsOfBinaryPrefixes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := New(redistest.Start(t).Client(t))
	require.NoError(t, err)
	job, keys, master := strings.Repeat("1", 32), strings.Repeat("2", refusedSize), strings.Repeat("3", 40)
	r := Run{Operation: "seal", Job: job, From: "ns:a\xffb", To: "ns:\xff", Replicas: map[string]int{master: 2}}
	id, err := s.RegisterRun(ctx, r)
	require.NoError(t, err)
	require.NoError(t, s.CheckRun(ctx, id))
	require.NoError(t, s.RefuseRun(ctx, id, r, keys))
	refused, err := s.WasRefused(ctx, Run{From: "ns:a\xfe", To: "ns:a\xfe"}, keys)
	require.NoError(t, err)
	require.True(t, refused)
	refused, err = s.WasRefused(ctx, Run{From: "ms:", To: "ms:"}, keys)
	require.NoError(t, err)
	require.False(t, refused)
	replicas, err := s.Unconfirmed(ctx, job, "", nil)
	require.NoError(t, err)
	require.Equal(t, map[string]int{master: 2}, replicas)
	require.True(t, IsRuns(s.Client.HGetAll(ctx, RunsName).Val()))
}

// A refusal is recorded also after the record of the run was lost.
func TestRefusalOfALostRecord(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := New(redistest.Start(t).Client(t))
	require.NoError(t, err)
	keys := strings.Repeat("2", refusedSize)
	r := Run{Operation: "seal", Job: strings.Repeat("1", 32), From: "ns:", To: "ns:"}
	id, err := s.RegisterRun(ctx, r)
	require.NoError(t, err)
	require.NoError(t, s.Client.Del(ctx, RunsName).Err())
	require.NoError(t, s.RefuseRun(ctx, id, r, keys))
	refused, err := s.WasRefused(ctx, r, keys)
	require.NoError(t, err)
	require.True(t, refused)
}

// The refusal of a run whose record was lost does not make the checkpoint of another run useless.
func TestRefusalOfALostRecordUndoesNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := New(redistest.Start(t).Client(t))
	require.NoError(t, err)
	refused := Run{Operation: "seal", Job: strings.Repeat("1", 32), From: "ns:", To: "ns:"}
	lost, err := s.RegisterRun(ctx, refused)
	require.NoError(t, err)
	require.NoError(t, s.Client.Del(ctx, RunsName).Err())
	other, err := s.RegisterRun(ctx, Run{Operation: "seal", Job: strings.Repeat("2", 32), From: "ns:", To: "ns:"})
	require.NoError(t, err)
	require.NoError(t, s.RefuseRun(ctx, lost, refused, strings.Repeat("3", refusedSize)))
	require.NoError(t, s.CheckRun(ctx, other))
	require.True(t, IsRuns(s.Client.HGetAll(ctx, RunsName).Val()))
	require.ErrorIs(t, s.CheckRun(ctx, lost), ErrRunUndone)
}

// The refusal of a run whose record was lost is not the first record that is removed.
func TestRefusalOfALostRecordIsKept(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := New(redistest.Start(t).Client(t))
	require.NoError(t, err)
	keys := strings.Repeat("2", refusedSize)
	r := Run{Operation: "seal", Job: strings.Repeat("1", 32), From: "ns:", To: "ns:"}
	require.NoError(t, s.RefuseRun(ctx, "lost", r, keys))
	last := ""
	for range maxRuns {
		last, err = s.RegisterRun(ctx, r)
		require.NoError(t, err)
	}
	require.LessOrEqual(t, s.Client.HLen(ctx, RunsName).Val(), int64(maxRuns/2+2), "there are runs, the refusal and the sequence")
	require.NoError(t, s.CheckRun(ctx, last))
	refused, err := s.WasRefused(ctx, r, keys)
	require.NoError(t, err)
	require.True(t, refused)
}

// Many refusals of runs whose records were lost do not remove the records of runs. The latest refusals stay.
func TestManyRefusalsOfLostRecords(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := New(redistest.Start(t).Client(t))
	require.NoError(t, err)
	r := Run{Operation: "seal", Job: strings.Repeat("1", 32), From: "ns:", To: "ns:"}
	keys := func(i int) string { return fmt.Sprintf("%0*x", refusedSize, i) }
	first, err := s.RegisterRun(ctx, r)
	require.NoError(t, err)
	for i := range maxRuns {
		r.Began = int64(i + 1)
		require.NoError(t, s.RefuseRun(ctx, fmt.Sprint("lost", i), r, keys(i)))
	}
	r.Began = 0 // the server did not tell the time
	require.NoError(t, s.RefuseRun(ctx, "untimed", r, keys(maxRuns)))
	second, err := s.RegisterRun(ctx, r)
	require.NoError(t, err)
	require.NoError(t, s.CheckRun(ctx, first))
	require.NoError(t, s.CheckRun(ctx, second))
	for i, want := range map[int]bool{0: false, maxRuns - 1: true, maxRuns: true} {
		refused, err := s.WasRefused(ctx, r, keys(i))
		require.NoError(t, err)
		require.Equal(t, want, refused, i)
	}
}

// A resumed run waits for the replicas that it had before, even if another run has completed the same job since. It also
// waits for the replicas that it found when it was resumed.
func TestReplicasOfAResumedRun(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := New(redistest.Start(t).Client(t))
	require.NoError(t, err)
	job, first, second := strings.Repeat("1", 32), strings.Repeat("3", 40), strings.Repeat("4", 40)
	r := Run{Operation: "seal", Job: job, From: "ns:", To: "ns:", Replicas: map[string]int{first: 1}}
	stopped, err := s.RegisterRun(ctx, r)
	require.NoError(t, err)
	require.NoError(t, s.ExpectReplicas(ctx, stopped, map[string]int{first: 1, second: 2, "unknown": 1}))
	expected := map[string]int{first: 1, second: 2}
	replicas, err := s.Unconfirmed(ctx, job, stopped, nil)
	require.NoError(t, err)
	require.Equal(t, expected, replicas)

	r.Replicas = nil
	other, err := s.RegisterRun(ctx, r)
	require.NoError(t, err)
	require.NoError(t, s.EndRun(ctx, other))
	replicas, err = s.Unconfirmed(ctx, job, stopped, nil)
	require.NoError(t, err)
	require.Equal(t, expected, replicas)
	replicas, err = s.Unconfirmed(ctx, job, "", nil)
	require.NoError(t, err)
	require.Empty(t, replicas)
}

// A server that started after a run that was not confirmed is expected to have its replicas. One that is older was promoted.
func TestReplicasOfARestartedMaster(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := New(redistest.Start(t).Client(t))
	require.NoError(t, err)
	job, old, now := strings.Repeat("1", 32), strings.Repeat("3", 40), strings.Repeat("4", 40)
	_, err = s.RegisterRun(ctx, Run{Operation: "seal", Job: job, Replicas: map[string]int{old: 2}, Began: 1000})
	require.NoError(t, err)
	for started, want := range map[int64]int{0: 0, 900: 0, 1001: 0, 1003: 2} {
		replicas, err := s.Unconfirmed(ctx, job, "", []State{{RunID: now, Started: started}})
		require.NoError(t, err)
		require.Equal(t, want, replicas[now], started)
	}
}

// The error of a checkpoint that is out of date names the one cause that applies.
func TestUndoneRunNamesItsCause(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, err := New(redistest.Start(t).Client(t))
	require.NoError(t, err)
	register := func(job, namespace string) string {
		id, err := s.RegisterRun(ctx, Run{Operation: "seal", Job: strings.Repeat(job, 32), From: namespace, To: namespace})
		require.NoError(t, err)
		return id
	}
	changed, done := register("1", "a:"), register("2", "b:")
	register("3", "a:")
	require.NoError(t, s.EndRun(ctx, done))
	for id, cause := range map[string]string{changed: "a later run", done: "already complete", "lost": "no record"} {
		err := s.CheckRun(ctx, id)
		require.ErrorIs(t, err, ErrRunUndone)
		for _, text := range []string{"a later run", "already complete", "no record"} {
			require.Equal(t, text == cause, strings.Contains(err.Error(), text), "%v", err)
		}
	}
}
