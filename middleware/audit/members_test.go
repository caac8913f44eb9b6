package audit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/audit"
)

const (
	uuid  = "01234567-89ab-cdef-0123-456789abcdef"
	token = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP_" // of a schedule
)

// Members of asynq's lists and sets that asynq 0.26 does not write never give a clean answer.
func TestMembersThatArePayloads(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	ctx := t.Context()
	task := func(p redis.Pipeliner, id string) {
		p.HSet(ctx, "asynq:{q}:t:"+id, "msg", "\x0a\x01t") // a message without a payload
	}
	zadd := func(name, member string) func(p redis.Pipeliner) {
		return func(p redis.Pipeliner) { p.ZAdd(ctx, name, redis.Z{Member: member}) }
	}
	for name, c := range map[string]struct {
		put  func(p redis.Pipeliner)
		want audit.Answer
	}{
		"an id":                  {func(p redis.Pipeliner) { p.LPush(ctx, "asynq:{q}:pending", "1"); task(p, "1") }, audit.No},
		"an id of no task":       {func(p redis.Pipeliner) { p.LPush(ctx, "asynq:{q}:pending", "alice") }, audit.Unknown},
		"one of many":            {func(p redis.Pipeliner) { p.LPush(ctx, "asynq:{q}:pending", "1", "alice"); task(p, "1") }, audit.Unknown},
		"a payload in a list":    {func(p redis.Pipeliner) { p.LPush(ctx, "asynq:{q}:pending", `{"user":"alice"}`) }, audit.Unknown},
		"a message in a zset":    {zadd("asynq:{q}:scheduled", "\x0a\x05alice\x12\x03abc"), audit.Unknown},
		"a payload in retry":     {zadd("asynq:{q}:retry", `{"user":"alice"}`), audit.Unknown},
		"a payload in a group":   {zadd("asynq:{q}:g:group", "alice"), audit.Unknown},
		"a payload among groups": {func(p redis.Pipeliner) { p.SAdd(ctx, "asynq:{q}:groups", "alice") }, audit.Unknown},
		"a group": {func(p redis.Pipeliner) {
			p.SAdd(ctx, "asynq:{q}:groups", "g")
			p.ZAdd(ctx, "asynq:{q}:g:g", redis.Z{Member: "1"})
			task(p, "1")
		}, audit.No},
		"a payload among queues": {func(p redis.Pipeliner) { p.SAdd(ctx, "asynq:queues", `{"user":"alice"}`) }, audit.Unknown},
		"bytes among queues":     {func(p redis.Pipeliner) { p.SAdd(ctx, "asynq:queues", "alice\x00") }, audit.Unknown},
		"queues": {func(p redis.Pipeliner) {
			p.SAdd(ctx, "asynq:queues", "default", "{odd}:q")
			p.Set(ctx, "asynq:{default}:processed", "1", 0)
			p.LPush(ctx, "asynq:{{odd}:q}:pending", "1")
			p.HSet(ctx, "asynq:{{odd}:q}:t:1", "msg", "\x0a\x01t")
		}, audit.No},
		"a text among queues": {func(p redis.Pipeliner) {
			p.SAdd(ctx, "asynq:queues", "default", "alice@example.com")
			p.Set(ctx, "asynq:{default}:processed", "1", 0)
		}, audit.Unknown},
		"a text in a lock": {func(p redis.Pipeliner) {
			p.Set(ctx, "asynq:{q}:unique:t:"+strings.Repeat("0", 32), "alice@example.com", 0)
		}, audit.Unknown},
		"a lock of a task": {func(p redis.Pipeliner) {
			p.Set(ctx, "asynq:{a}:b}:unique:t:"+strings.Repeat("0", 32), "alice@example.com", 0)
			task(p, "alice@example.com")
			p.HSet(ctx, "asynq:{a}:b}:t:alice@example.com", "msg", "\x0a\x01t")
		}, audit.No},
		"a lock that outlived its task": {func(p redis.Pipeliner) { p.Set(ctx, "asynq:{q}:unique:t:"+strings.Repeat("0", 32), uuid, 0) }, audit.No},
		"a field of another release":    {func(p redis.Pipeliner) { p.HSet(ctx, "asynq:{q}:t:1", "msg", "\x0a\x01t\x82\x01\x05alice") }, audit.Unknown},
		"a server with another field":   {func(p redis.Pipeliner) { p.Set(ctx, "asynq:servers:{h:1:"+uuid+"}", "\x0a\x01h\x52\x05alice", 0) }, audit.Unknown},
		"a worker with another field":   {func(p redis.Pipeliner) { p.HSet(ctx, "asynq:workers:{h:1:"+uuid+"}", "1", "\x0a\x01h\x52\x05alice") }, audit.Unknown},
		"a text among schedules": {func(p redis.Pipeliner) {
			p.HSet(ctx, "{sealcache:jobs:}:schedules", "alice", "\xC1\x5C\x01\x05\x01\x00"+strings.Repeat("x", 60))
		}, audit.Unknown},
		"a text among servers":    {zadd("asynq:servers", "asynq:servers:{alice:1:x}"), audit.Unknown},
		"a text as tick":          {func(p redis.Pipeliner) { p.HSet(ctx, "{sealcache:jobs:}:ticks", "alice", "1700000000000") }, audit.Unknown},
		"a payload among servers": {zadd("asynq:servers", "alice"), audit.Unknown},
		"a server":                {zadd("asynq:servers", "asynq:servers:{h:1:"+uuid+"}"), audit.No},
		"a payload in a history":  {zadd("asynq:scheduler_history:x", "alice"), audit.Unknown},
		"a payload among ticks":   {func(p redis.Pipeliner) { p.HSet(ctx, "{sealcache:jobs:}:ticks", token, "alice") }, audit.Unknown},
		"a payload as version":    {func(p redis.Pipeliner) { p.HSet(ctx, "{sealcache:jobs:}:ticks", "version", "alice @ home") }, audit.Unknown},
		"ticks": {func(p redis.Pipeliner) {
			p.HSet(ctx, "{sealcache:jobs:}:ticks", token, "1700000000000", "version", "ABCDEFGHIJKL")
		}, audit.No},
		"more than are read at a time": {func(p redis.Pipeliner) {
			for i := range 2500 {
				id := strings.Repeat("x", i%7) + string(rune('a'+i%26)) + time.Duration(i).String()
				p.RPush(ctx, "asynq:{q}:pending", id)
				task(p, id)
			}
			p.RPush(ctx, "asynq:{q}:pending", "alice")
		}, audit.Unknown},
	} {
		require.NoError(t, rdb.FlushDB(ctx).Err())
		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { c.put(p); return nil })
		require.NoError(t, err, name)
		r := audited(t, rdb, audit.Config{})
		answer, why := r.AnythingPlaintext()
		require.Equal(t, c.want, answer, "%s: %s", name, why)
		if c.want == audit.Unknown {
			require.EqualValues(t, 1, r.Jobs.Unparsed, name)
			if answer, _ = r.AnythingSealed(); r.Jobs.Scheduled.Sealed.Values == 0 {
				require.Equal(t, audit.Unknown, answer, name)
			}
		}
	}
}

// Lists and sets in which earlier releases of asynq kept whole messages are not understood, also if their type is ignored.
func TestCollectionsOfEarlierReleases(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	ctx := t.Context()
	require.NoError(t, rdb.LPush(ctx, "recent", "a list of the application").Err())
	ignoring := audit.Config{IgnoreTypes: []string{"list", "zset", "set", "hash"}, Samples: 1}
	answer, why := audited(t, rdb, ignoring).AnythingPlaintext()
	require.Equal(t, audit.No, answer, why)
	for _, name := range []string{"asynq:{q}", "asynq:{q}:in_progress", "asynq:queues:default", "asynq:{q}:t:1", "{sealcache:jobs:}:schedules"} {
		require.NoError(t, rdb.LPush(ctx, name, `{"user":"alice"}`).Err())
	}
	for _, name := range []string{"asynq:{q}:dead", "asynq:{q}:deadlines", "asynq:scheduled"} {
		require.NoError(t, rdb.ZAdd(ctx, name, redis.Z{Member: `{"user":"alice"}`}).Err())
	}
	require.NoError(t, rdb.HSet(ctx, "asynq:{q}:t:2", "payload", `{"user":"alice"}`).Err())
	r := audited(t, rdb, ignoring)
	require.EqualValues(t, 9, r.Jobs.Unparsed)
	require.Len(t, r.Samples["not understood"], 1)
	answer, why = r.AnythingPlaintext()
	require.Equal(t, audit.Unknown, answer, why)
	answer, _ = r.AnythingSealed()
	require.Equal(t, audit.Unknown, answer)
}
