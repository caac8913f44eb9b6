package asynqjobs_test

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// One scheduler runs a thousand schedules over a real Redis. Every tick comes close to its time. It costs at most
// three commands for each tick, and one for each pause between ticks.
func TestAThousandSchedules(t *testing.T) {
	t.Parallel()
	const every, duration = 10 * time.Second, 14 * time.Second
	n, latest := 1000, 2*time.Second
	if raceEnabled {
		n, latest = 500, 5*time.Second
	}
	b := newBench(t, nil)
	m := newMeters()
	client := newClient(t, b.conn, b.e, asynqjobs.WithMeterProvider(m.provider))
	s, err := asynqjobs.NewScheduler(b.rdb, client)
	require.NoError(t, err)
	began := time.Now()
	for i := range n {
		changed, err := s.ScheduleOnce(t.Context(), fmt.Sprintf("schedule %d", i), asynqjobs.Every(every),
			asynq.NewTask("tick", fmt.Append(nil, i)), asynq.Queue("nobody"))
		require.NoError(t, err)
		require.True(t, changed)
	}
	registered := time.Since(began)

	before, running := commands(t, b.rdb), b.rdb.Time(t.Context()).Val()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	var lists int64
	var late time.Duration
	for start := time.Now(); time.Since(start) < duration; time.Sleep(500 * time.Millisecond) {
		infos, err := s.List(t.Context())
		lists++
		require.NoError(t, err)
		require.Len(t, infos, n)
		now := b.rdb.Time(t.Context()).Val()
		for _, info := range infos {
			due := info.Since.Add(every)
			if !info.Last.IsZero() {
				due = info.Last.Add(every)
			}
			if due.Before(running) {
				due = running
			}
			late = max(late, now.Sub(due))
		}
	}
	cancel()
	require.NoError(t, <-ended)
	after := commands(t, b.rdb)
	counts := m.counts(t)
	ticks := counts["tick enqueued"]
	t.Logf("%d schedules registered in %v; %d ticks in %v, at most %v late; %d scripts and %d other commands of clients",
		n, registered.Round(time.Millisecond), ticks, duration, late.Round(time.Millisecond), after["evalsha"]-before["evalsha"], after["sadd"]-before["sadd"])
	require.Less(t, late, latest, "and as much again for a slow machine")
	require.GreaterOrEqual(t, ticks, int64(n))
	require.Zero(t, counts["tick failed"])
	require.Zero(t, counts["tick conflict"])
	queue, err := b.inspector.GetQueueInfo("nobody")
	require.NoError(t, err)
	require.EqualValues(t, ticks, queue.Pending)

	// Of each tick asynq's own enqueueing and its note; of each pass one look. There are at most as many passes as
	// ticks and one a second, as a pass that finds nothing waits until something is due.
	looks := ticks + int64(duration/time.Second) + 2
	require.LessOrEqual(t, after["evalsha"]-before["evalsha"], 2*ticks+looks+lists)
}

// commands are the calls that the server has counted, by command.
func commands(t *testing.T, rdb *redis.Client) map[string]int64 {
	t.Helper()
	info, err := rdb.Info(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	calls := map[string]int64{}
	for _, m := range regexp.MustCompile(`cmdstat_([a-z|]+):calls=(\d+)`).FindAllStringSubmatch(info, -1) {
		calls[m[1]], err = strconv.ParseInt(m[2], 10, 64)
		require.NoError(t, err)
	}
	return calls
}
