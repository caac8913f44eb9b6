package asynqjobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
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

// deployment is a Redis as asynq and the scheduler connect to it, and its servers.
type deployment struct {
	conn    asynq.RedisConnOpt
	rdb     redis.UniversalClient
	servers []*redistest.Server
}

func single(t *testing.T) deployment {
	t.Helper()
	s := redistest.Start(t)
	return deployment{connTo(s.Addr()), clientOf(t, s), []*redistest.Server{s}}
}

// sentinel is a master, its replica, and what watches them.
func sentinel(t *testing.T) deployment {
	t.Helper()
	s := redistest.StartSentinel(t)
	o := s.ClientOptions()
	conn := asynq.RedisFailoverClientOpt{MasterName: o.MasterName, SentinelAddrs: o.SentinelAddrs, Password: o.Password, SentinelPassword: o.SentinelPassword}
	return deployment{conn, s.Client(t), []*redistest.Server{s.Master(t), s.Replica(t)}}
}

// cluster is three masters.
func cluster(t *testing.T) deployment {
	t.Helper()
	c := redistest.StartCluster(t)
	conn := asynq.RedisClusterClientOpt{Addrs: c.Addrs(), ReadTimeout: patience, WriteTimeout: patience}
	return deployment{conn, c.Client(t), c.Nodes()}
}

// A run uses all features. The planted texts are then not found in the traffic to any server, in its memory, on its
// disk, or in logs.
func TestNothingReadableIsLeft(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) deployment{"single": single, "sentinel": sentinel, "cluster": cluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			useEverything(t, start(t), asynqjobs.WithHiddenTypes())
		})
	}
	t.Run("open types", func(t *testing.T) {
		t.Parallel()
		useEverything(t, single(t))
	})
}

func useEverything(t *testing.T, d deployment, opts ...asynqjobs.Option) {
	t.Helper()
	var c leaktest.Set
	var mu sync.Mutex
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&locked{mu: &mu, w: &log}, nil))
	var monitors []*redistest.Monitor
	for _, s := range d.servers {
		monitors = append(monitors, s.Monitor(t))
	}
	e := newEncryptor(t, nil, jobs.WithLogger(logger))
	b := benchAt(t, d.conn, e, opts...)

	typename := "job"
	if len(opts) > 0 {
		typename = "mail:" + c.Text("type name")
	}
	task := func(what string) *asynq.Task {
		return asynq.NewTaskWithHeaders(typename+":"+what, []byte(what+" "+c.Text("payload of "+what)), map[string]string{"trace": c.Text("header of " + what)})
	}
	handler := asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		what := string(task.Payload())
		switch {
		case strings.HasPrefix(what, "retry"):
			if n, _ := asynq.GetRetryCount(ctx); n > 0 {
				return nil
			}
			return fmt.Errorf("could not: %s %s", what, c.Text("error"))
		case strings.HasPrefix(what, "fail"):
			return fmt.Errorf("%s: %w", c.Text("error of archived"), asynq.SkipRetry)
		case strings.HasPrefix(what, "panic"):
			panic(c.Text("panic") + what)
		case strings.HasPrefix(what, "slow"):
			if err := b.awaitHeartbeat(ctx); err != nil {
				return err
			}
		}
		return asynqjobs.WriteResult(ctx, []byte(c.Text("result")))
	})
	stop := serve(t, b.conn, e, asynq.Config{
		Concurrency:    8,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Second },
		GroupAggregator: asynq.GroupAggregatorFunc(func(_ string, tasks []*asynq.Task) *asynq.Task {
			var all []byte
			for _, t := range tasks {
				all = append(all, t.Payload()...)
			}
			return asynq.NewTask(typename+":batch", all, asynq.TaskID("batch"), asynq.Retention(time.Hour))
		}),
	}, handler, append(opts, asynqjobs.WithLogger(logger))...)

	s, err := asynqjobs.NewScheduler(d.rdb, b.client)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error)
	go func() { ran <- s.Run(ctx) }()
	changed, err := s.ScheduleOnce(t.Context(), c.Text("name of the schedule"), asynqjobs.Every(time.Second), task("tick"))
	require.NoError(t, err)
	require.True(t, changed)

	ids := map[string]string{}
	for what, opts := range map[string][]asynq.Option{
		"success":   {asynq.Retention(time.Hour)},
		"slow":      {asynq.Retention(time.Hour)},
		"unique":    {asynq.Unique(time.Hour), asynq.Retention(time.Hour)},
		"pending":   {asynq.Queue("nobody")},
		"uniquely":  {asynq.Queue("nobody"), asynq.Unique(time.Hour)},
		"scheduled": {asynq.ProcessIn(time.Hour), asynq.Unique(time.Hour)},
		"soon":      {asynq.ProcessIn(time.Second), asynq.Retention(time.Hour)},
		"retry":     {asynq.Retention(time.Hour)},
		"fail":      nil,
		"panic":     nil,
		"deadline":  {asynq.Deadline(time.Now().Add(time.Hour)), asynq.Retention(time.Hour)},
		"member 1":  {asynq.Group("g")},
		"member 2":  {asynq.Group("g"), asynq.Unique(time.Hour)},
		"waiting":   {asynq.Group("nobody's"), asynq.Queue("nobody")},
	} {
		info, err := b.client.Enqueue(task(what), opts...)
		require.NoError(t, err, what)
		ids[what] = info.ID
	}
	for what, state := range map[string]asynq.TaskState{
		"success": asynq.TaskStateCompleted, "unique": asynq.TaskStateCompleted, "soon": asynq.TaskStateCompleted, "slow": asynq.TaskStateCompleted,
		"retry": asynq.TaskStateCompleted, "fail": asynq.TaskStateArchived, "panic": asynq.TaskStateRetry, "deadline": asynq.TaskStateCompleted,
	} {
		b.awaitState(t, "default", ids[what], state)
	}
	b.awaitState(t, "default", "batch", asynq.TaskStateCompleted)
	var last []asynqjobs.ScheduleInfo
	eventually(t, "ticks", patience, func() bool {
		last, err = s.List(t.Context())
		return err == nil && len(last) == 1 && !last[0].Last.IsZero()
	})
	seen := func() map[string][]byte {
		out := map[string][]byte{}
		for i, srv := range d.servers {
			name := fmt.Sprintf("server %d: ", i)
			out[name+"MONITOR"], out[name+"database"] = monitors[i].Bytes(t), database(t, srv.Client(t))
			for file, dump := range srv.DumpFiles(t) {
				out[name+file] = dump
			}
		}
		mu.Lock()
		defer mu.Unlock()
		out["log"] = bytes.Clone(log.Bytes())
		return out
	}
	all := seen()
	var sent []byte
	for where, bytes := range all {
		require.Empty(t, c.Find(bytes), where)
		if where != "log" {
			require.NotEmpty(t, bytes, where)
		}
		if strings.HasSuffix(where, "MONITOR") {
			sent = append(sent, bytes...)
		}
	}
	// The search covered every kind of command and every kind of key.
	for _, key := range []string{
		"asynq:workers:", "asynq:servers:", ":unique:", ":scheduled", ":retry", ":archived", ":completed", ":g:g", ":groups", "-tick-",
		"{sealcache:jobs:}:schedules", "{sealcache:jobs:}:ticks",
	} {
		require.Contains(t, string(sent), key, "what was sent")
	}
	stop()
	cancel()
	require.NoError(t, <-ran)

	// The search finds what is there, on each server: the queues of a cluster lie on different ones.
	for i := range 16 * (len(d.servers) - 1) {
		_, err = b.plain.Enqueue(task("control"), asynq.Queue(fmt.Sprintf("control-%d", i)))
		require.NoError(t, err)
	}
	_, err = b.plain.Enqueue(task("control"))
	require.NoError(t, err)
	caughtUp(t, d)
	for where, bytes := range seen() {
		if where != "log" {
			require.Contains(t, c.Find(bytes), "payload of control", where)
		}
	}
}

// awaitHeartbeat waits until a server has written what it works on, which it does every five seconds.
func (b *bench) awaitHeartbeat(ctx context.Context) error {
	for ctx.Err() == nil {
		servers, err := b.inspector.Servers()
		if err != nil {
			return err
		}
		for _, s := range servers {
			if len(s.ActiveWorkers) > 0 {
				return nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return ctx.Err()
}

type locked struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// caughtUp waits until replicas have what their masters were sent.
func caughtUp(t *testing.T, d deployment) {
	t.Helper()
	for _, s := range d.servers {
		rdb := s.Client(t)
		info, err := rdb.Info(t.Context(), "replication").Result()
		require.NoError(t, err)
		if n := strings.Count(info, "state=online"); n > 0 {
			conn := rdb.Conn() // WAIT is for the writes of the same connection
			require.NoError(t, conn.Set(t.Context(), "caught up", 1, 0).Err())
			require.NoError(t, conn.Wait(t.Context(), n, patience).Err())
			require.NoError(t, conn.Close())
		}
	}
}

// database returns all that a database holds, names included.
func database(t *testing.T, rdb *redis.Client) []byte {
	t.Helper()
	ctx := t.Context()
	var out bytes.Buffer
	it := rdb.Scan(ctx, 0, "*", 100).Iterator()
	for it.Next(ctx) {
		key := it.Val()
		kind, err := rdb.Type(ctx, key).Result()
		require.NoError(t, err)
		var v any
		switch kind {
		case "string":
			v, err = rdb.Get(ctx, key).Result()
		case "hash":
			v, err = rdb.HGetAll(ctx, key).Result()
		case "list":
			v, err = rdb.LRange(ctx, key, 0, -1).Result()
		case "set":
			v, err = rdb.SMembers(ctx, key).Result()
		case "zset":
			v, err = rdb.ZRangeWithScores(ctx, key, 0, -1).Result()
		case "none":
			continue
		default:
			t.Fatalf("key of type %s", kind)
		}
		if errors.Is(err, redis.Nil) {
			continue
		}
		require.NoError(t, err)
		fmt.Fprintf(&out, "%s %v\n", key, v)
	}
	require.NoError(t, it.Err())
	return out.Bytes()
}
