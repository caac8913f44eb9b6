package asynqjobs_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// The master fails over to its replica, there and back, and is killed in the end, while two schedulers and a worker run. They go
// on by themselves. Every tick runs, and none has two ids.
//
// The old master takes commands until the sentinel demotes it. Redis loses them, and the note of their ticks along with them, so
// those ticks are enqueued again. A tick of a failover may therefore run twice, as any job may, and the slower the machine, the
// more ticks fall into a failover.
func TestSchedulersOutliveAFailover(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	o := sentinel.ClientOptions()
	conn := asynq.RedisFailoverClientOpt{MasterName: o.MasterName, SentinelAddrs: o.SentinelAddrs, Password: o.Password, SentinelPassword: o.SentinelPassword}
	e := newEncryptor(t, nil)
	b := benchAt(t, conn, e)
	b.rdb = sentinel.Client(t)
	count := &tickCount{t: t, runs: map[string]map[string]int{}}
	cfg := asynq.Config{
		Queues: map[string]int{"ticks": 1},
		// Asynq waits up to 45 seconds before it runs a task whose lease has run out.
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return 100 * time.Millisecond },
	}
	stop := serve(t, b.conn, e, cfg, count)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	var s *asynqjobs.Scheduler
	for range 2 {
		one, err := asynqjobs.NewScheduler(sentinel.Client(t), newClient(t, conn, e), asynqjobs.WithPoll(200*time.Millisecond))
		require.NoError(t, err)
		go func() { ended <- one.Run(ctx) }()
		s = one
	}
	_, err := tick.ScheduleOnce(t.Context(), s, "interval", asynqjobs.Every(time.Second), tickArgs{Note: "interval"}, asynq.Queue("ticks"))
	require.NoError(t, err)
	more := func(what string) {
		t.Helper()
		before, _ := count.of("interval")
		eventually(t, what, 2*patience, func() bool { n, _ := count.of("interval"); return n >= before+3 })
	}
	more("ticks before")
	epoch := failoverEpoch(t, sentinel)
	twice := 0 // how many ticks may run twice
	timed := func(failover func()) {
		began := time.Now()
		failover()
		twice += int(time.Since(began)/time.Second) + 2
	}
	for range 2 {
		timed(func() { sentinel.Failover(t) })
		more("ticks after a failover")
		require.NoError(t, b.client.Ping())
	}
	replica := sentinel.Replica(t)
	timed(func() {
		require.NoError(t, sentinel.Master(t).Kill())
		sentinel.AwaitMaster(t, replica)
	})
	more("ticks after the master was killed")
	eventually(t, "a change", patience, func() bool {
		_, err := tick.ScheduleOnce(t.Context(), s, "another", asynqjobs.Every(time.Hour), tickArgs{Note: "another"}, asynq.Queue("ticks"))
		return err == nil
	})

	cancel()
	for range 2 {
		require.NoError(t, <-ended)
	}
	stop() // a task whose answer was lost comes again when its lease has run out
	expireLeases(t, b.rdb, "ticks")
	serve(t, b.conn, e, cfg, count)
	infos, err := s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, infos, 2)
	noted := int(infos[1].Last.Sub(infos[1].Since) / time.Second)
	eventually(t, "last ticks", patience, func() bool { n, _ := count.of("interval"); return n >= noted })
	got, runs := count.of("interval")
	t.Logf("%d ticks noted, %d ran, in %d runs", noted, got, runs)
	require.LessOrEqual(t, got, noted+1)
	if made := failoverEpoch(t, sentinel) - epoch; made > 3 { // the sentinel gave up a master that a busy machine held up
		t.Logf("%d failovers instead of 3", made)
		return
	}
	require.LessOrEqual(t, runs, got+twice, "only ticks of a failover run twice")
}

// failoverEpoch returns a number that grows by one with each failover.
func failoverEpoch(t *testing.T, s *redistest.Sentinel) int {
	t.Helper()
	o := s.ClientOptions()
	rdb := redis.NewSentinelClient(&redis.Options{Addr: s.Addr(), Password: o.SentinelPassword})
	defer func() { _ = rdb.Close() }()
	master, err := rdb.Master(t.Context(), o.MasterName).Result()
	require.NoError(t, err)
	n, err := strconv.Atoi(master["config-epoch"])
	require.NoError(t, err)
	return n
}
