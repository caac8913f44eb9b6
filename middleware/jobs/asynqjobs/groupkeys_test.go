package asynqjobs_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
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

// aggregator returns an aggregator that stays, and how many members the application sees of a group.
func (g *groupAggregation) aggregator(e *jobs.Encryptor, opts ...asynqjobs.Option) (a asynq.GroupAggregator, seen *int) {
	g.t.Helper()
	seen = new(int)
	opts = append([]asynqjobs.Option{asynqjobs.WithGroupClient(g.plain), asynqjobs.WithLogger(quiet)}, opts...)
	cfg, err := asynqjobs.Config(e, asynq.Config{GroupAggregator: asynq.GroupAggregatorFunc(func(_ string, tasks []*asynq.Task) *asynq.Task {
		*seen = len(tasks)
		return asynq.NewTask("batch", []byte("batch"))
	})}, opts...)
	require.NoError(g.t, err)
	return cfg.GroupAggregator, seen
}

// pendingGroup returns what waits in group g.
func (g *groupAggregation) pendingGroup() []*asynq.TaskInfo {
	g.t.Helper()
	infos, err := g.insp.ListAggregatingTasks("default", "g")
	require.NoError(g.t, err)
	return infos
}

// joinAgain is join for a group that may be aggregated in several parts.
func joinAgain(group string, tasks []*asynq.Task) *asynq.Task {
	all := join(group, tasks)
	return asynq.NewTask(all.Type(), all.Payload())
}

// together reports whether each part has run in a batch of group g.
func together(ran []string, parts ...string) bool {
	for _, part := range parts {
		if !slices.ContainsFunc(ran, func(s string) bool { return strings.HasPrefix(s, "batch:g: ") && strings.Contains(s, part) }) {
			return false
		}
	}
	return true
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
				cfg := func(aggregate func(string, []*asynq.Task) *asynq.Task) asynq.Config {
					c := asynq.Config{Queues: queues, GroupAggregator: asynq.GroupAggregatorFunc(aggregate)}
					c.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration { return time.Second }
					return c
				}
				stop := serve(t, b.conn, before, cfg(join), rec.handler(), asynqjobs.WithGroupClient(b.plain))
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
				serve(t, b.conn, after, cfg(joinAgain), rec.handler(), asynqjobs.WithGroupClient(b.plain))
				eventually(t, "run", patience, func() bool { return together(rec.all(), "part=new 1", "part=new 2") })
				archived, err := b.inspector.ListArchivedTasks("default")
				require.NoError(t, err)
				require.Empty(t, archived)
			})
		}
	}
}

// concurrentAEAD is a key service that answers when it has been asked for several messages at a time.
type concurrentAEAD struct {
	tink.AEADWithContext
	least int64
	asked atomic.Int64
	met   chan struct{}
}

func (s *concurrentAEAD) DecryptWithContext(ctx context.Context, c, ad []byte) ([]byte, error) {
	if s.asked.Add(1) == s.least {
		close(s.met)
	}
	select {
	case <-s.met:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.AEADWithContext.DecryptWithContext(ctx, c, ad)
}

// Members are opened many at a time.
func TestMembersAreOpenedTogether(t *testing.T) {
	t.Parallel()
	keys := &concurrentAEAD{AEADWithContext: newKeyring(t), least: 10, met: make(chan struct{})}
	e := newEncryptor(t, keys)
	g := newGroupAggregation(t)
	a, seen := g.aggregator(e, asynqjobs.WithGroupOpening(patience))
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
	g := newGroupAggregation(t)
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
	for d := 500 * time.Millisecond; ; d *= 2 { // a busy machine needs more time for the good ones
		a, seen := g.aggregator(e, asynqjobs.WithGroupOpening(d))
		out := a.Aggregate("g", tasks)
		if d < patience && (out == nil || *seen < 3) {
			continue
		}
		require.NotNil(t, out)
		require.Equal(t, 3, *seen, "the good ones came first")
		return
	}
}

// If no member was answered, the group is put back each time: that is an outage.
func TestOutagesPutGroupsBack(t *testing.T) {
	t.Parallel()
	a := &failingAEAD{Keyring: newKeyring(t)}
	e := newEncryptor(t, unsure{a})
	g := newGroupAggregation(t)
	tasks := append(g.members(e, 3, 10), asynq.NewTask("part", []byte("clear")))
	agg, seen := g.aggregator(e)
	a.set(aead.ErrKeyServiceUnavailable)
	for range 3 {
		require.Nil(t, agg.Aggregate("g", tasks))
	}
	a.set(nil)
	require.NotNil(t, agg.Aggregate("g", tasks))
	require.Equal(t, 3, *seen)
}

// asynq 0.26 does not look again at a group that it has put back. After an outage, such a group runs although the application
// adds no further member.
func TestGroupsRunAfterAnOutage(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]asynqjobs.Option{"open": nil, "hidden": {asynqjobs.WithHiddenTypes()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &failingAEAD{Keyring: newKeyring(t)}
			b := newBench(t, newEncryptor(t, unsure{a}), opts...)
			for range 3 {
				_, err := b.client.Enqueue(asynq.NewTask("part", []byte("x")), asynq.Group("g"))
				require.NoError(t, err)
			}
			const queue = "asynq:{default}:"
			var rec recorder
			a.set(aead.ErrKeyServiceUnavailable)
			stop := serve(t, b.conn, b.e, grouping(nil), rec.handler(), opts...)
			var wakes []*asynq.TaskInfo
			eventually(t, "given up", patience, func() bool {
				var err error
				wakes, err = b.inspector.ListScheduledTasks("default")
				return err == nil && len(wakes) == 1
			})
			stop()
			a.set(nil)
			for _, set := range b.rdb.ZRange(t.Context(), queue+"aggregation_sets", 0, -1).Val() { // its time is over
				require.NoError(t, b.rdb.ZAdd(t.Context(), queue+"aggregation_sets", redis.Z{Score: 1, Member: set}).Err())
			}
			serve(t, b.conn, b.e, grouping(nil), rec.handler(), opts...)
			eventually(t, "put back", patience, func() bool { return b.rdb.ZCard(t.Context(), queue+"g:g").Val() == 3 })
			require.Zero(t, b.rdb.SCard(t.Context(), queue+"groups").Val(), "asynq does not look at it")
			require.NoError(t, b.inspector.RunTask("default", wakes[0].ID))
			b.awaitState(t, "default", "batch-g", asynq.TaskStateCompleted)
			require.Equal(t, []string{"batch:g: part=x part=x part=x"}, rec.all())
		})
	}
}

// A group of which only the member that wakes it is left runs nothing.
func TestGroupsThatWakeForNothing(t *testing.T) {
	t.Parallel()
	a := &failingAEAD{Keyring: newKeyring(t)}
	g := newGroupAggregation(t)
	e := newEncryptor(t, unsure{a})
	now := time.Now()
	agg, _ := g.aggregator(e, asynqjobs.WithNow(func() time.Time { return now }))
	a.set(aead.ErrKeyServiceUnavailable)
	for range 2 {
		require.Nil(t, agg.Aggregate("g", g.members(e, 3, 10)))
	}
	a.set(nil)
	held, err := g.insp.ListScheduledTasks("default")
	require.NoError(t, err)
	require.Len(t, held, 1, "one in a minute")
	require.WithinDuration(t, now.Add(5*time.Minute), held[0].NextProcessAt, time.Second)
	wake := asynqjobs.HeldMember(t, e, held[0])
	var rec recorder
	out := agg.Aggregate("g", []*asynq.Task{wake, wake})
	require.NotNil(t, out)
	info, err := g.plain.Enqueue(out, asynq.Retention(time.Hour))
	require.NoError(t, err)
	serve(t, g.conn, e, asynq.Config{}, rec.handler())
	eventually(t, "completed", patience, func() bool {
		info, err = g.insp.GetTaskInfo("default", info.ID)
		return err == nil && info.State == asynq.TaskStateCompleted
	})
	require.Empty(t, rec.all())
}

// unsure goes on sealing while its key service is down, as an envelope does under the data key that it has.
type unsure struct{ *failingAEAD }

func (u unsure) SealTo(ctx context.Context, dst, p, ad []byte) ([]byte, error) {
	return u.Keyring.SealTo(ctx, dst, p, ad)
}
