package asynqjobs_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// groupAggregation aggregates groups that it is given by hand.
type groupAggregation struct {
	t     *testing.T
	conn  asynq.RedisClientOpt
	insp  *asynq.Inspector
	plain *asynq.Client
}

func newGroupAggregation(t *testing.T) *groupAggregation {
	t.Helper()
	g := &groupAggregation{t: t, conn: connTo(miniredis.RunT(t).Addr())}
	g.insp, g.plain = asynq.NewInspector(g.conn), asynq.NewClient(g.conn)
	t.Cleanup(func() { _, _ = g.insp.Close(), g.plain.Close() })
	return g
}

// members returns n members of group g as asynq's aggregator gets them.
func (g *groupAggregation) members(e *jobs.Encryptor, n, size int) []*asynq.Task {
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
func (g *groupAggregation) aggregate(e *jobs.Encryptor, tasks []*asynq.Task, queues map[string]int, opts ...asynqjobs.Option) (seen int, out *asynq.Task) {
	g.t.Helper()
	cfg, err := asynqjobs.Config(e, asynq.Config{Queues: queues, GroupAggregator: asynq.GroupAggregatorFunc(func(_ string, tasks []*asynq.Task) *asynq.Task {
		seen = len(tasks)
		return asynq.NewTask("batch", []byte("batch"))
	})}, append([]asynqjobs.Option{asynqjobs.WithGroupClient(g.plain), asynqjobs.WithLogger(quiet)}, opts...)...)
	require.NoError(g.t, err)
	return seen, cfg.GroupAggregator.Aggregate("g", tasks)
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

// pending returns the tasks that wait in the queue, by type.
func (g *groupAggregation) pending() map[string][]*asynq.TaskInfo {
	g.t.Helper()
	infos, err := g.insp.ListPendingTasks("default", asynq.PageSize(1000))
	require.NoError(g.t, err)
	byType := map[string][]*asynq.TaskInfo{}
	for _, info := range infos {
		byType[info.Type] = append(byType[info.Type], info)
	}
	return byType
}

// A member that names a key of an attacker's invention does not stop the others. It is held, because it might be honest.
func TestUnknownKeyDoesNotStopAGroup(t *testing.T) {
	t.Parallel()
	g := newGroupAggregation(t)
	e := newEncryptor(t, nil)
	good := g.members(e, 3, 10)
	forged := g.members(newEncryptor(t, nil), 1, 10)
	seen, out := g.aggregate(e, append(good, forged...), nil)
	require.NotNil(t, out)
	require.Equal(t, 3, seen)
	held := g.pending()["sealcache:held-member"]
	require.Len(t, held, 1)
	got := asynqjobs.HeldMember(t, e, held[0])
	require.Equal(t, forged[0].Payload(), got.Payload(), "as it was found")
}

// A member that is too large to be held is enqueued as it was found.
func TestOversizeMembersDoNotStopAGroup(t *testing.T) {
	t.Parallel()
	g := newGroupAggregation(t)
	e := newEncryptor(t, nil, jobs.WithMaxPayloadBytes(1000))
	large := g.members(newEncryptor(t, nil), 2, 990)
	planted := asynq.NewTask("x", make([]byte, 2000))
	seen, out := g.aggregate(e, append(g.members(e, 1, 10), large[0], large[1], planted), nil)
	require.NotNil(t, out)
	require.Equal(t, 1, seen)
	pending := g.pending()
	require.Empty(t, pending["sealcache:held-member"])
	require.Len(t, pending["part"], 2)
	require.Len(t, pending["x"], 1)
	require.Equal(t, planted.Payload(), pending["x"][0].Payload)
}

// A hundred acknowledged members under a key that was disabled are all held, each in its own task.
func TestManyRefusedMembersAreHeld(t *testing.T) {
	t.Parallel()
	g := newGroupAggregation(t)
	before, after := successor(t)
	tasks := g.members(before, 100, 20<<10)
	_, out := g.aggregate(after, tasks, nil)
	require.NotNil(t, out, "asynq enqueues one of them")
	_, err := g.plain.Enqueue(out)
	require.NoError(t, err)
	require.Len(t, g.pending()["sealcache:held-member"], 100)
}

// With a client, each refused member becomes a separate task, even if no other member opened. It is archived with its
// reason, at any size, or retried if it may open later. The others' task is an ordinary one.
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
	g := newGroupAggregation(t)
	e := newEncryptor(t, nil)
	tasks := append(g.members(e, 1, 10), asynq.NewTask("x", []byte("planted")))
	nowhere := asynq.NewClient(asynq.RedisClientOpt{Addr: "127.0.0.1:1"})
	defer nowhere.Close()
	_, out := g.aggregate(e, tasks, nil, asynqjobs.WithGroupClient(nowhere))
	require.Nil(t, out)
	for range 2 {
		_, out = g.aggregate(e, tasks, nil, asynqjobs.WithGroupClient(g.plain))
		require.NotNil(t, out, "an earlier round does not disturb")
	}
	pending, err := g.insp.ListPendingTasks("default")
	require.NoError(t, err)
	require.Len(t, pending, 1)
	_, err = asynqjobs.Config(e, asynq.Config{}, asynqjobs.WithGroupClient(nil))
	require.Error(t, err)
}

// A group whose aggregate is too large to be sealed is put back, and the log names a remedy.
func TestTooLargeAggregatesAreTold(t *testing.T) {
	t.Parallel()
	g := newGroupAggregation(t)
	e := newEncryptor(t, nil, jobs.WithMaxPayloadBytes(1000))
	var log bytes.Buffer
	cfg, err := asynqjobs.Config(e, asynq.Config{GroupAggregator: asynq.GroupAggregatorFunc(func(string, []*asynq.Task) *asynq.Task {
		return asynq.NewTask("batch", make([]byte, 2000))
	})}, asynqjobs.WithGroupClient(g.plain), asynqjobs.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	require.NoError(t, err)
	require.Nil(t, cfg.GroupAggregator.Aggregate("g", g.members(e, 3, 10)))
	require.Contains(t, log.String(), "GroupMaxSize")
}
