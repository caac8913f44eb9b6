package asynqjobs_test

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"context"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// join is an aggregator as applications have it.
func join(group string, tasks []*asynq.Task) *asynq.Task {
	var parts []string
	for _, t := range tasks {
		parts = append(parts, t.Type()+"="+string(t.Payload()))
	}
	sort.Strings(parts)
	return asynq.NewTask("batch:"+group, []byte(strings.Join(parts, " ")), asynq.MaxRetry(7), asynq.Retention(time.Hour), asynq.TaskID("batch-"+group))
}

func grouping(queues map[string]int) asynq.Config {
	return asynq.Config{Queues: queues, GroupAggregator: asynq.GroupAggregatorFunc(join)}
}

func (r *recorder) handler() asynq.Handler {
	return asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		r.add(task.Type() + ": " + string(task.Payload()))
		return nil
	})
}

func TestGroupsAreOpenedAggregatedAndSealed(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]asynqjobs.Option{"open": nil, "hidden": {asynqjobs.WithHiddenTypes()}} {
		for _, queues := range []map[string]int{{"default": 1}, {"default": 1, "low": 1}} {
			t.Run(fmt.Sprintf("%s, %d queues", name, len(queues)), func(t *testing.T) {
				t.Parallel()
				b := newBench(t, nil, opts...)
				var rec recorder
				for i := range 5 {
					_, err := b.client.Enqueue(asynq.NewTask("part", fmt.Append(nil, i)), asynq.Group("g"))
					require.NoError(t, err)
				}
				_, err := b.client.Enqueue(asynq.NewTask("part", []byte("h")), asynq.Group("h"), asynq.Unique(time.Hour))
				require.NoError(t, err)
				serve(t, b.conn, b.e, grouping(queues), rec.handler(), opts...)
				info := b.awaitState(t, "default", "batch-g", asynq.TaskStateCompleted)
				b.awaitState(t, "default", "batch-h", asynq.TaskStateCompleted)
				require.ElementsMatch(t, []string{"batch:g: part=0 part=1 part=2 part=3 part=4", "batch:h: part=h"}, rec.all())
				require.True(t, jobs.IsSealed(info.Payload))
				require.Equal(t, 7, info.MaxRetry, "options of the aggregated task are carried")
				require.Equal(t, name == "hidden", strings.HasPrefix(info.Type, "sealed:"))
			})
		}
	}
}

// Members that do not open neither stop the others nor disappear: each is archived as its own task.
func TestRefusedMembersRunAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	m := newMeters()
	var rec recorder
	steal := func(group string, opts ...asynq.Option) *asynq.TaskInfo {
		info, err := b.client.Enqueue(asynq.NewTask("part", []byte("stolen from "+group)), append(opts, asynq.Group(group))...)
		require.NoError(t, err)
		got, err := b.inspector.GetTaskInfo(info.Queue, info.ID)
		require.NoError(t, err)
		require.NoError(t, b.inspector.DeleteTask(info.Queue, info.ID))
		return got
	}
	plant := func(typename string, payload []byte, headers map[string]string) {
		_, err := b.plain.Enqueue(asynq.NewTaskWithHeaders(typename, payload, headers), asynq.Group("g"))
		require.NoError(t, err)
	}
	good, err := b.client.Enqueue(asynq.NewTask("part", []byte("good")), asynq.Group("g"))
	require.NoError(t, err)
	goodInfo, err := b.inspector.GetTaskInfo("default", good.ID)
	require.NoError(t, err)
	_, err = b.client.Enqueue(asynq.NewTask("part", []byte("fine")), asynq.Group("g"))
	require.NoError(t, err)
	plant("part", []byte("planted"), nil)
	plant(goodInfo.Type, goodInfo.Payload, goodInfo.Headers) // a copy
	other := steal("other")
	plant(other.Type, other.Payload, other.Headers)
	low := steal("g", asynq.Queue("low"))
	plant(low.Type, low.Payload, low.Headers)
	single, err := b.client.Enqueue(asynq.NewTask("part", []byte("single")), asynq.ProcessIn(time.Hour))
	require.NoError(t, err)
	singleInfo, err := b.inspector.GetTaskInfo("default", single.ID)
	require.NoError(t, err)
	plant(singleInfo.Type, singleInfo.Payload, singleInfo.Headers)

	serve(t, b.conn, b.e, grouping(map[string]int{"default": 2, "low": 1}), rec.handler(), asynqjobs.WithMeterProvider(m.provider))
	b.awaitState(t, "default", "batch-g", asynq.TaskStateCompleted)
	require.Equal(t, []string{"batch:g: part=fine part=good"}, rec.all())
	reasons := b.archivedReasons(t, "default", 5)
	require.Equal(t, map[asynqjobs.Reason]int{asynqjobs.ReasonNotSealed: 1, asynqjobs.ReasonUnauthentic: 4}, reasons)
	counts := m.counts(t)
	require.EqualValues(t, 2, counts["refused not_sealed"], "by the aggregator, and by the handler")
	require.EqualValues(t, 8, counts["refused unauthentic"])
}

// archivedReasons waits for n archived tasks and returns why they are archived.
func (b *bench) archivedReasons(t *testing.T, queue string, n int) map[asynqjobs.Reason]int {
	t.Helper()
	reasons := map[asynqjobs.Reason]int{}
	eventually(t, "archived", patience, func() bool {
		infos, err := b.inspector.ListArchivedTasks(queue)
		if err != nil || len(infos) != n {
			return false
		}
		for _, info := range infos {
			r, _ := asynqjobs.ReasonOf(info)
			reasons[r]++
		}
		return true
	})
	return reasons
}

// Members of a group in which no member opens are archived as well.
func TestGroupsOfRefusedMembersAreArchived(t *testing.T) {
	t.Parallel()
	for _, queues := range []map[string]int{{"default": 1}, {"default": 1, "low": 1}} {
		t.Run(fmt.Sprintf("%d queues", len(queues)), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil)
			for range 3 {
				_, err := b.plain.Enqueue(asynq.NewTask("part", []byte("planted")), asynq.Group("g"))
				require.NoError(t, err)
			}
			serve(t, b.conn, b.e, grouping(queues), never(t))
			require.Equal(t, map[asynqjobs.Reason]int{asynqjobs.ReasonNotSealed: 3}, b.archivedReasons(t, "default", 3))
		})
	}
}

// A group that was moved to another queue as a whole does not run there.
func TestMovedGroupsDoNotRun(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	for i := range 3 {
		info, err := b.client.Enqueue(asynq.NewTask("part", fmt.Append(nil, i)), asynq.Group("g"), asynq.Queue("low"))
		require.NoError(t, err)
		info, err = b.inspector.GetTaskInfo("low", info.ID)
		require.NoError(t, err)
		require.NoError(t, b.inspector.DeleteTask("low", info.ID))
		_, err = b.plain.Enqueue(asynq.NewTaskWithHeaders(info.Type, info.Payload, info.Headers), asynq.Group("g"), asynq.Queue("default"), asynq.TaskID(info.ID))
		require.NoError(t, err)
	}
	serve(t, b.conn, b.e, grouping(map[string]int{"default": 1, "low": 1}), never(t))
	info := b.awaitState(t, "default", "batch-g", asynq.TaskStateArchived)
	reason, _ := asynqjobs.ReasonOf(info)
	require.Equal(t, asynqjobs.ReasonUnauthentic, reason)
}

// While plaintext is tolerated, plaintext members are aggregated with sealed ones. A group of plaintext members alone is
// aggregated too, also on a server of several queues.
func TestPlaintextMembersWhileTolerated(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	var rec recorder
	_, err := b.client.Enqueue(asynq.NewTask("part", []byte("sealed")), asynq.Group("mixed"))
	require.NoError(t, err)
	_, err = b.plain.Enqueue(asynq.NewTask("part", []byte("clear")), asynq.Group("mixed"))
	require.NoError(t, err)
	_, err = b.plain.Enqueue(asynq.NewTask("part", []byte("clear")), asynq.Group("clear"))
	require.NoError(t, err)
	serve(t, b.conn, b.e, grouping(map[string]int{"default": 1, "low": 1}), rec.handler(), asynqjobs.WithPlaintextUntil(time.Now().Add(time.Hour)))
	for _, g := range []string{"mixed", "clear"} {
		info := b.awaitState(t, "default", "batch-"+g, asynq.TaskStateCompleted)
		require.True(t, jobs.IsSealed(info.Payload), "what comes out is sealed")
	}
	require.ElementsMatch(t, []string{"batch:mixed: part=clear part=sealed", "batch:clear: part=clear"}, rec.all())
}

// A member that is taken out of its group by hand runs alone.
func TestMemberRunAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	info, err := b.client.Enqueue(asynq.NewTask("part", []byte("alone")), asynq.Group("g"))
	require.NoError(t, err)
	stored, err := b.inspector.GetTaskInfo("default", info.ID)
	require.NoError(t, err)
	task, err := asynqjobs.OpenTask(t.Context(), b.e, stored)
	require.NoError(t, err)
	require.Equal(t, "alone", string(task.Payload()))
	stored.Group = "h"
	_, err = asynqjobs.OpenTask(t.Context(), b.e, stored)
	require.ErrorIs(t, err, jobs.ErrUnauthentic)
	require.NoError(t, b.inspector.RunTask("default", info.ID))
	var rec recorder
	serve(t, b.conn, b.e, grouping(nil), rec.handler())
	eventually(t, "run", patience, func() bool { return len(rec.all()) == 1 })
	require.Equal(t, []string{"part: alone"}, rec.all())
}

// While the key service is down a group is put back, as a whole.
func TestGroupsSurviveAnOutage(t *testing.T) {
	t.Parallel()
	a := &failingAEAD{Keyring: newKeyring(t)}
	e := newEncryptor(t, a)
	c := asynqjobs.WithLogger(quiet)
	client := asynq.NewClient(asynq.RedisClientOpt{Addr: "127.0.0.1:1"})
	defer client.Close()
	var once sync.Once
	cfg, err := asynqjobs.Config(e, asynq.Config{GroupAggregator: asynq.GroupAggregatorFunc(func(group string, tasks []*asynq.Task) *asynq.Task {
		once.Do(func() { a.set(aead.ErrKeyServiceUnavailable) }) // it fails again when the batch is to be sealed
		return join(group, tasks)
	})}, c, asynqjobs.WithGroupClient(client))
	require.NoError(t, err)
	b := newBench(t, e)
	info, err := b.client.Enqueue(asynq.NewTask("part", []byte("p")), asynq.Group("g"))
	require.NoError(t, err)
	info, err = b.inspector.GetTaskInfo("default", info.ID)
	require.NoError(t, err)
	members := []*asynq.Task{asynq.NewTaskWithHeaders(info.Type, info.Payload, info.Headers)}
	require.Nil(t, cfg.GroupAggregator.Aggregate("g", members), "not sealed: not enqueued")
	require.Nil(t, cfg.GroupAggregator.Aggregate("g", members), "not opened: not enqueued")
	a.set(nil)
	got := cfg.GroupAggregator.Aggregate("g", members)
	require.NotNil(t, got)
	require.True(t, jobs.IsSealed(got.Payload()))
}
