package redisstore_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// An attacker with write access to Redis can write foreign key names into a tag.
func TestInvalidatePrefixLeavesForeignKeysAlone(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx, tag, set := t.Context(), p+"shop:t", "gocache_tag_"+p+"shop:t"
		for _, key := range []string{"shop:1", "shop:2"} {
			require.NoError(t, s.Set(ctx, p+key, "v", store.WithTags([]string{tag})))
		}
		require.NoError(t, s.Set(ctx, p+"other:secret", "precious"))
		require.NoError(t, rdb.SAdd(ctx, p+"asynq:queues", "default").Err())
		require.NoError(t, rdb.HSet(ctx, p+"shop:hash", "f", "v").Err())
		planted := []any{p + "other:secret", p + "asynq:queues", p + "shop:hash", p + "sho", p + "shop:gone", ""}
		require.NoError(t, rdb.SAdd(ctx, set, planted...).Err())
		require.NoError(t, s.InvalidatePrefix(ctx, p+"shop:", store.WithInvalidateTags([]string{tag})))
		for _, key := range []string{"shop:1", "shop:2"} {
			require.Zero(t, rdb.Exists(ctx, p+key).Val(), key)
		}
		for _, key := range []string{"other:secret", "asynq:queues", "shop:hash"} {
			require.EqualValues(t, 1, rdb.Exists(ctx, p+key).Val(), key)
		}
		require.Zero(t, rdb.Exists(ctx, set).Val(), "what was planted is forgotten")
	})
}

// An attacker plants members that are longer than the names of tagged entries. They are removed, and not read.
func TestHugeMembersOfTagsAreNotRead(t *testing.T) {
	t.Parallel()
	ctx, server := t.Context(), redistest.Start(t)
	rdb := server.Client(t)
	s := newStore(t, rdb)
	tagged, tags, long := store.WithTags([]string{"t"}), []string{"t"}, strings.Repeat("k", 1<<20)
	plant := func() { require.NoError(t, rdb.SAdd(ctx, "gocache_tag_t", strings.Repeat("x", 8<<20)).Err()) }

	sent := server.Sent(t)
	require.NoError(t, s.Set(ctx, long, "v", tagged))
	plant()
	require.NoError(t, s.PruneTags(ctx, ""))
	require.EqualValues(t, 1, rdb.SCard(ctx, "gocache_tag_t").Val())
	plant()
	require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags(tags)))
	require.Zero(t, rdb.Exists(ctx, "gocache_tag_t", long).Val())
	require.Less(t, server.Sent(t)-sent, int64(4<<20))

	for i := range 20 {
		require.NoError(t, rdb.SAdd(ctx, "gocache_tag_t", fmt.Sprint(i, long[3:])).Err())
	}
	h := &afterMembers{set: "gocache_tag_t", then: func() {}}
	rdb.AddHook(h)
	require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags(tags)))
	require.Greater(t, h.reads, 5, "long members are read in several parts")
	require.Zero(t, rdb.Exists(ctx, "gocache_tag_t").Val())

	long += "k"
	const refused = "the key has 1048577 bytes, but a key with tags has at most 1048576"
	_, err := s.SetIfNotExists(ctx, long, "v", tagged)
	require.ErrorContains(t, err, refused)
	_, err = s.CompareAndSet(ctx, long, []byte("v"), 0, []byte("w"), tagged)
	require.ErrorContains(t, err, refused)
	require.ErrorContains(t, s.Set(ctx, long, "v", tagged), refused)
	require.ErrorContains(t, s.ExtendTags(ctx, long, tags, 0), refused)
	errs := s.SetBytesMany(ctx, []string{long, "k"}, [][]byte{nil, nil}, tagged)
	require.ErrorContains(t, errs[0], refused)
	require.NoError(t, errs[1])
	require.Zero(t, rdb.Exists(ctx, long).Val())
	require.NoError(t, s.Set(ctx, long, "v"))
}

// Without a prefix every string counts as an entry. Values of other types, such as the lists of a job queue, do not.
func TestInvalidateLeavesOtherTypesAlone(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx := t.Context()
		require.NoError(t, s.Set(ctx, p+"k", "v", store.WithTags([]string{p + "t"})))
		require.NoError(t, rdb.RPush(ctx, p+"list", "task").Err())
		require.NoError(t, rdb.SAdd(ctx, "gocache_tag_"+p+"t", p+"list", "gocache_tag_"+p+"t").Err())
		require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{p + "t"})))
		require.Zero(t, rdb.Exists(ctx, p+"k").Val())
		require.EqualValues(t, 1, rdb.Exists(ctx, p+"list").Val())
		require.Zero(t, rdb.Exists(ctx, "gocache_tag_"+p+"t").Val())
	})
}

// A user who may use only the prefix is not stopped by a foreign name in a tag.
func TestInvalidatePrefixNeedsNoPermissionForForeignKeys(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	admin, ctx := srv.Client(t), t.Context()
	allow(t, admin, documented(t)...)
	s := open(t, "redis://app:password@"+srv.Addr())
	require.NoError(t, s.Set(ctx, "shop:k", "v", store.WithTags([]string{"shop:t"})))
	require.NoError(t, admin.SAdd(ctx, "gocache_tag_shop:t", "other:k").Err())
	tag := store.WithInvalidateTags([]string{"shop:t"})
	require.ErrorContains(t, s.Invalidate(ctx, tag), "NOPERM")
	require.NoError(t, s.InvalidatePrefix(ctx, "shop:", tag))
	require.Zero(t, admin.Exists(ctx, "shop:k", "gocache_tag_shop:t").Val())
}

// An entry with the name of a tag's set would hide the entries of that tag from Invalidate.
func TestTagSetsAreNotEntries(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx, set := t.Context(), "gocache_tag_"+p+"t"
		tag := store.WithTags([]string{p + "t"})
		require.NoError(t, s.Set(ctx, p+"k", "v", tag))
		for name, err := range map[string]error{
			"Set":         s.Set(ctx, set, "v"),
			"Set, tagged": s.Set(ctx, set, "v", tag),
			"SetBytes":    s.SetBytes(ctx, set, nil),
			"with TTL":    s.SetBytesWithTTL(ctx, set, nil, 0),
			"Delete":      s.Delete(ctx, set),
		} {
			require.ErrorContains(t, err, "reserved for a tag's list of entries", name)
			require.NotContains(t, err.Error(), p, name)
		}
		written, err := s.SetIfNotExists(ctx, set, "v")
		require.NoError(t, err)
		require.False(t, written)
		_, err = s.CompareAndSwap(ctx, set, nil, 0, nil, 0)
		require.ErrorContains(t, err, "WRONGTYPE")
		require.True(t, rdb.SIsMember(ctx, set, p+"k").Val())

		// Without such a tag, the name is allowed.
		free := "gocache_tag_" + p + "free"
		require.NoError(t, s.Set(ctx, free, "v"))
		b, err := s.GetBytes(ctx, free)
		require.NoError(t, err)
		require.Equal(t, "v", string(b))
		require.NoError(t, s.Set(ctx, free, "w"))
		require.NoError(t, s.Delete(ctx, free))
	})
}

// afterMembers calls then once, after the third read of the members of a tag.
type afterMembers struct {
	set   string
	reads int
	then  func()
}

func (*afterMembers) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*afterMembers) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *afterMembers) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if args := cmd.Args(); err == nil && len(args) > 4 && args[3] == h.set {
			if h.reads++; h.reads == 3 {
				h.then()
			}
		}
		return err
	}
}

// The set of a tag moves to another master while it is read. There, its members have another order.
func TestInvalidateWhileTheTagMoves(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	rdb, ctx := cluster.Client(t), t.Context()
	s := newStore(t, rdb)
	const n, set = 5000, "gocache_tag_big"
	keys, values := make([]string, n), make([][]byte, n)
	for i := range n {
		keys[i], values[i] = fmt.Sprint("k", i), []byte("v")
	}
	require.Nil(t, s.SetBytesMany(ctx, keys, values, store.WithTags([]string{"big"})))
	h := &afterMembers{set: set, then: func() {
		slot := int(rdb.ClusterKeySlot(ctx, set).Val())
		nodes := cluster.Nodes()
		if owner, err := rdb.MasterForKey(ctx, set); err != nil || owner.Options().Addr == nodes[0].Addr() {
			nodes = nodes[1:]
		}
		if err := cluster.MoveSlots(ctx, nodes[0], slot); err != nil {
			t.Error(err)
		}
	}}
	rdb.AddHook(h)
	require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{"big"})))
	require.Greater(t, h.reads, 3)
	left := 0
	for _, err := range s.Keys(ctx, "k") {
		require.NoError(t, err)
		left++
	}
	require.Zero(t, left)
	require.Zero(t, rdb.Exists(ctx, set).Val())
}
