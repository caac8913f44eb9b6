package asynqjobs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

type enqueuer interface {
	Enqueue(*asynq.Task, ...asynq.Option) (*asynq.TaskInfo, error)
}

// outcome is what an enqueue answers.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, asynq.ErrDuplicateTask):
		return "duplicate"
	case errors.Is(err, asynq.ErrTaskIDConflict):
		return "conflict"
	default:
		return "error: " + err.Error()
	}
}

// endLock checks the time to live of a task's lock of an hour, and lets the lock end.
func endLock(t *testing.T, rdb *redis.Client, info *asynq.TaskInfo) {
	t.Helper()
	key, err := rdb.HGet(t.Context(), "asynq:{"+info.Queue+"}:t:"+info.ID, "unique_key").Result()
	require.NoError(t, err)
	require.InDelta(t, time.Hour, rdb.PTTL(t.Context(), key).Val(), float64(10*time.Minute))
	require.NoError(t, rdb.PExpire(t.Context(), key, time.Millisecond).Err())
	eventually(t, "the end of the lock", patience, func() bool { return rdb.Exists(t.Context(), key).Val() == 0 })
}

// uniqueStory enqueues unique tasks of every kind, before and after a worker is started, and returns the answers.
func uniqueStory(t *testing.T, srv *redistest.Server, c enqueuer, start func(asynq.Handler)) []string {
	t.Helper()
	conn := connTo(srv.Addr())
	insp := asynq.NewInspector(conn)
	defer insp.Close()
	var log []string
	enqueue := func(what, typename string, payload []byte, opts ...asynq.Option) *asynq.TaskInfo {
		info, err := c.Enqueue(asynq.NewTask(typename, payload), opts...)
		log = append(log, what+": "+outcome(err))
		return info
	}
	gone := func(queue, id string) {
		eventually(t, "task gone", patience, func() bool {
			_, err := insp.GetTaskInfo(queue, id)
			return errors.Is(err, asynq.ErrTaskNotFound)
		})
	}
	state := func(id string, s asynq.TaskState) {
		eventually(t, "task "+s.String(), patience, func() bool {
			info, err := insp.GetTaskInfo("default", id)
			return err == nil && info.State == s
		})
	}
	hour := asynq.Unique(time.Hour)
	ok := enqueue("first", "ok", []byte("a"), hour)
	enqueue("again, pending", "ok", []byte("a"), hour)
	enqueue("not unique", "ok", []byte("a"), asynq.TaskID("plain"))
	enqueue("other payload", "ok", []byte("b"), hour)
	enqueue("other type", "ok2", []byte("a"), hour)
	enqueue("other queue", "ok", []byte("a"), hour, asynq.Queue("low"))
	enqueue("nil payload", "ok", nil, hour)
	enqueue("nil payload again", "ok", nil, hour)
	enqueue("empty payload is not nil", "ok", []byte{}, hour)
	enqueue("empty again", "ok", []byte{}, hour)
	enqueue("other id, same task", "ok", []byte("a"), hour, asynq.TaskID("mine"))
	later := enqueue("to be unlocked", "later", []byte("a"), hour)
	enqueue("at once again", "later", []byte("a"), hour)
	enqueue("scheduled", "ok", []byte("s"), hour, asynq.ProcessIn(time.Hour))
	enqueue("scheduled again", "ok", []byte("s"), hour, asynq.ProcessIn(2*time.Hour))
	enqueue("scheduled, now", "ok", []byte("s"), hour)
	enqueue("in a group", "ok", []byte("g"), hour, asynq.Group("g"))
	enqueue("in a group again", "ok", []byte("g"), hour, asynq.Group("g"))
	enqueue("in another group", "ok", []byte("g"), hour, asynq.Group("h"))
	endLock(t, clientOf(t, srv), later)
	enqueue("after the lock's end", "later", []byte("a"), hour)

	start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		switch task.Type() {
		case "retry":
			return errMine
		case "archive":
			return fmt.Errorf("%w: %w", errMine, asynq.SkipRetry)
		case "revoke":
			return asynq.RevokeTask
		}
		return nil
	}))
	gone("default", ok.ID)
	enqueue("after success", "ok", []byte("a"), hour)
	kept := enqueue("retained", "kept", []byte("a"), hour, asynq.Retention(time.Hour))
	state(kept.ID, asynq.TaskStateCompleted)
	enqueue("after success, retained", "kept", []byte("a"), hour)
	retry := enqueue("fails", "retry", []byte("a"), hour)
	state(retry.ID, asynq.TaskStateRetry)
	enqueue("while in retry", "retry", []byte("a"), hour)
	archived := enqueue("fails for good", "archive", []byte("a"), hour)
	state(archived.ID, asynq.TaskStateArchived)
	enqueue("while archived", "archive", []byte("a"), hour)
	require.NoError(t, insp.DeleteTask("default", archived.ID))
	enqueue("after deletion from the archive", "archive", []byte("a"), hour)
	revoked := enqueue("revoked", "revoke", []byte("a"), hour)
	gone("default", revoked.ID)
	enqueue("after revocation", "revoke", []byte("a"), hour)
	return log
}

// The sealed client answers what asynq answers for plaintext tasks: both get the same calls.
func TestUniqueIsExactlyAsynqs(t *testing.T) {
	t.Parallel()
	plainSrv := redistest.Start(t)
	plainConn := connTo(plainSrv.Addr())
	plain := asynq.NewClient(plainConn)
	defer plain.Close()
	want := uniqueStory(t, plainSrv, plain, func(h asynq.Handler) {
		srv := asynq.NewServer(plainConn, fast(asynq.Config{}))
		require.NoError(t, srv.Start(h))
		t.Cleanup(srv.Shutdown)
	})
	require.Contains(t, want, "while archived: duplicate", "the story tells something")
	require.Contains(t, want, "after success: ok")

	for name, opts := range map[string][]asynqjobs.Option{"open": nil, "hidden": {asynqjobs.WithHiddenTypes()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil, opts...)
			got := uniqueStory(t, b.srv, b.client, func(h asynq.Handler) { serve(t, b.conn, b.e, asynq.Config{}, h) })
			require.Equal(t, want, got)
		})
	}
}

func TestUniqueBetweenProcesses(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	keys := keysets(t)
	var ps []*process
	for range 4 {
		ps = append(ps, spawn(t, "unique the same", keys, srv.Addr()))
	}
	var said []string
	for _, p := range ps {
		require.NoError(t, p.cmd.Wait())
		said = append(said, p.out.String())
	}
	require.ElementsMatch(t, []string{"enqueued", "duplicate", "duplicate", "duplicate"}, said)

	other := spawn(t, "unique another", keys, srv.Addr())
	require.NoError(t, other.cmd.Wait())
	require.Equal(t, "enqueued", other.out.String())
}

// An attacker who guesses a payload cannot check the guess: the tag needs a key.
func TestUniqueTagsGiveNothingAway(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	other := newClient(t, b.conn, newEncryptor(t, nil))
	task := asynq.NewTask("t", []byte("1234"))
	_, err := b.client.Enqueue(task, asynq.Unique(time.Hour))
	require.NoError(t, err)
	_, err = b.plain.Enqueue(task, asynq.Unique(time.Hour))
	require.NoError(t, err, "asynq's own unsalted md5 of the payload is another")
	_, err = other.Enqueue(task, asynq.Unique(time.Hour))
	require.NoError(t, err, "and so is a tag under another key")
	keys, err := b.rdb.Keys(t.Context(), "asynq:{default}:unique:*").Result()
	require.NoError(t, err)
	require.Len(t, keys, 3)
}

// A unique task's parts can be exchanged neither with another task's nor for another form.
func TestUniqueTasksCannotBeTakenApart(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	info := func(payload string, opts ...asynq.Option) *asynq.TaskInfo {
		i, err := b.client.Enqueue(asynq.NewTask("t", []byte(payload)), append(opts, asynq.ProcessIn(time.Hour))...)
		require.NoError(t, err)
		i, err = b.inspector.GetTaskInfo("default", i.ID)
		require.NoError(t, err)
		return i
	}
	one, two, plain := info("one", asynq.Unique(time.Hour)), info("two", asynq.Unique(time.Hour)), info("three")
	require.Len(t, one.Payload, 35)
	aside := func(payload string) map[string]string { return map[string]string{"sealcache-payload": payload} }
	sealed := decoded(t, one.Headers["sealcache-payload"])
	_, claim := parted(sealed)
	another, _ := parted(decoded(t, two.Headers["sealcache-payload"]))
	for name, c := range map[string]struct {
		payload []byte
		headers map[string]string
		of      *asynq.TaskInfo
	}{
		"another's tag":           {two.Payload, one.Headers, one},
		"another's ciphertext":    {one.Payload, aside(encoded(claiming(another, claim))), one},
		"tag alone":               {one.Payload, nil, one},
		"tag without payload":     {one.Payload, map[string]string{"another": "header"}, one},
		"payload beside":          {plain.Payload, one.Headers, one},
		"a tag of zeros":          {append([]byte("\xc1\x5c\xff"), make([]byte, 32)...), one.Headers, one},
		"plaintext in the header": {one.Payload, aside(encoded([]byte("one"))), one},
		"not base64":              {one.Payload, aside("?"), one},
		"made unique afterward":   {one.Payload, aside(encoded(plain.Payload)), plain},
		"no longer unique":        {sealed, nil, one},
	} {
		forged := *c.of
		forged.Payload, forged.Headers = c.payload, c.headers
		_, err := asynqjobs.OpenTask(t.Context(), b.e, &forged)
		require.Error(t, err, name)
		require.True(t, strings.Contains(err.Error(), "not authentic") || strings.Contains(err.Error(), "unsupported value format") || errors.Is(err, asynqjobs.ErrRewritten), "%s: %v", name, err)
	}
	_, err := asynqjobs.OpenTask(t.Context(), b.e, one)
	require.NoError(t, err)
}

// Clients and workers get new PRF keys one after the other, or workers get none: honest unique jobs run everywhere.
func TestUniqueTasksNeedNoPRFWhereTheyRun(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	k := newKeyring(t)
	sender := newEncryptor(t, k)
	client := newClient(t, b.conn, sender)
	without, err := jobs.NewEncryptor(k, jobs.WithLogger(quiet))
	require.NoError(t, err)
	for name, worker := range map[string]*jobs.Encryptor{"another": newEncryptor(t, k), "none": without} {
		var rec recorder
		stop := serve(t, b.conn, worker, grouping(map[string]int{name: 1}), rec.handler())
		for _, payload := range [][]byte{nil, {}, []byte("x")} {
			info, err := client.Enqueue(asynq.NewTask("t", payload), asynq.Unique(time.Hour), asynq.Queue(name), asynq.Retention(time.Hour))
			require.NoError(t, err)
			b.awaitState(t, name, info.ID, asynq.TaskStateCompleted)
		}
		stop()
		require.Equal(t, []string{"t: ", "t: ", "t: x"}, rec.all(), name)
	}
}
