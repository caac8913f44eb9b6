package asynqjobs_test

import (
	"context"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// A handler finds name and time of the tick that it processes; Redis does not.
func TestTickOf(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	s, err := asynqjobs.NewScheduler(b.rdb, b.client)
	require.NoError(t, err)
	_, err = s.ScheduleOnce(t.Context(), "nightly report", asynqjobs.Every(time.Second), asynq.NewTask("t", []byte("x")))
	require.NoError(t, err)
	said := b.srv.Monitor(t)
	ticks := make(chan asynqjobs.Tick, 100)
	serve(t, b.conn, b.e, asynq.Config{Concurrency: 1}, asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error { // in their order
		tick, ok := asynqjobs.TickOf(ctx)
		if task.Type() == "t" && ok {
			ticks <- tick
		}
		if task.Type() == "other" && !ok {
			ticks <- asynqjobs.Tick{}
		}
		if len(task.Headers()) != 0 {
			t.Error("headers that the application did not set")
		}
		return nil
	}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	infos, err := s.List(t.Context())
	require.NoError(t, err)
	receive := func() asynqjobs.Tick {
		t.Helper()
		select {
		case tick := <-ticks:
			return tick
		case <-time.After(patience):
			t.Fatal("no tick")
			return asynqjobs.Tick{}
		}
	}
	for i := range 2 {
		got := receive()
		require.Equal(t, "nightly report", got.Name)
		require.True(t, got.Time.Equal(infos[0].Since.Add(time.Duration(i+1)*time.Second)), got.Time)
	}
	cancel()
	require.NoError(t, <-ended)
	_, err = b.client.Enqueue(asynq.NewTask("other", nil))
	require.NoError(t, err)
	for receive() != (asynqjobs.Tick{}) { // another task is not a tick, and comes after those that were left
	}
	require.NotContains(t, string(said.Bytes(t)), "nightly report")
}

// asynqmon shows ids up to their first "-": that part must tell ticks apart.
func TestIDsOfTicksInLists(t *testing.T) {
	t.Parallel()
	w := newClockwork(t)
	w.once("a", asynqjobs.Every(20*time.Second), "a")
	w.once("b", asynqjobs.Every(20*time.Second), "b")
	w.advance(time.Minute)
	w.run()
	_, ids := w.list("default")
	require.Len(t, ids, 6)
	seen := map[string]bool{}
	for _, id := range ids {
		require.Regexp(t, `^[0-9a-f]{8}-tick-`, id)
		seen[id[:8]] = true
	}
	require.Len(t, seen, 6)
}
