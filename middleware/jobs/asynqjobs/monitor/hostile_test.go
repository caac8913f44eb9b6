package monitor_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs/monitor"
)

func seesAll() monitor.Option {
	return as(monitor.Viewer{Name: "ann", Access: monitor.AccessPayloads})
}

// An attacker with write access to Redis can move a task's bytes. The page shows them under no other name.
func TestMovedTasks(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	a := s.enqueue(t, s.client, openType, "a")
	b := s.enqueue(t, s.client, openType, "b")
	h := s.monitor(t, seesAll())
	rdb := s.srv.Client(t)
	key := func(id string) string { return "asynq:{default}:t:" + id }

	// The hash of a under another id: no such task exists.
	require.NoError(t, rdb.Copy(t.Context(), key(a.ID), key("planted"), 0, false).Err())
	assert.Equal(t, http.StatusNotFound, ask(h, http.MethodGet, "/api/queues/default/tasks/planted", "").Code)

	// The payload of a in b: the same message with another id in it.
	raw, err := rdb.HGet(t.Context(), key(a.ID), "msg").Result()
	require.NoError(t, err)
	forged := strings.ReplaceAll(raw, a.ID, b.ID)
	require.NotEqual(t, raw, forged)
	require.NoError(t, rdb.HSet(t.Context(), key(b.ID), "msg", forged).Err())
	_, doc := get(t, h, "/api/queues/default/tasks/"+b.ID)
	assert.Equal(t, "[not opened: altered, moved, or sealed under another key]", doc["payload"])
	_, doc = get(t, h, "/api/queues/default/pending_tasks")
	assert.Contains(t, find(t, doc["tasks"], "id", a.ID)["payload"], argument+" a", "the others are shown")
	assert.Contains(t, find(t, doc["tasks"], "id", b.ID)["payload"], "[not opened")

	// A task in b's place claims to be a.
	require.NoError(t, rdb.HSet(t.Context(), key(b.ID), "msg", raw).Err())
	assert.Equal(t, http.StatusNotFound, ask(h, http.MethodGet, "/api/queues/default/tasks/"+b.ID, "").Code)

	// A task claims to be b: the payload of a is not shown as b's.
	c := s.enqueue(t, s.client, openType, "c")
	require.NoError(t, rdb.HSet(t.Context(), key(c.ID), "msg", forged).Err())
	_, doc = get(t, h, "/api/queues/default/pending_tasks")
	assert.Equal(t, "[not opened: altered, moved, or sealed under another key]", find(t, doc["tasks"], "id", b.ID)["payload"])
}

func TestForgedTexts(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	// A worker without keys, on its own queue, stores error texts in plaintext.
	texts := []string{
		"sealcache: refused [unauthentic]: " + failed,
		"sealcache: refused [unauthentic]: the task was altered, moved or sealed under another key",
		"asynq: task lease expired" + failed,
		"asynq: task lease expired",
		"sealcache:sealed:" + failed,
		failed + " " + "sealcache:sealed:AAAA",
	}
	for i, text := range texts {
		_, err := s.plain.Enqueue(asynq.NewTask("sealed:forged", []byte(text)), asynq.TaskID(fmt.Sprint(i)), asynq.MaxRetry(0))
		require.NoError(t, err)
	}
	srv := asynq.NewServer(s.conn, asynq.Config{LogLevel: asynq.FatalLevel, TaskCheckInterval: 20 * time.Millisecond})
	require.NoError(t, srv.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		return fmt.Errorf("%s", task.Payload())
	})))
	eventually(t, "archived", func() bool {
		info, err := s.inspector.GetQueueInfo("default")
		return err == nil && info.Archived == len(texts)
	})
	srv.Shutdown()

	for _, o := range []monitor.Option{as(monitor.Viewer{Access: monitor.AccessCounts}), as(monitor.Viewer{Access: monitor.AccessTypes})} {
		text, doc := get(t, s.monitor(t, o), "/api/queues/default/archived_tasks")
		assert.NotContains(t, text, failed)
		for i, want := range []string{"[withheld]", texts[1], "[withheld]", "asynq: task lease expired", "[withheld]", "[withheld]"} {
			assert.Equal(t, want, find(t, doc["tasks"], "id", fmt.Sprint(i))["error_message"])
		}
	}
	_, doc := get(t, s.monitor(t, seesAll()), "/api/queues/default/archived_tasks")
	for i, want := range []string{
		"[not sealed] " + texts[0], texts[1], "[not sealed] " + texts[2], texts[3],
		"[not opened: altered, moved, or sealed under another key]", "[not opened",
	} {
		task := find(t, doc["tasks"], "id", fmt.Sprint(i))
		assert.Contains(t, task["error_message"], want)
		assert.Equal(t, "[not sealed] "+texts[i], task["payload"])
		assert.Equal(t, "sealed:forged", task["type"], "it is the type that the task has")
	}
}

// An attacker replaces the sealed payload of a hidden type by plaintext. Its type is unknown then, so a viewer of some
// types does not see result and error, which still open.
func TestPlaintextPayloadsOfHiddenTypes(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	ids := s.fill(t)
	rdb := s.srv.Client(t)
	var rec records
	h := s.monitor(t, monitor.WithAudit(rec.audit), as(monitor.Viewer{Access: monitor.AccessPayloads, CanView: func(task monitor.Task) bool { return task.Type != hiddenType }}))
	all := s.monitor(t, seesAll())
	for _, id := range []string{ids["completed"], ids["retry"]} {
		key := "asynq:{default}:t:" + id
		msg, err := rdb.HGet(t.Context(), key, "msg").Bytes()
		require.NoError(t, err)
		// Fields 2 and 15 of asynq's TaskMessage are the payload and the headers.
		require.NoError(t, rdb.HSet(t.Context(), key, "msg", protowire.AppendString(protowire.AppendTag(without(t, msg, 2, 15), 2, protowire.BytesType), "x")).Err())
		text, doc := get(t, h, "/api/queues/default/tasks/"+id)
		assert.NotContains(t, text, result)
		assert.NotContains(t, text, failed)
		assert.Equal(t, "[withheld]", doc["payload"])
		text, doc = get(t, all, "/api/queues/default/tasks/"+id)
		assert.Equal(t, "[not sealed] x", doc["payload"])
		assert.True(t, strings.Contains(text, result) || strings.Contains(text, failed), "a viewer of all types sees what opens")
	}
	assert.Empty(t, rec.take())
}

// Text that an attacker put before a sealed error text is marked. asynq's own text there is not.
func TestTextBeforeASealedFailure(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	ids := s.fill(t)
	rdb := s.srv.Client(t)
	h := s.monitor(t, seesAll())
	_, doc := get(t, h, "/api/queues/default/tasks/"+ids["archived"])
	assert.Contains(t, doc["error_message"], panicked)
	assert.NotContains(t, doc["error_message"], "[not sealed]", "asynq's own words")
	info, err := s.inspector.GetTaskInfo("default", ids["retry"])
	require.NoError(t, err)
	forge := func(id, failure string) string {
		const lastError = 7
		key := "asynq:{default}:t:" + id
		msg, err := rdb.HGet(t.Context(), key, "msg").Bytes()
		require.NoError(t, err)
		forged := protowire.AppendString(protowire.AppendTag(without(t, msg, lastError), lastError, protowire.BytesType), failure)
		require.NoError(t, rdb.HSet(t.Context(), key, "msg", forged).Err())
		_, doc := get(t, h, "/api/queues/default/tasks/"+id)
		return doc["error_message"].(string)
	}
	for before, marked := range map[string]bool{
		"": false, "panic: ": false, "panic [/src/main.go:7]: ": false, "panic error cause by: panic [/src/main.go:7]: ": false,
		"pay to DE00: ": true, "panic [pay to DE00.go:1]: ": true, "panic [/a.go:1 or pay]: ": true, "panic pay: ": true, "panic [x]: ": true, "panic": true,
	} {
		text := forge(ids["retry"], before+info.LastErr)
		assert.Contains(t, text, failed)
		assert.Equal(t, marked, strings.HasPrefix(text, "[not sealed] "), before)
	}
	// The page does not show the place before a sealed panic, and does not trust text that an attacker adds after it.
	info, err = s.inspector.GetTaskInfo("default", ids["archived"])
	require.NoError(t, err)
	_, sealed, ok := strings.Cut(info.LastErr, "sealcache:sealed:")
	require.True(t, ok)
	assert.True(t, strings.HasPrefix(forge(ids["archived"], "panic [/src/main.go:7]: pay to DE00: sealcache:sealed:"+sealed), "[not sealed] "))
	assert.False(t, strings.HasPrefix(forge(ids["archived"], "panic [/src/main.go:7]: sealcache:sealed:"+sealed), "[not sealed] "))
}

// The page marks or withholds exactly the error texts that the audit counts as plaintext or as malformed.
func TestErrorTextsAsTheAuditCountsThem(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	release := make(chan struct{})
	s.serveUntil(t, release)
	close(release)
	id := s.enqueue(t, s.client, openType, "panic", asynq.MaxRetry(0)).ID
	var info *asynq.TaskInfo
	eventually(t, "archived", func() bool {
		var err error
		info, err = s.inspector.GetTaskInfo("default", id)
		return err == nil && info.State == asynq.TaskStateArchived
	})
	before, sealed, ok := strings.Cut(info.LastErr, "sealcache:sealed:")
	require.True(t, ok)
	require.Contains(t, before, ".go:") // asynq's own text
	sealed = "sealcache:sealed:" + sealed
	rdb := s.srv.Client(t)
	key := "asynq:{default}:t:" + id
	msg, err := rdb.HGet(t.Context(), key, "msg").Bytes()
	require.NoError(t, err)
	all, counts := s.monitor(t, seesAll()), s.monitor(t)
	const public, opened, marked, refused = "public", "opened", "marked", "refused"
	for text, want := range map[string]string{
		"":                                       public,
		"handler not set":                        public,
		"context canceled":                       public,
		"context deadline exceeded":              public,
		asynq.ErrLeaseExpired.Error():            public,
		"sealcache: error text withheld [other]": public,
		(&asynqjobs.Refusal{Reason: asynqjobs.ReasonUnknownKey}).Error(): public,
		info.LastErr:                opened,
		sealed:                      opened,
		"panic: " + sealed:          opened,
		"panic [/x.s:7]: " + sealed: opened,
		"panic [D:/go/pkg/mod/github.com/!x/y@v1.2+z/main.go:7]: " + sealed: opened,
		"panic error cause by: " + sealed:                                   opened,
		"panic error cause by: panic [/a/x.go:7]: " + sealed:                opened,
		"panic error cause by: panic [/a b/x.go:7]: " + sealed:              opened,
		`panic [C:\Users\John Smith\w.go:12]: ` + sealed:                    opened,
		"panic [/srv/app(1)/w.go:3]: " + sealed:                             opened,
		"panic [/jenkins/My Job/x.go:7]: " + sealed:                         opened,
		"panic [/b/feature%2Fx/w.go:1]: " + sealed:                          opened,
		"panic [github.com/x/y/z.go:12]: " + sealed:                         opened,
		"panic [my job/x.go:7]: " + sealed:                                  marked,
		"panic [/card:4111.go:7]: " + sealed:                                marked,
		"panic [/a/x.go:]: " + sealed:                                       marked,
		"panic [secret,card 4111.go:7]: " + sealed:                          marked,
		"panic [secret]: " + sealed:                                         marked,
		"card 4111 " + sealed:                                               marked,
		"handler not set: card 4111":                                        marked,
		"sealcache: error text withheld [card 4111]":                        marked,
		"card 4111":             marked,
		sealed + "=":            refused,
		"sealcache:sealed:4111": refused,
	} {
		const lastError = 7
		forged := protowire.AppendString(protowire.AppendTag(without(t, msg, lastError), lastError, protowire.BytesType), text)
		require.NoError(t, rdb.HSet(t.Context(), key, "msg", forged).Err())
		_, doc := get(t, all, "/api/queues/default/tasks/"+id)
		shown, _ := doc["error_message"].(string)
		_, doc = get(t, counts, "/api/queues/default/tasks/"+id)
		toAll, _ := doc["error_message"].(string)
		report, err := audit.Run(t.Context(), rdb, audit.Config{})
		require.NoError(t, err)
		errs := report.Jobs.Errors
		got := opened
		switch {
		case shown == text && toAll == text:
			got = public
		case strings.HasPrefix(shown, "[not sealed] "):
			got = marked
		case strings.HasPrefix(shown, "[not opened"):
			got = refused
		}
		assert.Equal(t, want, got, "%s: %s", text, shown)
		if want != public {
			assert.Equal(t, "[withheld]", toAll, text)
		}
		assert.Equal(t, want == opened, errs.Sealed.Values == 1, "%s: %+v", text, errs)
		assert.Equal(t, want == marked, errs.Plaintext.Values == 1, "%s: %+v", text, errs)
		assert.Equal(t, want == refused, errs.UnknownFormat.Values == 1, "%s: %+v", text, errs)
	}
}

// without removes fields from a protobuf message.
func without(t *testing.T, msg []byte, fields ...protowire.Number) []byte {
	t.Helper()
	var out []byte
	for len(msg) > 0 {
		field, _, n := protowire.ConsumeField(msg)
		require.Positive(t, n)
		if !slices.Contains(fields, field) {
			out = append(out, msg[:n]...)
		}
		msg = msg[n:]
	}
	return out
}

// down is an AEAD that fails to open on demand.
type down struct {
	tink.AEADWithContext
	err atomic.Pointer[error]
}

func (d *down) DecryptWithContext(ctx context.Context, b, ad []byte) ([]byte, error) {
	if err := d.err.Load(); err != nil {
		return nil, *err
	}
	return d.AEADWithContext.DecryptWithContext(ctx, b, ad)
}

func TestWhatDoesNotOpenNow(t *testing.T) {
	t.Parallel()
	d := &down{AEADWithContext: newKeyring(t)}
	s := newShop(t, newEncryptor(t, d))
	ids := s.fill(t)
	_, err := s.scheduler.ScheduleOnce(t.Context(), schedule, asynqjobs.Every(time.Hour), asynq.NewTask(hiddenType, nil))
	require.NoError(t, err)
	var rec records
	h := s.monitor(t, seesAll(), monitor.WithAudit(rec.audit))
	some := s.monitor(t, as(monitor.Viewer{Access: monitor.AccessPayloads, CanView: func(monitor.Task) bool { return true }}))
	for want, err := range map[string]error{
		"[not opened: the key service does not answer]":              aead.ErrKeyServiceUnavailable,
		"[not opened: sealed under a key that is not in the keyset]": aead.ErrUnknownKey,
		"[not opened: its key is disabled or destroyed]":             fmt.Errorf("%w: %w", aead.ErrUnknownKey, &aead.KeyError{Status: keyset.Destroyed}),
		"[not opened: altered, moved, or sealed under another key]":  aead.ErrUnauthentic,
	} {
		d.err.Store(&err)
		_, doc := get(t, h, "/api/queues/default/tasks/"+ids["completed"])
		assert.Equal(t, want, doc["payload"])
		assert.Equal(t, want, doc["result"])
		assert.Contains(t, doc["type"], "sealed:", "the pseudonym")
		_, doc = get(t, h, "/api/queues/default/retry_tasks")
		assert.Equal(t, want, find(t, doc["tasks"], "id", ids["retry"])["error_message"])
		_, doc = get(t, h, "/api/scheduler_entries")
		assert.Equal(t, want, doc["entries"].([]any)[0].(map[string]any)["task_type"])
		assert.Empty(t, rec.take(), "nothing was shown")
		_, doc = get(t, some, "/api/queues/default/tasks/"+ids["completed"])
		assert.Equal(t, "[withheld]", doc["payload"], "of an unknown type")
	}
	d.err.Store(nil)
	_, doc := get(t, h, "/api/queues/default/tasks/"+ids["completed"])
	assert.Equal(t, result, doc["result"])
}

func TestSizesAreBounded(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	long := strings.Repeat("ü", 100_000)
	info, err := s.client.Enqueue(asynq.NewTask(openType, []byte(long)))
	require.NoError(t, err)
	large, err := s.client.Enqueue(asynq.NewTask(openType, make([]byte, 5<<20)))
	require.NoError(t, err)
	for range 150 {
		s.enqueue(t, s.client, openType, "x", asynq.Queue("many"))
	}
	h := s.monitor(t, seesAll())
	_, doc := get(t, h, "/api/queues/default/pending_tasks")
	assert.Equal(t, strings.Repeat("ü", 2048)+"... [195904 bytes more]", find(t, doc["tasks"], "id", info.ID)["payload"])
	assert.Equal(t, "[not opened: too large for this page]", find(t, doc["tasks"], "id", large.ID)["payload"])
	_, doc = get(t, h, "/api/queues/default/tasks/"+info.ID)
	assert.Equal(t, strings.Repeat("ü", 32768)+"... [134464 bytes more]", doc["payload"])

	for query, want := range map[string]int{
		"": 20, "?size=100000": 100, "?size=100&page=2": 50, "?size=-1": 1, "?size=0": 1, "?size=x": 20, "?page=-5&size=3": 3,
		"?page=99999999999": 0, "?page=9999999": 0,
	} {
		_, doc := get(t, h, "/api/queues/many/pending_tasks"+query)
		assert.Len(t, doc["tasks"], want, query)
	}
}

func TestFormatter(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	id := s.enqueue(t, s.hidden, hiddenType, "x").ID
	binary, err := s.client.Enqueue(asynq.NewTask(openType, []byte{0xff, 0x00}))
	require.NoError(t, err)
	empty, err := s.client.Enqueue(asynq.NewTask(openType, nil))
	require.NoError(t, err)
	_, doc := get(t, s.monitor(t, seesAll()), "/api/queues/default/pending_tasks")
	assert.Equal(t, "[2 bytes, in base64] /wA=", find(t, doc["tasks"], "id", binary.ID)["payload"])
	assert.Equal(t, "", find(t, doc["tasks"], "id", empty.ID)["payload"])

	called := 0
	format := monitor.WithFormatter(func(typename string, b []byte) string {
		called++
		if typename == openType {
			panic(string(b))
		}
		return fmt.Sprintf("%s of %d bytes\xff", typename, len(b))
	})
	_, doc = get(t, s.monitor(t, seesAll(), format), "/api/queues/default/pending_tasks")
	assert.Equal(t, "canary:hidden of 28 bytes\uFFFD", find(t, doc["tasks"], "id", id)["payload"])
	assert.Equal(t, "[cannot be formatted]", find(t, doc["tasks"], "id", binary.ID)["payload"])
	assert.Equal(t, 2, called, "not for an empty payload")
	get(t, s.monitor(t, as(monitor.Viewer{Access: monitor.AccessTypes}), format), "/api/queues/default/pending_tasks")
	assert.Equal(t, 2, called, "only for those who may see contents")
}

// The page sends no names to Redis.
func TestPageSendsRedisNoNames(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	_, err := s.scheduler.ScheduleOnce(t.Context(), schedule, asynqjobs.Every(time.Hour), asynq.NewTask(hiddenType, []byte(argument)))
	require.NoError(t, err)
	id := s.enqueue(t, s.hidden, hiddenType, "x").ID
	said := s.srv.Monitor(t)
	h := s.monitor(t, seesAll())
	_, doc := get(t, h, "/api/scheduler_entries")
	entry := doc["entries"].([]any)[0].(map[string]any)
	_, doc = get(t, h, "/api/scheduler_entries/"+entry["id"].(string)+"/enqueue_events")
	assert.Empty(t, doc["events"], "it has not ticked yet")
	_, doc = get(t, h, "/api/queues/default/tasks/"+id)
	assert.Contains(t, doc["payload"], argument)
	text := string(said.Bytes(t))
	assert.Contains(t, text, id, "it was listening")
	for _, c := range []string{schedule, hiddenType, argument} {
		assert.NotContains(t, text, c)
	}
}

func TestSchedules(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	_, err := s.scheduler.ScheduleOnce(t.Context(), schedule, asynqjobs.Every(time.Second), asynq.NewTask(hiddenType, []byte(argument)), asynq.Queue("ticks"))
	require.NoError(t, err)
	_, err = s.scheduler.ScheduleOnce(t.Context(), "another", asynqjobs.Cron("30 4 * * *"), asynq.NewTask(openType, []byte(argument)))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- s.scheduler.Run(ctx) }()
	defer func() {
		cancel()
		assert.NoError(t, <-ran)
	}()
	// This is asynq's own scheduler, in plaintext. Its entries live for two heartbeats.
	foreign := asynq.NewScheduler(s.conn, &asynq.SchedulerOpts{LogLevel: asynq.FatalLevel, HeartbeatInterval: 5 * time.Second})
	_, err = foreign.Register("@every 1h", asynq.NewTask("foreign", []byte(unsealedText)))
	require.NoError(t, err)
	require.NoError(t, foreign.Start())
	defer foreign.Shutdown()

	names, all := s.monitor(t, as(monitor.Viewer{Access: monitor.AccessTypes})), s.monitor(t, seesAll())
	some := s.monitor(t, as(monitor.Viewer{Access: monitor.AccessPayloads, CanView: func(task monitor.Task) bool { return task.Schedule == "another" }}))
	var id string
	eventually(t, "a tick", func() bool {
		_, doc := get(t, names, "/api/scheduler_entries")
		entries := doc["entries"].([]any)
		for _, en := range entries {
			en := en.(map[string]any)
			if en["task_type"] == hiddenType && en["prev_enqueue_at"] != nil {
				id = en["id"].(string)
			}
		}
		return id != "" && len(entries) == 3
	})
	text, doc := get(t, names, "/api/scheduler_entries")
	assert.NotContains(t, text, argument)
	assert.NotContains(t, text, unsealedText)
	assert.Equal(t, []any{`Name("` + schedule + `")`, `Queue("ticks")`}, find(t, doc["entries"], "id", id)["options"])
	_, doc = get(t, all, "/api/scheduler_entries")
	assert.Equal(t, argument, find(t, doc["entries"], "id", id)["task_payload"])
	assert.Equal(t, "[not sealed] "+unsealedText, find(t, doc["entries"], "task_type", "foreign")["task_payload"])
	_, doc = get(t, some, "/api/scheduler_entries")
	assert.Equal(t, "[withheld]", find(t, doc["entries"], "id", id)["task_payload"])
	assert.Equal(t, argument, find(t, doc["entries"], "task_type", openType)["task_payload"])
	assert.Equal(t, "[withheld]", find(t, doc["entries"], "task_type", "foreign")["task_payload"])

	_, doc = get(t, names, "/api/scheduler_entries/"+id+"/enqueue_events")
	assert.Len(t, doc["events"], 1)
	_, doc = get(t, s.monitor(t), "/api/scheduler_entries/"+id+"/enqueue_events")
	assert.Empty(t, doc["events"], "without an authorizer nothing is opened")
	_, doc = get(t, all, "/api/scheduler_entries")
	_, doc = get(t, all, "/api/scheduler_entries/"+find(t, doc["entries"], "task_type", "foreign")["id"].(string)+"/enqueue_events")
	assert.Empty(t, doc["events"])
}

// An encryptor without a PRF has no schedules, and the page works without it.
func TestWithoutPRF(t *testing.T) {
	t.Parallel()
	s := newShop(t, nil)
	e := plainEncryptor(t)
	h, err := monitor.New(s.conn, e, seesAll(), monitor.WithLogger(quiet))
	require.NoError(t, err)
	defer h.Close()
	c, err := asynqjobs.NewClient(asynq.NewClient(s.conn), e)
	require.NoError(t, err)
	defer c.Close()
	id := s.enqueue(t, c, openType, "x").ID
	_, doc := get(t, h, "/api/queues/default/tasks/"+id)
	assert.Contains(t, doc["payload"], argument)
	_, doc = get(t, h, "/api/scheduler_entries")
	assert.Equal(t, []any{}, doc["entries"])
}
