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

	"github.com/sealcache/sealcache/middleware/internal/canary"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/stores/storetest/redistest"
)

// After a run that used everything, nothing that was planted is found: not in what the server was sent, what it holds
// and what it wrote to disk, and not in logs.
func TestNothingReadableIsLeft(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]asynqjobs.Option{"open types": nil, "hidden types": {asynqjobs.WithHiddenTypes()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			useEverything(t, opts...)
		})
	}
}

func useEverything(t *testing.T, opts ...asynqjobs.Option) {
	t.Helper()
	var c canary.Set
	var mu sync.Mutex
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&locked{mu: &mu, w: &log}, nil))
	srv := redistest.Start(t)
	monitor := srv.Monitor(t)
	e := newEncryptor(t, nil, jobs.WithLogger(logger))
	b := benchOn(t, srv, e, opts...)

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
			// Long enough for the heartbeat to write what is being worked on.
			time.Sleep(6 * time.Second)
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

	s, err := asynqjobs.NewScheduler(b.rdb, b.client)
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
		out := map[string][]byte{"MONITOR": monitor.Bytes(t), "database": database(t, b.rdb)}
		for name, dump := range srv.DumpFiles(t) {
			out[name] = dump
		}
		mu.Lock()
		defer mu.Unlock()
		out["log"] = bytes.Clone(log.Bytes())
		return out
	}
	for where, bytes := range seen() {
		require.Empty(t, c.Find(bytes), where)
		if where != "log" {
			require.NotEmpty(t, bytes, where)
		}
	}
	workers := monitor.Bytes(t)
	require.Contains(t, string(workers), "asynq:workers:", "the heartbeat wrote what is being worked on")
	stop()
	cancel()
	require.NoError(t, <-ran)

	// The search finds what is there.
	_, err = b.plain.Enqueue(task("control"))
	require.NoError(t, err)
	for where, bytes := range seen() {
		if where != "log" {
			require.Contains(t, c.Find(bytes), "payload of control", where)
		}
	}
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
