package asynqjobs_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// One scheduler runs a thousand schedules over a real Redis. No tick is left out. A tick costs at most three commands, and a pause
// between ticks one.
func TestAThousandSchedules(t *testing.T) {
	t.Parallel()
	const every = 10 * time.Second
	n := 1000
	if raceEnabled {
		n = 500
	}
	b := newBench(t, nil)
	m := newMeters()
	client := newClient(t, b.conn, b.e, asynqjobs.WithMeterProvider(m.provider))
	s, err := asynqjobs.NewScheduler(b.rdb, client)
	require.NoError(t, err)
	for i := range n {
		changed, err := s.ScheduleOnce(t.Context(), fmt.Sprintf("schedule %d", i), asynqjobs.Every(every),
			asynq.NewTask("tick", fmt.Append(nil, i)), asynq.Queue("nobody"))
		require.NoError(t, err)
		require.True(t, changed)
	}

	before, running, began := commands(t, b.rdb), b.rdb.Time(t.Context()).Val(), time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	lists := int64(1)
	late := func(infos []asynqjobs.ScheduleInfo) (most time.Duration) {
		now := b.rdb.Time(t.Context()).Val()
		for _, info := range infos {
			due := info.Since.Add(every)
			if !info.Last.IsZero() {
				due = info.Last.Add(every)
			}
			if due.Before(running) {
				due = running
			}
			most = max(most, now.Sub(due))
		}
		return most
	}
	var latest time.Duration
	eventually(t, "a tick of each", 2*patience, func() bool {
		time.Sleep(500 * time.Millisecond)
		infos, err := s.List(t.Context())
		lists++
		require.NoError(t, err)
		require.Len(t, infos, n)
		latest = max(latest, late(infos))
		return !slices.ContainsFunc(infos, func(info asynqjobs.ScheduleInfo) bool { return info.Last.IsZero() })
	})
	counts := m.counts(t)
	require.Zero(t, counts["tick failed"])
	require.Zero(t, counts["tick conflict"])
	cancel()
	require.NoError(t, <-ended)
	duration, after := time.Since(began), commands(t, b.rdb)
	ticks := m.counts(t)["tick enqueued"]
	t.Logf("%d schedules; %d ticks in %v, at most %v late; %d scripts and %d other commands of clients",
		n, ticks, duration.Round(time.Millisecond), latest.Round(time.Millisecond), after["evalsha"]-before["evalsha"], after["sadd"]-before["sadd"])
	require.GreaterOrEqual(t, ticks, int64(n))
	infos, err := s.List(t.Context())
	require.NoError(t, err)
	noted := int64(0)
	for _, info := range infos {
		noted += int64(info.Last.Sub(info.Since) / every)
	}
	queue, err := b.inspector.GetQueueInfo("nobody")
	require.NoError(t, err)
	// The end may come between a tick's script and its count or its note.
	const cut = 1
	require.InDelta(t, noted, ticks, cut, "no tick was left out")
	require.InDelta(t, noted, queue.Pending, cut)

	// Of each tick asynq's own enqueueing and its note; of each pass one look. There are at most as many passes as
	// ticks and one a second, as a pass that finds nothing waits until something is due.
	looks := ticks + int64(duration/time.Second) + 2
	require.LessOrEqual(t, after["evalsha"]-before["evalsha"], 2*(ticks+cut)+looks+lists)
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
