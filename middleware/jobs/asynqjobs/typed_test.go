package asynqjobs_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

type upperCodec struct{}

func (upperCodec) Encode(s string) ([]byte, error) {
	if s == "bad" {
		return nil, errors.New("secret: " + s)
	}
	return []byte(strings.ToUpper(s)), nil
}

func (upperCodec) Decode(b []byte) (string, error) {
	switch string(b) {
	case "PANIC":
		panic("secret")
	case "UNREADABLE":
		return "", errors.New("secret")
	}
	return strings.ToLower(string(b)), nil
}

type receipt struct{ Number int }

// A definition has its own codec, dead letters are read with it, and results have a type.
func TestTypedJobsWithCodecAndResult(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	job := asynqjobs.DefineWith[string]("mail", upperCodec{}, asynq.Retention(time.Hour), asynq.MaxRetry(0))
	result := asynqjobs.DefineResult[receipt](nil)
	mux := asynq.NewServeMux()
	job.Handle(mux, func(ctx context.Context, args string) error {
		if args == "dead" {
			return errors.New("no such address")
		}
		return result.Write(ctx, receipt{len(args)})
	})
	serve(t, b.conn, b.e, asynq.Config{}, mux)
	ids := map[string]string{}
	for _, args := range []string{"hello", "dead", "panic", "unreadable"} {
		info, err := job.Delay(t.Context(), b.client, args)
		require.NoError(t, err)
		require.Equal(t, strings.ToUpper(args), string(info.Payload))
		ids[args] = info.ID
	}
	_, err := job.Delay(t.Context(), b.client, "bad")
	require.ErrorIs(t, err, asynqjobs.ErrCodec)
	require.NotContains(t, err.Error(), "secret")

	done := b.awaitState(t, "default", ids["hello"], asynq.TaskStateCompleted)
	value, found, err := result.Read(t.Context(), b.client, done)
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, receipt{5}, value)
	other := asynqjobs.DefineResult[[]int](nil)
	_, _, err = other.Read(t.Context(), b.client, done)
	require.ErrorIs(t, err, asynqjobs.ErrCodec)

	dead := b.awaitState(t, "default", ids["dead"], asynq.TaskStateArchived)
	args, err := job.Args(t.Context(), b.client, dead)
	require.NoError(t, err)
	require.Equal(t, "dead", args)
	_, found, err = result.Read(t.Context(), b.client, dead)
	require.NoError(t, err)
	require.False(t, found)
	_, err = asynqjobs.Define[string]("other").Args(t.Context(), b.client, dead)
	require.ErrorContains(t, err, "the task has another type than the job")
	dead.ID = "moved"
	_, err = job.Args(t.Context(), b.client, dead)
	require.ErrorIs(t, err, jobs.ErrUnauthentic)
	_, err = job.Args(t.Context(), nil, dead)
	require.Error(t, err)
	_, err = job.Args(t.Context(), b.client, nil)
	require.Error(t, err)

	for _, args := range []string{"panic", "unreadable"} {
		info := b.awaitState(t, "default", ids[args], asynq.TaskStateArchived)
		_, err = job.Args(t.Context(), b.client, info)
		require.ErrorIs(t, err, asynqjobs.ErrCodec)
		text, err := asynqjobs.OpenFailure(t.Context(), b.e, info)
		require.NoError(t, err)
		require.NotContains(t, text, "secret")
	}

	// A dead letter from before the rollout.
	plain, err := b.plain.Enqueue(asynq.NewTask("mail", []byte("OLD")), asynq.ProcessIn(time.Hour))
	require.NoError(t, err)
	_, err = job.Args(t.Context(), b.client, plain)
	require.ErrorIs(t, err, jobs.ErrNotSealed)
	args, err = job.Args(t.Context(), newClient(t, b.conn, b.e, asynqjobs.WithPlaintext(jobs.ReadPlaintext)), plain)
	require.NoError(t, err)
	require.Equal(t, "old", args)
}

// A typed job has headers, and its task can be enqueued in a batch and declared as a schedule.
func TestTasksOfTypedJobs(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	job := asynqjobs.Define[string]("mail", asynq.Queue("low"), asynq.MaxRetry(3))
	headers := map[string]string{"tenant": "secret-tenant"}
	var rec recorder
	mux := asynq.NewServeMux()
	job.Handle(mux, func(ctx context.Context, args string) error {
		got := asynqjobs.HeadersOf(ctx)
		rec.add(args + " " + got["tenant"])
		if got != nil {
			got["tenant"] = "changed"
		}
		if len(asynqjobs.HeadersOf(ctx)) > 0 && asynqjobs.HeadersOf(ctx)["tenant"] == "changed" {
			t.Error("the map is shared")
		}
		return nil
	})
	require.Nil(t, asynqjobs.HeadersOf(t.Context()))

	one, err := job.NewTask("one", headers, asynq.MaxRetry(1))
	require.NoError(t, err)
	two, err := job.NewTask("two", nil)
	require.NoError(t, err)
	infos, err := b.client.EnqueueMany(t.Context(), []*asynq.Task{one, two})
	require.NoError(t, err)
	require.Equal(t, []int{1, 3}, []int{infos[0].MaxRetry, infos[1].MaxRetry})
	stored, err := b.inspector.GetTaskInfo("low", infos[0].ID)
	require.NoError(t, err)
	require.Empty(t, stored.Headers)
	require.NotContains(t, string(stored.Payload), "tenant")
	args, err := job.Args(t.Context(), b.client, stored)
	require.NoError(t, err)
	require.Equal(t, "one", args)
	_, err = asynqjobs.DefineWith[string]("mail", upperCodec{}).NewTask("bad", nil)
	require.ErrorIs(t, err, asynqjobs.ErrCodec)

	s, err := asynqjobs.NewScheduler(b.rdb, b.client)
	require.NoError(t, err)
	synced, err := s.Sync(t.Context(), []asynqjobs.PeriodicTask{{Name: "hourly", When: asynqjobs.Every(time.Hour), Task: one}})
	require.NoError(t, err)
	require.Equal(t, asynqjobs.SyncResult{Changed: 1}, synced)
	changed, err := s.ScheduleOnce(t.Context(), "hourly", asynqjobs.Every(time.Hour), one)
	require.NoError(t, err)
	require.False(t, changed)

	// An application's plaintext headers reach the handler, too.
	policy := asynqjobs.WithPlaintext(jobs.WritePlaintext)
	plain, err := job.NewTask("plain", headers)
	require.NoError(t, err)
	_, err = newClient(t, b.conn, b.e, policy).EnqueueContext(t.Context(), plain)
	require.NoError(t, err)
	serve(t, b.conn, b.e, asynq.Config{Queues: map[string]int{"low": 1}}, mux, policy)
	eventually(t, "three tasks", patience, func() bool { return len(rec.all()) == 3 })
	require.ElementsMatch(t, []string{"one secret-tenant", "two ", "plain secret-tenant"}, rec.all())
}

// A client logs an ERROR about a queue that no server processes, and only about such a queue.
func TestQueuesWithoutServerAreLogged(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	var mu sync.Mutex
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&locked{mu: &mu, w: &log}, nil))
	text := func() string {
		mu.Lock()
		defer mu.Unlock()
		return log.String()
	}
	serve(t, b.conn, b.e, asynq.Config{Queues: map[string]int{"served": 1}}, asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil }))
	eventually(t, "server registered", patience, func() bool {
		servers, err := b.inspector.Servers()
		return err == nil && len(servers) == 1
	})
	stoppedServer(t, b, "served", "halted")
	c, err := asynqjobs.NewClient(b.plain, b.e, asynqjobs.WithLogger(logger), asynqjobs.WithQueueCheck(b.inspector), asynqjobs.WithQueueCheckGrace(10*time.Millisecond))
	require.NoError(t, err)
	job := asynqjobs.Define[int]("t", asynq.Queue("unserved"))
	_, err = job.Delay(t.Context(), c, 1, asynq.Queue("halted"))
	require.NoError(t, err)
	for range 3 {
		_, err := job.Delay(t.Context(), c, 1)
		require.NoError(t, err)
		_, err = job.Delay(t.Context(), c, 1, asynq.Queue("served"))
		require.NoError(t, err)
	}
	eventually(t, "logged", patience, func() bool { return strings.Count(text(), "level=ERROR") >= 2 })
	require.NoError(t, c.Close())
	require.Equal(t, 2, strings.Count(text(), "level=ERROR"), text())
	require.Contains(t, text(), "queue=unserved")
	require.Contains(t, text(), "queue=halted", "a server that does not fetch tasks serves nothing")

	// Close does not wait for the grace.
	c = newClient(t, b.conn, b.e, asynqjobs.WithQueueCheck(b.inspector), asynqjobs.WithQueueCheckGrace(time.Hour))
	_, err = job.Delay(t.Context(), c, 1)
	require.NoError(t, err)
	require.NoError(t, c.Close())
}

// stoppedServer registers a copy of the only server, with another queue, that has stopped to fetch tasks. Each text is replaced
// by one of the same length, so that the encoding stays valid.
func stoppedServer(t *testing.T, b *bench, queue, other string) {
	t.Helper()
	require.Len(t, other, len(queue))
	const servers = "asynq:servers"
	rdb, ctx := b.rdb, t.Context()
	names := rdb.ZRange(ctx, servers, 0, -1).Val()
	require.Len(t, names, 1)
	info, err := rdb.Get(ctx, names[0]).Bytes()
	require.NoError(t, err)
	id := strings.TrimSuffix(names[0][strings.LastIndexByte(names[0], ':')+1:], "}")
	info = []byte(strings.NewReplacer(queue, other, "active", "closed", id, strings.Repeat("0", len(id))).Replace(string(info)))
	require.NoError(t, rdb.Set(ctx, "asynq:servers:{stopped}", info, time.Hour).Err())
	require.NoError(t, rdb.ZAdd(ctx, servers, redis.Z{Score: float64(time.Now().Add(time.Hour).Unix()), Member: "asynq:servers:{stopped}"}).Err())
	all, err := b.inspector.Servers()
	require.NoError(t, err)
	require.Len(t, all, 2)
}

// A job is never archived because its key could not be asked about, also if it has no try left.
func TestTooManyDataKeysArchiveNothing(t *testing.T) {
	t.Parallel()
	a := &failingAEAD{Keyring: newKeyring(t)}
	b := newBench(t, newEncryptor(t, a))
	for _, id := range []string{"0", "5"} {
		_, err := b.client.Enqueue(asynq.NewTask("t", []byte(id)), asynq.TaskID(id), asynq.MaxRetry(int(id[0]-'0')), asynq.Retention(time.Hour))
		require.NoError(t, err)
	}
	a.set(aead.ErrTooManyDataKeys)
	m := newMeters()
	serve(t, b.conn, b.e, asynq.Config{RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Second }},
		asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil }), asynqjobs.WithMeterProvider(m.provider))
	eventually(t, "several tries", patience, func() bool { return m.counts(t)["retried too_many_data_keys"] >= 4 })
	info, err := b.inspector.GetTaskInfo("default", "5")
	require.NoError(t, err)
	require.Zero(t, info.Retried)
	a.set(nil)
	for _, id := range []string{"0", "5"} {
		require.Zero(t, b.awaitState(t, "default", id, asynq.TaskStateCompleted).Retried)
	}
}
