package asynqjobs_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/leaktest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// sharedEncryptor is that of the children.
func sharedEncryptor(t *testing.T, dir string) *jobs.Encryptor {
	t.Helper()
	k, set, err := openKeysets(t.Context(), dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = k.Close() })
	e, err := jobs.NewEncryptor(k, jobs.WithPRF(set), jobs.WithLogger(quiet))
	require.NoError(t, err)
	return e
}

// expireLeases makes asynq believe that more than 30 seconds have passed since the leases ran out.
func expireLeases(t *testing.T, rdb *redis.Client, queue string) {
	t.Helper()
	key := "asynq:{" + queue + "}:lease"
	ids, err := rdb.ZRange(t.Context(), key, 0, -1).Result()
	require.NoError(t, err)
	for _, id := range ids {
		require.NoError(t, rdb.ZAdd(t.Context(), key, redis.Z{Score: float64(time.Now().Add(-time.Hour).Unix()), Member: id}).Err())
	}
}

// A worker is killed while it works. Its jobs run elsewhere, with the bytes that they had.
func TestKilledWorkerLosesNothing(t *testing.T) {
	t.Parallel()
	keys := keysets(t)
	e := sharedEncryptor(t, keys)
	b := newBench(t, e)
	const n = 4
	before := map[string]*asynq.TaskInfo{}
	for i := range n {
		info, err := b.client.Enqueue(asynq.NewTask("t", fmt.Append(nil, "payload ", i)), asynq.Retention(time.Hour), asynq.TaskID(fmt.Sprint(i)))
		require.NoError(t, err)
		before[info.ID], err = b.inspector.GetTaskInfo("default", info.ID)
		require.NoError(t, err)
	}
	worker := spawn(t, "stuck", keys, b.srv.Addr())
	eventually(t, "worker has the jobs", patience, func() bool { return b.rdb.LLen(t.Context(), "taken").Val() == n })
	worker.kill()
	expireLeases(t, b.rdb, "default")

	var rec recorder
	var lost atomic.Int32
	serve(t, b.conn, e, asynq.Config{RetryDelayFunc: func(_ int, err error, task *asynq.Task) time.Duration {
		// asynq's recoverer gives neither context nor id.
		if errors.Is(err, asynq.ErrLeaseExpired) && len(task.Payload()) == len("payload 0") {
			lost.Add(1)
		}
		return time.Second
	}}, rec.handler())
	for id, info := range before {
		after := b.awaitState(t, "default", id, asynq.TaskStateCompleted)
		require.Equal(t, info.Payload, after.Payload, "sealed once")
		require.Equal(t, info.Headers, after.Headers)
		require.Equal(t, asynq.ErrLeaseExpired.Error(), after.LastErr)
	}
	require.EqualValues(t, n, lost.Load(), "RetryDelayFunc saw the tasks opened")
	require.ElementsMatch(t, []string{"t: payload 0", "t: payload 1", "t: payload 2", "t: payload 3"}, rec.all())
}

// Redis, with an append-only file, is killed and started again under load. Every job that was acknowledged runs at
// least once, and none is found as plaintext.
func TestRedisRestartsUnderLoad(t *testing.T) {
	t.Parallel()
	b := benchOn(t, redistest.StartWith(t, redistest.Options{AppendOnly: true}), nil)
	var mu sync.Mutex
	ran := map[string]int{}
	handler := asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		mu.Lock()
		defer mu.Unlock()
		ran[string(task.Payload())]++
		return nil
	})
	cfg := asynq.Config{RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Second }}
	stop := serve(t, b.conn, b.e, cfg, handler)

	var acknowledged []string
	done := make(chan struct{})
	var producers sync.WaitGroup
	for p := range 3 {
		producers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				payload := fmt.Sprintf("canary-%d-%d", p, i)
				var opts []asynq.Option
				if i%2 == 0 {
					opts = append(opts, asynq.Unique(time.Hour))
				}
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				_, err := b.client.EnqueueContext(ctx, asynq.NewTask("t", []byte(payload)), opts...)
				cancel()
				if err == nil {
					mu.Lock()
					acknowledged = append(acknowledged, payload)
					mu.Unlock()
				} else {
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	more := func(n int) {
		t.Helper()
		count := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(acknowledged)
		}
		before := count()
		eventually(t, "more jobs", patience, func() bool { return count() >= before+n })
	}
	for range 3 {
		more(100)
		require.NoError(t, b.srv.Kill())
		require.NoError(t, b.srv.Restart())
	}
	more(100)
	close(done)
	producers.Wait()
	stop()
	// Jobs that were being worked on when Redis died are recovered when their leases have run out.
	expireLeases(t, b.rdb, "default")
	serve(t, b.conn, b.e, cfg, handler)
	missing := func() (missing []string) {
		mu.Lock()
		defer mu.Unlock()
		for _, payload := range acknowledged {
			if ran[payload] == 0 {
				missing = append(missing, payload)
			}
		}
		return missing
	}
	eventually(t, "all acknowledged jobs have run", patience, func() bool { return len(missing()) == 0 })
	for name, dump := range b.srv.DumpFiles(t) {
		require.NotContains(t, string(dump), "canary", name)
	}
	archived, err := b.inspector.ListArchivedTasks("default")
	require.NoError(t, err)
	require.Empty(t, archived)
}

// Workers are killed in the middle of jobs, and Redis with its append-only file, at random under load. Every job that was
// acknowledged has run at least once, with the bytes that it was enqueued with. No job was sealed twice or refused. No
// payload is found as plaintext in the traffic, in Redis or on disk.
func TestWorkersAndRedisAreKilledUnderLoad(t *testing.T) {
	t.Parallel()
	keys := keysets(t)
	e := sharedEncryptor(t, keys)
	srv := redistest.StartWith(t, redistest.Options{AppendOnly: true})
	b := benchOn(t, srv, e, asynqjobs.WithHiddenTypes())
	var c leaktest.Set
	secret := c.Text("payload")
	typename := "type:" + c.Text("type")
	var mu sync.Mutex
	sent, acknowledged := map[string]bool{}, map[string]bool{}
	done := make(chan struct{})
	var producers sync.WaitGroup
	for p := range 3 {
		producers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				case <-time.After(2 * time.Millisecond):
				}
				payload := fmt.Sprintf("%s %d-%d %s", []string{"once", "twice"}[i%2], p, i, secret)
				opts := []asynq.Option{asynq.Retention(time.Hour)}
				switch i % 6 {
				case 0, 1:
					opts = append(opts, asynq.Unique(time.Hour))
				case 2:
					opts = append(opts, asynq.ProcessIn(time.Second))
				}
				mu.Lock()
				sent[payload] = true
				mu.Unlock()
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				_, err := b.client.EnqueueContext(ctx, asynq.NewTask(typename, []byte(payload)), opts...)
				cancel()
				if err == nil {
					mu.Lock()
					acknowledged[payload] = true
					mu.Unlock()
				}
			}
		})
	}
	var ps []*process
	for range 3 {
		ps = append(ps, spawn(t, "worker", keys, srv.Addr()))
	}
	printed := func() map[string]int {
		n := map[string]int{}
		for _, p := range ps {
			for line := range strings.Lines(p.out.String()) {
				payload, err := strconv.Unquote(strings.TrimSuffix(line, "\n"))
				if err == nil { // a line that was cut off by the kill is none
					n[payload]++
				}
			}
		}
		return n
	}
	for i := range 9 {
		eventually(t, "some work", patience, func() bool { return len(printed()) > 30*(i+1) })
		if i%3 == 2 {
			require.NoError(t, srv.Kill())
			require.NoError(t, srv.Restart())
		}
		ps[len(ps)-3].kill()
		ps = append(ps, spawn(t, "worker", keys, srv.Addr()))
	}
	monitor := srv.Monitor(t)
	before := len(printed())
	eventually(t, "work that is monitored", patience, func() bool { return len(printed()) > before })
	close(done)
	producers.Wait()
	stuck := "stuck " + secret // the last kill finds it being worked on
	_, err := b.client.Enqueue(asynq.NewTask(typename, []byte(stuck)), asynq.Retention(time.Hour))
	require.NoError(t, err)
	sent[stuck], acknowledged[stuck] = true, true
	eventually(t, "a worker is in the middle of a job", patience, func() bool { return printed()[stuck] > 0 })
	for _, p := range ps[len(ps)-3:] {
		p.kill()
	}
	abandoned := b.rdb.LLen(t.Context(), "asynq:{default}:active").Val()
	// Their tasks are recovered when the leases have run out.
	expireLeases(t, b.rdb, "default")
	ps = append(ps, spawn(t, "worker", keys, srv.Addr()))
	mu.Lock()
	defer mu.Unlock()
	eventually(t, "all acknowledged jobs have run", 2*patience, func() bool {
		ran := printed()
		for payload := range acknowledged {
			if ran[payload] == 0 {
				return false
			}
		}
		queue, err := b.inspector.GetQueueInfo("default")
		return err == nil && queue.Size == queue.Completed
	})
	ran := printed()
	again := 0
	for payload, n := range ran {
		require.True(t, sent[payload], "a job came out as it did not go in: %q", payload)
		if n > 1 && strings.HasPrefix(payload, "once") {
			again++
		}
	}
	t.Logf("%d jobs acknowledged of %d, %d ran; %d were left by the last kill, %d ran again that had no need to", len(acknowledged), len(sent), len(ran), abandoned, again)
	require.Greater(t, len(acknowledged), 200)
	require.Positive(t, abandoned, "no process was killed in the middle")

	queue, err := b.inspector.GetQueueInfo("default")
	require.NoError(t, err)
	require.Zero(t, queue.Archived, "refused")
	for page := 1; ; page++ {
		infos, err := b.inspector.ListCompletedTasks("default", asynq.Page(page), asynq.PageSize(200))
		require.NoError(t, err)
		if len(infos) == 0 {
			break
		}
		for _, info := range infos {
			task, err := asynqjobs.OpenTask(t.Context(), e, info)
			require.NoError(t, err)
			require.True(t, sent[string(task.Payload())], "sealed once")
			require.Equal(t, typename, task.Type())
			result, err := b.client.OpenResult(t.Context(), info)
			require.NoError(t, err)
			require.Equal(t, string(task.Payload()), string(result))
		}
	}
	for name, bytes := range srv.DumpFiles(t) {
		require.Empty(t, c.Find(bytes), name)
		require.NotEmpty(t, bytes, name)
	}
	require.Empty(t, c.Find(monitor.Bytes(t)))
	require.Empty(t, c.Find(database(t, b.rdb)))
}

// The same, over Sentinel and Cluster: asynq's other ways to connect.
func TestSentinelAndCluster(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) deployment{"sentinel": sentinel, "cluster": cluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := start(t)
			conn, rdb := d.conn, d.rdb
			e := newEncryptor(t, nil)
			client := newClient(t, conn, e, asynqjobs.WithHiddenTypes())
			inspector := asynq.NewInspector(conn)
			defer inspector.Close()
			var rec recorder
			serve(t, conn, e, asynq.Config{
				Queues:          map[string]int{"default": 1, "low": 1},
				GroupAggregator: asynq.GroupAggregatorFunc(join),
			}, asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
				rec.add(task.Type() + ": " + string(task.Payload()))
				return asynqjobs.WriteResult(ctx, task.Payload())
			}))
			plain, err := client.Enqueue(asynq.NewTask("plain", []byte("1")), asynq.Queue("low"), asynq.Retention(time.Hour))
			require.NoError(t, err)
			unique, err := client.Enqueue(asynq.NewTask("unique", []byte("2")), asynq.Unique(time.Hour), asynq.ProcessIn(time.Hour))
			require.NoError(t, err)
			_, err = client.Enqueue(asynq.NewTask("unique", []byte("2")), asynq.Unique(time.Hour))
			require.ErrorIs(t, err, asynq.ErrDuplicateTask)
			require.NoError(t, inspector.RunTask("default", unique.ID))
			_, err = client.Enqueue(asynq.NewTask("part", []byte("3")), asynq.Group("g"))
			require.NoError(t, err)
			s, err := asynqjobs.NewScheduler(rdb, client)
			require.NoError(t, err)
			changed, err := tick.ScheduleOnce(t.Context(), s, "tick", asynqjobs.Every(time.Second), tickArgs{Note: "4"})
			require.NoError(t, err)
			require.True(t, changed)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- s.Run(ctx) }()
			defer func() { cancel(); require.NoError(t, <-ended) }()
			for _, want := range []string{"plain: 1", "unique: 2", "batch:g: part=3", `tick: {"Note":"4"}`} {
				eventually(t, want, patience, func() bool { return rec.count(want) > 0 })
			}
			var info *asynq.TaskInfo
			eventually(t, "result", patience, func() bool {
				info, err = inspector.GetTaskInfo("low", plain.ID)
				return err == nil && len(info.Result) > 0
			})
			result, err := client.OpenResult(t.Context(), info)
			require.NoError(t, err)
			require.Equal(t, "1", string(result))
			canceled, err := s.Cancel(t.Context(), "tick")
			require.NoError(t, err)
			require.True(t, canceled)
		})
	}
}
