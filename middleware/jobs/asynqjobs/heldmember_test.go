package asynqjobs_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// kept has a worker with the keys before aggregate members under those after. It returns what is in the group, and the
// task that holds the first of them, which it enqueues.
func (b *bench) kept(t *testing.T, before, after *jobs.Encryptor, n int, opts ...asynq.Option) (members []*asynq.TaskInfo, holder *asynq.TaskInfo, a asynq.GroupAggregator, tasks []*asynq.Task) {
	t.Helper()
	c := newClient(t, b.conn, after)
	for range n {
		info, err := c.Enqueue(asynq.NewTask("part", []byte("new")), asynq.Group("g"))
		require.NoError(t, err)
		info, err = b.inspector.GetTaskInfo("default", info.ID)
		require.NoError(t, err)
		members = append(members, info)
		tasks = append(tasks, asynq.NewTaskWithHeaders(info.Type, info.Payload, info.Headers))
	}
	cfg, err := asynqjobs.Config(before, grouping(nil), asynqjobs.WithLogger(quiet), asynqjobs.WithGroupClient(b.plain))
	require.NoError(t, err)
	out := cfg.GroupAggregator.Aggregate("g", tasks)
	require.NotNil(t, out)
	holder, err = b.plain.Enqueue(out, opts...)
	require.NoError(t, err)
	require.Equal(t, "sealcache:held-member", holder.Type)
	return members, holder, cfg.GroupAggregator, tasks
}

// Another worker already has the key of a member. It opens the task that holds the member before asynq has deleted
// the member from its group. It must not take the one for the other: it tries again, and then the member is back in
// its group, as it was.
func TestMemberIsNotTakenForItself(t *testing.T) {
	t.Parallel()
	before, after := twoKeysets(t)
	b := newBench(t, after)
	members, holder, _, _ := b.kept(t, before, after, 1)
	cfg := asynq.Config{RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour }}
	serve(t, b.conn, after, cfg, never(t), asynqjobs.WithGroupClient(b.plain))
	info := b.awaitState(t, "default", holder.ID, asynq.TaskStateRetry)
	reason, ok := asynqjobs.ReasonOf(info)
	require.True(t, ok)
	require.Equal(t, asynqjobs.ReasonOther, reason)

	require.NoError(t, b.inspector.DeleteTask("default", members[0].ID)) // as asynq does then
	require.NoError(t, b.inspector.RunTask("default", holder.ID))
	var back []*asynq.TaskInfo
	eventually(t, "it is back", patience, func() bool {
		back, _ = b.inspector.ListAggregatingTasks("default", "g")
		return len(back) == 1
	})
	require.Equal(t, members[0].ID, back[0].ID)
	require.Equal(t, members[0].Type, back[0].Type)
	require.Equal(t, members[0].Payload, back[0].Payload)
	eventually(t, "what held it is gone", patience, func() bool {
		_, err := b.inspector.GetTaskInfo("default", holder.ID)
		return err != nil
	})
}

// The task that holds a member has just put it back into its group, and asynq has not deleted the task yet. A
// worker without the key then opens the group again. The member is held again.
func TestMemberIsHeldAgain(t *testing.T) {
	t.Parallel()
	before, after := twoKeysets(t)
	b := newBench(t, after)
	_, _, a, tasks := b.kept(t, before, after, 2, asynq.ProcessIn(time.Hour))
	pending := func() []*asynq.TaskInfo {
		infos, err := b.inspector.ListPendingTasks("default")
		require.NoError(t, err)
		return infos
	}
	holders := pending()
	require.Len(t, holders, 1, "the second of two")
	require.NotNil(t, a.Aggregate("g", tasks))
	require.Len(t, pending(), 1, "still there")

	rdb := clientOf(t, b.srv)
	found := &afterCommand{with: holders[0].ID, do: func() { require.NoError(t, b.inspector.DeleteTask("default", holders[0].ID)) }}
	rdb.AddHook(found)
	cfg, err := asynqjobs.Config(before, grouping(nil), asynqjobs.WithLogger(quiet), asynqjobs.WithGroupClient(asynq.NewClientFromRedisClient(rdb)))
	require.NoError(t, err)
	require.NotNil(t, cfg.GroupAggregator.Aggregate("g", tasks))
	require.Nil(t, found.do)
	again := pending()
	require.Len(t, again, 1)
	require.Equal(t, holders[0].ID, again[0].ID)
}

// afterCommand calls do after the first command with a text.
type afterCommand struct {
	with string
	do   func()
}

func (*afterCommand) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*afterCommand) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *afterCommand) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if do := h.do; do != nil && strings.Contains(fmt.Sprint(cmd.Args()...), h.with) {
			h.do = nil
			do()
		}
		return err
	}
}

// interrupted is a keyring whose second opening finds the key service down.
type interrupted struct {
	*aead.Keyring
	opens atomic.Int64
}

func (i *interrupted) OpenTo(ctx context.Context, dst, c, ad []byte) ([]byte, error) {
	if i.opens.Add(1) == 2 {
		return nil, aead.ErrKeyServiceUnavailable
	}
	return i.Keyring.OpenTo(ctx, dst, c, ad)
}

// A task that holds a member may have no try left. If the key service is down while the member is opened, the task waits
// for it, as other tasks do.
func TestMemberOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	one, both := twoKeyrings(t)
	before, after := newEncryptor(t, one), newEncryptor(t, both)
	b := newBench(t, after)
	members, holder, _, _ := b.kept(t, before, after, 1, asynq.MaxRetry(0))
	require.NoError(t, b.inspector.DeleteTask("default", members[0].ID))
	k := &interrupted{Keyring: both}
	serve(t, b.conn, newEncryptor(t, k), asynq.Config{}, never(t), asynqjobs.WithGroupClient(b.plain))
	eventually(t, "it is back", patience, func() bool {
		infos, _ := b.inspector.ListAggregatingTasks("default", "g")
		return len(infos) == 1
	})
	eventually(t, "what held it is gone", patience, func() bool {
		_, err := b.inspector.GetTaskInfo("default", holder.ID)
		return err != nil
	})
	require.EqualValues(t, 3, k.opens.Load())
}
