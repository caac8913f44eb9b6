package asynqjobs_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// twoKeysets returns an encryptor with a keyset of one key, and one with that after its rotation: both keys.
func twoKeysets(t *testing.T) (before, after *jobs.Encryptor) {
	t.Helper()
	one, both := twoKeyrings(t)
	return newEncryptor(t, one), newEncryptor(t, both)
}

func twoKeyrings(t *testing.T) (before, after *aead.Keyring) {
	t.Helper()
	m := keyset.NewManager()
	open := func() *aead.Keyring {
		id, err := m.Add(tinkaead.AES256GCMKeyTemplate())
		require.NoError(t, err)
		require.NoError(t, m.SetPrimary(id))
		h, err := m.Handle()
		require.NoError(t, err)
		k, err := aead.NewKeyring(h)
		require.NoError(t, err)
		return k
	}
	return open(), open()
}

// aggregator returns one that lives on, with the time by which it goes, and what the application sees of a group.
func (g *gathering) aggregator(e *jobs.Encryptor, opts ...asynqjobs.Option) (a asynq.GroupAggregator, now *time.Time, seen *int) {
	g.t.Helper()
	now, seen = new(time.Time), new(int)
	*now = time.Now()
	opts = append(opts, asynqjobs.WithLogger(quiet), asynqjobs.WithNow(func() time.Time { return *now }))
	cfg, err := asynqjobs.Config(e, asynq.Config{GroupAggregator: asynq.GroupAggregatorFunc(func(_ string, tasks []*asynq.Task) *asynq.Task {
		*seen = len(tasks)
		return asynq.NewTask("batch", []byte("batch"))
	})}, opts...)
	require.NoError(g.t, err)
	return cfg.GroupAggregator, now, seen
}

// The client had the new keyset first. The group waits for the worker to have it, too, and for no longer than that makes
// sense: then the others run, and the member is kept until somebody enqueues it again.
func TestGroupWaitsForANewKeyset(t *testing.T) {
	t.Parallel()
	before, after := twoKeysets(t)
	g := newGathering(t)
	tasks := append(g.members(before, 2, 10), g.members(after, 1, 10)...)
	for _, in := range g.pendingGroup() {
		require.NoError(t, g.insp.DeleteTask("default", in.ID)) // as asynq does with what was aggregated
	}
	a, now, seen := g.aggregator(before)
	require.Nil(t, a.Aggregate("g", tasks))
	*now = now.Add(asynqjobs.GroupPatience - time.Second)
	require.Nil(t, a.Aggregate("g", tasks))
	fresh, _, all := g.aggregator(after)
	require.NotNil(t, fresh.Aggregate("g", tasks))
	require.Equal(t, 3, *all)

	*now = now.Add(2 * time.Second)
	out := a.Aggregate("g", tasks)
	require.NotNil(t, out)
	require.Equal(t, 2, *seen)
	require.NotNil(t, a.Aggregate("g", tasks), "whoever plants such members must not stop the group for ever")
	*now = now.Add(asynqjobs.PatienceAgain)
	require.Nil(t, a.Aggregate("g", tasks), "another rotation")
	*now = now.Add(asynqjobs.GroupPatience)
	require.NotNil(t, a.Aggregate("g", tasks))
	require.NotNil(t, a.Aggregate("g", tasks[:2]))
	require.Nil(t, a.Aggregate("g", tasks), "everything was decided in between")

	info, err := g.plain.Enqueue(out, asynq.ProcessIn(time.Hour))
	require.NoError(t, err)
	info, err = g.insp.GetTaskInfo(info.Queue, info.ID)
	require.NoError(t, err)
	old, client := newClient(t, g.conn, before), newClient(t, g.conn, after)
	n, err := old.EnqueueRefused(t.Context(), info)
	require.ErrorIs(t, err, jobs.ErrUnknownKey)
	require.Zero(t, n)
	require.Empty(t, g.pendingGroup())
	for range 2 {
		n, err = client.EnqueueRefused(t.Context(), info)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		in := g.pendingGroup()
		require.Len(t, in, 1, "under its own id, and so once")
		require.Equal(t, tasks[2].Payload(), in[0].Payload, "sealed once")
	}
	moved := *info
	moved.Queue = "low"
	_, err = client.EnqueueRefused(t.Context(), &moved)
	require.ErrorIs(t, err, jobs.ErrUnauthentic)
	_, err = client.EnqueueRefused(t.Context(), nil)
	require.Error(t, err)
}

// pendingGroup returns what waits in group g.
func (g *gathering) pendingGroup() []*asynq.TaskInfo {
	g.t.Helper()
	infos, err := g.insp.ListAggregatingTasks("default", "g")
	require.NoError(g.t, err)
	return infos
}

// What could not have been in the group, or not in this queue, is not enqueued by EnqueueRefused, whoever sealed it.
func TestOnlyMembersOfGroupsAreEnqueuedAgain(t *testing.T) {
	t.Parallel()
	e := newEncryptor(t, nil)
	g := newGathering(t)
	c := newClient(t, g.conn, e)
	tasks := g.members(e, 1, 10)
	for _, opts := range [][]asynq.Option{{asynq.Queue("low"), asynq.Group("g")}, {asynq.ProcessIn(time.Hour)}} {
		info, err := c.Enqueue(asynq.NewTask("part", []byte("x")), opts...)
		require.NoError(t, err)
		info, err = g.insp.GetTaskInfo(info.Queue, info.ID)
		require.NoError(t, err)
		require.NoError(t, g.insp.DeleteTask(info.Queue, info.ID))
		tasks = append(tasks, asynq.NewTaskWithHeaders(info.Type, info.Payload, info.Headers))
	}
	tasks = append(tasks, asynq.NewTask("part", []byte("clear")))
	a, _, seen := g.aggregator(e)
	out := a.Aggregate("g", tasks)
	require.NotNil(t, out)
	require.Equal(t, 1, *seen)
	info, err := g.plain.Enqueue(out, asynq.ProcessIn(time.Hour))
	require.NoError(t, err)
	info, err = g.insp.GetTaskInfo(info.Queue, info.ID)
	require.NoError(t, err)
	n, err := c.EnqueueRefused(t.Context(), info)
	require.ErrorIs(t, err, jobs.ErrUnauthentic)
	require.ErrorIs(t, err, jobs.ErrNotSealed)
	require.Zero(t, n)
	for i, reason := range []error{jobs.ErrUnauthentic, jobs.ErrUnauthentic, jobs.ErrNotSealed} {
		info, err := g.plain.Enqueue(a.Aggregate("g", []*asynq.Task{tasks[0], tasks[i+1]}), asynq.ProcessIn(time.Hour))
		require.NoError(t, err)
		info, err = g.insp.GetTaskInfo(info.Queue, info.ID)
		require.NoError(t, err)
		_, err = c.EnqueueRefused(t.Context(), info)
		require.ErrorIs(t, err, reason, "each of them by itself")
	}
}

// Patience with many groups is bounded, and does not last.
func TestPatienceWithManyGroups(t *testing.T) {
	t.Parallel()
	before, after := twoKeysets(t)
	g := newGathering(t)
	a, now, _ := g.aggregator(before)
	c := newClient(t, g.conn, after)
	info, err := c.Enqueue(asynq.NewTask("part", nil), asynq.Group("g"))
	require.NoError(t, err)
	info, err = g.insp.GetTaskInfo("default", info.ID)
	require.NoError(t, err)
	tasks := []*asynq.Task{asynq.NewTaskWithHeaders(info.Type, info.Payload, info.Headers)}
	for i := range asynqjobs.MaxImpatient {
		require.Nil(t, a.Aggregate(fmt.Sprint(i), tasks))
	}
	require.NotNil(t, a.Aggregate("g", tasks))
	*now = now.Add(asynqjobs.PatienceAgain)
	require.Nil(t, a.Aggregate("g", tasks))
}

// With a client the others run at once, and the member runs when the key comes, in its group.
func TestMemberRunsWhenItsKeyComes(t *testing.T) {
	t.Parallel()
	for name, good := range map[string]bool{"beside good ones": true, "alone": false} {
		for _, queues := range []map[string]int{{"default": 1}, {"default": 1, "low": 1}} {
			t.Run(fmt.Sprintf("%s, %d queues", name, len(queues)), func(t *testing.T) {
				t.Parallel()
				before, after := twoKeysets(t)
				b := newBench(t, after)
				for _, p := range []string{"new 1", "new 2"} {
					_, err := b.client.Enqueue(asynq.NewTask("part", []byte(p)), asynq.Group("g"))
					require.NoError(t, err)
				}
				if good {
					_, err := newClient(t, b.conn, before).Enqueue(asynq.NewTask("part", []byte("old")), asynq.Group("g"))
					require.NoError(t, err)
				}
				var rec recorder
				cfg := func() asynq.Config {
					c := grouping(queues)
					c.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration { return time.Second }
					return c
				}
				stop := serve(t, b.conn, before, cfg(), rec.handler(), asynqjobs.WithGroupClient(b.plain))
				eventually(t, "tried", patience, func() bool {
					infos, err := b.inspector.ListRetryTasks("default")
					if err != nil || len(infos) != 2 {
						return false
					}
					for _, i := range infos {
						r, _ := asynqjobs.ReasonOf(i)
						require.Equal(t, asynqjobs.ReasonUnknownKey, r)
					}
					return true
				})
				if good {
					b.awaitState(t, "default", "batch-g", asynq.TaskStateCompleted)
					require.Equal(t, []string{"batch:g: part=old"}, rec.all())
					require.NoError(t, b.inspector.DeleteTask("default", "batch-g"))
				}
				stop()
				serve(t, b.conn, after, cfg(), rec.handler(), asynqjobs.WithGroupClient(b.plain))
				eventually(t, "run", patience, func() bool { return slices.Contains(rec.all(), "batch:g: part=new 1 part=new 2") })
				archived, err := b.inspector.ListArchivedTasks("default")
				require.NoError(t, err)
				require.Empty(t, archived)
			})
		}
	}
}

// slow asks its key service for every message.
type slow struct{ tink.AEADWithContext }

func (s slow) DecryptWithContext(ctx context.Context, c, ad []byte) ([]byte, error) {
	time.Sleep(10 * time.Millisecond)
	return s.AEADWithContext.DecryptWithContext(ctx, c, ad)
}

// Members are opened many at a time.
func TestLargeGroupsOverASlowKeyService(t *testing.T) {
	t.Parallel()
	e := newEncryptor(t, slow{newKeyring(t)})
	g := newGathering(t)
	a, _, seen := g.aggregator(e, asynqjobs.WithGroupOpening(5*time.Second))
	require.NotNil(t, a.Aggregate("g", g.members(e, 1000, 10)))
	require.Equal(t, 1000, *seen)
}

// More garbage than a key service can be asked about in the time that there is does not stop a group.
func TestGarbageDoesNotStopAGroup(t *testing.T) {
	t.Parallel()
	ks := aeadtest.NewKeyService(t)
	env, err := aead.NewEnvelope(t.Context(), ks)
	require.NoError(t, err)
	defer env.Close()
	e := newEncryptor(t, env)
	g := newGathering(t)
	good := g.members(e, 3, 10)
	var tasks []*asynq.Task
	for range 1500 {
		p := slices.Clone(good[0].Payload())
		const header, prefix = 7, 4 + 5
		n := binary.BigEndian.Uint32(p[header:])
		rand.Read(p[header+prefix : header+4+n])
		tasks = append(tasks, asynq.NewTaskWithHeaders(good[0].Type(), p, good[0].Headers()))
	}
	tasks = append(tasks, good...)
	ks.Delay(20 * time.Millisecond)
	a, now, seen := g.aggregator(e, asynqjobs.WithGroupOpening(500*time.Millisecond))
	require.Nil(t, a.Aggregate("g", tasks), "the key service may be slow today")
	*now = now.Add(asynqjobs.GroupPatience)
	out := a.Aggregate("g", tasks)
	require.NotNil(t, out)
	require.Equal(t, 3, *seen, "the good ones came first")
	require.Len(t, g.refused(e, out), 1500)

	a, _, seen = g.aggregator(e, asynqjobs.WithGroupOpening(500*time.Millisecond), asynqjobs.WithGroupClient(g.plain))
	require.NotNil(t, a.Aggregate("g", tasks))
	require.Equal(t, 3, *seen)
}

// If nobody answered at all the group is put back, however often: that is an outage.
func TestAnOutageIsNoGarbage(t *testing.T) {
	t.Parallel()
	a := &alarming{Keyring: newKeyring(t)}
	e := newEncryptor(t, unsure{a})
	g := newGathering(t)
	tasks := append(g.members(e, 3, 10), asynq.NewTask("part", []byte("clear")))
	for name, opts := range map[string][]asynqjobs.Option{"without a client": nil, "with one": {asynqjobs.WithGroupClient(g.plain)}} {
		agg, now, seen := g.aggregator(e, opts...)
		a.set(aead.ErrKeyServiceUnavailable)
		for range 3 {
			require.Nil(t, agg.Aggregate("g", tasks), name)
			*now = now.Add(asynqjobs.GroupPatience)
		}
		a.set(nil)
		require.NotNil(t, agg.Aggregate("g", tasks), name)
		require.Equal(t, 3, *seen, name)
	}
}

// unsure goes on sealing while its key service is down, as an envelope does under the data key that it has.
type unsure struct{ *alarming }

func (u unsure) SealTo(ctx context.Context, dst, p, ad []byte) ([]byte, error) {
	return u.Keyring.SealTo(ctx, dst, p, ad)
}
