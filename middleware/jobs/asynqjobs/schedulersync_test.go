package asynqjobs_test

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

func periodic(name string, every time.Duration) asynqjobs.PeriodicTask {
	return asynqjobs.PeriodicTask{Name: name, When: asynqjobs.Every(every), Task: asynq.NewTask("t", []byte(name)), Options: []asynq.Option{asynq.MaxRetry(1)}}
}

func TestSyncDeclaresTheWholeSet(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	_, other := w.with(w.e)
	w.register(other, "old", "old")
	sync := func(s *asynqjobs.Scheduler, want asynqjobs.SyncResult, tasks ...asynqjobs.PeriodicTask) {
		t.Helper()
		got, err := s.Sync(t.Context(), tasks)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	a, b, c := periodic("a", time.Minute), periodic("b", time.Minute), periodic("c", time.Hour)
	sync(w.s, asynqjobs.SyncResult{Changed: 2, Cancelled: 1}, a, b)
	sync(other, asynqjobs.SyncResult{Kept: 2}, a, b)
	require.Equal(t, []string{"a", "b"}, w.names(w.s))
	w.advance(time.Minute)
	w.run(w.s, other)
	require.ElementsMatch(t, []string{"t a", "t b"}, w.pending("default"))

	b.When = asynqjobs.Every(2 * time.Minute)
	sync(w.s, asynqjobs.SyncResult{Changed: 2, Cancelled: 1}, b, c)
	require.Equal(t, []string{"b", "c"}, w.names(other))

	// A mistake changes nothing.
	for name, tasks := range map[string][]asynqjobs.PeriodicTask{
		"twice":   {a, a},
		"a spec":  {a, {Name: "x", When: asynqjobs.Cron("TZ=UTC"), Task: asynq.NewTask("t", nil)}},
		"no name": {a, {When: asynqjobs.Every(time.Minute), Task: asynq.NewTask("t", nil)}},
		"no task": {a, {Name: "x", When: asynqjobs.Every(time.Minute)}},
	} {
		_, err := w.s.Sync(t.Context(), tasks)
		require.ErrorContains(t, err, "task 1", name)
	}
	require.Equal(t, []string{"b", "c"}, w.names(other))

	// Values that an attacker planted do not keep it from its work.
	raw := w.rdb.HVals(t.Context(), schedulesKey).Val()[0]
	require.NoError(t, w.rdb.HSet(t.Context(), schedulesKey, "planted", raw).Err())
	sync(w.s, asynqjobs.SyncResult{Kept: 1, Cancelled: 1}, c)
	require.NoError(t, w.rdb.HDel(t.Context(), schedulesKey, "planted").Err())
	sync(w.s, asynqjobs.SyncResult{Cancelled: 1})
	require.Empty(t, w.names(w.s))
}

// A schedule that cannot be read at this time may have to be cancelled.
func TestSyncDuringAnOutage(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	a := &failingAEAD{Keyring: newKeyring(t)}
	w.e = newEncryptor(t, a)
	_, other := w.with(w.e)
	w.register(other, "old", "old")
	_, w.s = w.with(w.e)
	a.set(aead.ErrKeyServiceUnavailable)
	_, err := w.s.Sync(t.Context(), []asynqjobs.PeriodicTask{periodic("a", time.Minute)})
	require.ErrorIs(t, err, jobs.ErrKeyServiceUnavailable)
	a.set(nil)
	got, err := w.s.Sync(t.Context(), []asynqjobs.PeriodicTask{periodic("a", time.Minute)})
	require.NoError(t, err)
	require.Equal(t, 1, got.Cancelled)
	require.Equal(t, []string{"a"}, w.names(w.s))
}
