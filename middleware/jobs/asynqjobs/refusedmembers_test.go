package asynqjobs_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// gathering aggregates groups that it is given by hand.
type gathering struct {
	t     *testing.T
	conn  asynq.RedisClientOpt
	insp  *asynq.Inspector
	plain *asynq.Client
}

func newGathering(t *testing.T) *gathering {
	t.Helper()
	g := &gathering{t: t, conn: asynq.RedisClientOpt{Addr: miniredis.RunT(t).Addr()}}
	g.insp, g.plain = asynq.NewInspector(g.conn), asynq.NewClient(g.conn)
	t.Cleanup(func() { _, _ = g.insp.Close(), g.plain.Close() })
	return g
}

// members returns n members of group g as asynq's aggregator gets them.
func (g *gathering) members(e *jobs.Encryptor, n, size int) []*asynq.Task {
	g.t.Helper()
	c := newClient(g.t, g.conn, e)
	var tasks []*asynq.Task
	for i := range n {
		info, err := c.Enqueue(asynq.NewTask("part", bytes.Repeat([]byte{'a' + byte(i%26)}, size)), asynq.Group("g"))
		require.NoError(g.t, err)
		info, err = g.insp.GetTaskInfo("default", info.ID)
		require.NoError(g.t, err)
		tasks = append(tasks, asynq.NewTaskWithHeaders(info.Type, info.Payload, info.Headers))
	}
	return tasks
}

// aggregate aggregates tasks, and returns how many the application saw and what came out.
func (g *gathering) aggregate(e *jobs.Encryptor, tasks []*asynq.Task, queues map[string]int, opts ...asynqjobs.Option) (seen int, out *asynq.Task) {
	g.t.Helper()
	cfg, err := asynqjobs.Config(e, asynq.Config{Queues: queues, GroupAggregator: asynq.GroupAggregatorFunc(func(_ string, tasks []*asynq.Task) *asynq.Task {
		seen = len(tasks)
		return asynq.NewTask("batch", []byte("batch"))
	})}, append(opts, asynqjobs.WithLogger(quiet))...)
	require.NoError(g.t, err)
	return seen, cfg.GroupAggregator.Aggregate("g", tasks)
}

// refused enqueues what an aggregator returned, and returns the members that it carries.
func (g *gathering) refused(e *jobs.Encryptor, task *asynq.Task) []*asynq.Task {
	g.t.Helper()
	info, err := g.plain.Enqueue(task, asynq.ProcessIn(time.Hour))
	require.NoError(g.t, err)
	info, err = g.insp.GetTaskInfo(info.Queue, info.ID)
	require.NoError(g.t, err)
	tasks, err := asynqjobs.OpenRefused(g.t.Context(), e, info)
	require.NoError(g.t, err)
	return tasks
}

// successor returns an encryptor, and another whose keyset came after the first one's was disabled.
func successor(t *testing.T, opts ...jobs.Option) (before, after *jobs.Encryptor) {
	t.Helper()
	m := keyset.NewManager()
	old, err := m.Add(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	require.NoError(t, m.SetPrimary(old))
	open := func() *jobs.Encryptor {
		h, err := m.Handle()
		require.NoError(t, err)
		k, err := aead.NewKeyring(h)
		require.NoError(t, err)
		return newEncryptor(t, k, opts...)
	}
	before = open()
	fresh, err := m.Add(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	require.NoError(t, m.SetPrimary(fresh))
	require.NoError(t, m.Disable(old))
	return before, open()
}

// A forged member that names a key of its own invention costs nobody his run.
func TestUnknownKeyDoesNotStopAGroup(t *testing.T) {
	t.Parallel()
	g := newGathering(t)
	e := newEncryptor(t, nil)
	good := g.members(e, 3, 10)
	forged := g.members(newEncryptor(t, nil), 1, 10)
	a, now, seen := g.aggregator(e)
	require.Nil(t, a.Aggregate("g", append(good, forged...)), "it might be honest")
	*now = now.Add(asynqjobs.GroupPatience)
	out := a.Aggregate("g", append(good, forged...))
	require.NotNil(t, out)
	require.Equal(t, 3, *seen)
	got := g.refused(e, out)
	require.Len(t, got, 1)
	require.Equal(t, forged[0].Payload(), got[0].Payload(), "kept as it was found")
}

// Members that are too large to be carried do not take the good ones along, and it is said that they are lost.
func TestOversizeMembersDoNotStopAGroup(t *testing.T) {
	t.Parallel()
	g := newGathering(t)
	e := newEncryptor(t, nil, jobs.WithMaxPayloadBytes(1000))
	good := g.members(e, 3, 10)
	big := asynq.NewTask("x", bytes.Repeat([]byte("x"), 900))
	small := asynq.NewTask("x", []byte("small"))
	m := newMeters()
	seen, out := g.aggregate(e, append(good, big, small, big), nil, asynqjobs.WithMeterProvider(m.provider))
	require.NotNil(t, out)
	require.Equal(t, 3, seen)
	got := g.refused(e, out)
	require.Len(t, got, 2, "one of the large ones fits beside the small one")
	require.EqualValues(t, 1, m.counts(t)["lost"])

	var huge []*asynq.Task
	for range 3 {
		huge = append(huge, asynq.NewTask("x", bytes.Repeat([]byte("x"), 2000)))
	}
	for name, tasks := range map[string][]*asynq.Task{"with good ones": append(huge, g.members(e, 1, 900)...), "alone": huge} {
		_, out = g.aggregate(e, tasks, nil)
		require.NotNil(t, out, name)
		require.Empty(t, g.refused(e, out), name)
	}
}

// That members were lost stands in the archive.
func TestLostMembersAreNamedInTheArchive(t *testing.T) {
	t.Parallel()
	b := newBench(t, newEncryptor(t, nil, jobs.WithMaxPayloadBytes(1000)))
	for range 2 {
		_, err := b.plain.Enqueue(asynq.NewTask("x", make([]byte, 2000)), asynq.Group("g"))
		require.NoError(t, err)
	}
	_, err := b.client.Enqueue(asynq.NewTask("part", []byte("good")), asynq.Group("g"))
	require.NoError(t, err)
	var rec recorder
	serve(t, b.conn, b.e, grouping(nil), rec.handler())
	info := b.awaitState(t, "default", "batch-g", asynq.TaskStateArchived)
	require.Equal(t, []string{"batch:g: part=good"}, rec.all())
	reason, _ := asynqjobs.ReasonOf(info)
	require.Equal(t, asynqjobs.ReasonGroup, reason)
	require.Contains(t, info.LastErr, "2 more were too large")
}

// A hundred acknowledged members under a key that was disabled are all kept.
func TestManyRefusedMembersAreKept(t *testing.T) {
	t.Parallel()
	g := newGathering(t)
	before, after := successor(t)
	tasks := g.members(before, 100, 20<<10)
	_, out := g.aggregate(after, tasks, nil)
	require.NotNil(t, out)
	require.Len(t, g.refused(after, out), 100)
}

// With a client each refused member is a task by itself, also where no other opened: archived with its reason, whatever
// its size, or retried if it may open later. The others' task is an ordinary one.
func TestRefusedMembersEnqueuedAlone(t *testing.T) {
	t.Parallel()
	for _, queues := range []map[string]int{{"default": 1}, {"default": 1, "low": 1}} {
		t.Run(fmt.Sprintf("%d queues", len(queues)), func(t *testing.T) {
			t.Parallel()
			before, after := successor(t, jobs.WithMaxPayloadBytes(1000))
			b := newBench(t, after)
			var rec recorder
			old := newClient(t, b.conn, before)
			for _, group := range []string{"g", "bad"} {
				_, err := old.Enqueue(asynq.NewTask("part", []byte("old")), asynq.Group(group))
				require.NoError(t, err)
				for range 2 { // the same bytes
					_, err = b.plain.Enqueue(asynq.NewTask("part", bytes.Repeat([]byte(group), 2000)), asynq.Group(group))
					require.NoError(t, err)
				}
			}
			other := newClient(t, b.conn, newEncryptor(t, nil))
			_, err := other.Enqueue(asynq.NewTask("part", []byte("foreign")), asynq.Group("g"))
			require.NoError(t, err)
			_, err = b.client.Enqueue(asynq.NewTask("part", []byte("good")), asynq.Group("g"))
			require.NoError(t, err)
			serve(t, b.conn, after, grouping(queues), rec.handler(), asynqjobs.WithGroupClient(b.plain))
			b.awaitState(t, "default", "batch-g", asynq.TaskStateCompleted)
			reasons := map[asynqjobs.Reason]int{}
			eventually(t, "archived", patience, func() bool {
				clear(reasons)
				for q := range queues {
					tasks, _ := b.inspector.ListArchivedTasks(q)
					for _, i := range tasks {
						r, _ := asynqjobs.ReasonOf(i)
						reasons[r]++
					}
				}
				return reasons[asynqjobs.ReasonNotSealed] == 4 && reasons[asynqjobs.ReasonKeyRemoved] == 2
			})
			require.Len(t, reasons, 2, "%v", reasons)
			eventually(t, "retried", patience, func() bool {
				tasks, err := b.inspector.ListRetryTasks("default")
				if err != nil || len(tasks) != 1 {
					return false
				}
				reason, _ := asynqjobs.ReasonOf(tasks[0])
				return reason == asynqjobs.ReasonUnknownKey
			})
			require.Equal(t, []string{"batch:g: part=good"}, rec.all())
		})
	}
}

// When they cannot be enqueued nothing is: the group comes again.
func TestGroupIsPutBackIfRefusedMembersCannotBeEnqueued(t *testing.T) {
	t.Parallel()
	g := newGathering(t)
	e := newEncryptor(t, nil)
	tasks := append(g.members(e, 1, 10), asynq.NewTask("x", []byte("planted")))
	nowhere := asynq.NewClient(asynq.RedisClientOpt{Addr: "127.0.0.1:1"})
	defer nowhere.Close()
	_, out := g.aggregate(e, tasks, nil, asynqjobs.WithGroupClient(nowhere))
	require.Nil(t, out)
	for range 2 {
		_, out = g.aggregate(e, tasks, nil, asynqjobs.WithGroupClient(g.plain))
		require.NotNil(t, out, "what was enqueued before is no hindrance")
		require.Empty(t, g.refused(e, out))
	}
	pending, err := g.insp.ListPendingTasks("default")
	require.NoError(t, err)
	require.Len(t, pending, 1)
	_, err = asynqjobs.Config(e, asynq.Config{}, asynqjobs.WithGroupClient(nil))
	require.Error(t, err)
}

// Refused members stay, and it is said that they are there, whatever becomes of the others: a handler that revokes the
// task, that fails for good, or that panics.
func TestRefusedMembersStayWhenTheOthersFail(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]asynq.HandlerFunc{
		"revoked": func(context.Context, *asynq.Task) error { return fmt.Errorf("secret: %w", asynq.RevokeTask) },
		"failed":  func(context.Context, *asynq.Task) error { return fmt.Errorf("secret: %w", asynq.SkipRetry) },
		"panic":   func(context.Context, *asynq.Task) error { panic("secret") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			_, err := b.plain.Enqueue(asynq.NewTask("x", []byte("planted")), asynq.Group("g"))
			require.NoError(t, err)
			_, err = b.client.Enqueue(asynq.NewTask("part", []byte("good")), asynq.Group("g"))
			require.NoError(t, err)
			var handled recorder
			cfg := asynq.Config{
				GroupAggregator: asynq.GroupAggregatorFunc(func(_ string, tasks []*asynq.Task) *asynq.Task {
					return asynq.NewTask("batch", tasks[0].Payload(), asynq.MaxRetry(0), asynq.TaskID("batch"))
				}),
				ErrorHandler: asynq.ErrorHandlerFunc(func(_ context.Context, task *asynq.Task, err error) {
					handled.add(string(task.Payload()) + " " + err.Error())
				}),
			}
			serve(t, b.conn, b.e, cfg, h)
			info := b.awaitState(t, "default", "batch", asynq.TaskStateArchived)
			reason, ok := asynqjobs.ReasonOf(info)
			require.True(t, ok, info.LastErr)
			require.Equal(t, asynqjobs.ReasonGroup, reason)
			require.NotContains(t, info.LastErr, "secret")
			require.Contains(t, info.LastErr, "1 members")
			refused, err := asynqjobs.OpenRefused(t.Context(), b.e, info)
			require.NoError(t, err)
			require.Len(t, refused, 1)
			text, err := asynqjobs.OpenFailure(t.Context(), b.e, info)
			require.NoError(t, err)
			require.Len(t, handled.all(), 1)
			require.Contains(t, handled.all()[0], "good ", "the handler of errors has the task in clear, of ReasonGroup too")
			if name == "revoked" {
				require.NotContains(t, text, "secret", "that was no failure")
				require.Contains(t, handled.all()[0], string(asynqjobs.ReasonGroup))
			} else {
				require.Contains(t, text, "secret")
				require.Contains(t, handled.all()[0], "secret")
			}
		})
	}
}

// Where there is no room for all, those that may be honest are kept before those that cannot be, and many small ones
// before a large one, wherever in the task its weight is.
func TestWhichMembersAreKept(t *testing.T) {
	t.Parallel()
	g := newGathering(t)
	before, after := successor(t, jobs.WithMaxPayloadBytes(10_000))
	honest := g.members(before, 20, 300)
	kept := func(others ...*asynq.Task) (n int) {
		_, out := g.aggregate(after, append(others, honest...), nil)
		require.NotNil(t, out)
		for _, m := range g.refused(after, out) {
			for _, h := range honest {
				if bytes.Equal(m.Payload(), h.Payload()) {
					n++
				}
			}
		}
		return n
	}
	require.Equal(t, 20, kept())
	var clear []*asynq.Task
	for range 200 {
		clear = append(clear, asynq.NewTask("x", []byte("small")))
	}
	require.Equal(t, 20, kept(clear...), "clear ones, though they are smaller")
	require.Equal(t, 20, kept(g.members(before, 1, 5000)...), "a large one")
	for _, info := range g.pendingGroup() {
		require.NoError(t, g.insp.DeleteTask("default", info.ID))
	}
	info, err := newClient(t, g.conn, before).Enqueue(asynq.NewTask("part", make([]byte, 5000)), asynq.Unique(time.Hour), asynq.Group("g"))
	require.NoError(t, err)
	info, err = g.insp.GetTaskInfo("default", info.ID)
	require.NoError(t, err)
	require.Less(t, len(info.Payload), len(honest[0].Payload()))
	require.Equal(t, 20, kept(asynq.NewTaskWithHeaders(info.Type, info.Payload, info.Headers)), "one that is large in a header")
}

// What is kept has room beside what the application made of the others.
func TestKeptMembersLeaveRoomForTheOthers(t *testing.T) {
	t.Parallel()
	g := newGathering(t)
	e := newEncryptor(t, nil, jobs.WithMaxPayloadBytes(10_000))
	tasks := g.members(e, 1, 10)
	for range 20 {
		tasks = append(tasks, asynq.NewTask("x", make([]byte, 500)))
	}
	cfg, err := asynqjobs.Config(e, asynq.Config{GroupAggregator: asynq.GroupAggregatorFunc(func(string, []*asynq.Task) *asynq.Task {
		return asynq.NewTaskWithHeaders("batch", make([]byte, 5000), map[string]string{"h": string(make([]byte, 2000))})
	})}, asynqjobs.WithLogger(quiet))
	require.NoError(t, err)
	out := cfg.GroupAggregator.Aggregate("g", tasks)
	require.NotNil(t, out)
	require.Len(t, g.refused(e, out), 5)
}

// What the application makes of a group and is too large to be sealed is put back, and the log says what to do.
func TestTooLargeAggregatesAreTold(t *testing.T) {
	t.Parallel()
	g := newGathering(t)
	e := newEncryptor(t, nil, jobs.WithMaxPayloadBytes(1000))
	var log bytes.Buffer
	cfg, err := asynqjobs.Config(e, asynq.Config{GroupAggregator: asynq.GroupAggregatorFunc(func(string, []*asynq.Task) *asynq.Task {
		return asynq.NewTask("batch", make([]byte, 2000))
	})}, asynqjobs.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	require.NoError(t, err)
	require.Nil(t, cfg.GroupAggregator.Aggregate("g", g.members(e, 3, 10)))
	require.Contains(t, log.String(), "GroupMaxSize")
}
