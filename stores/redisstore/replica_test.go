package redisstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

// A client reads from replicas, and a replica is cut off from its master. Reads may be old, but Invalidate, swaps,
// enumeration and pruning use the masters.
func TestReplicasServeOnlyReads(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	ctx, master := t.Context(), c.Nodes()[0].Client(t)
	replica := c.StartReplica(t, 0).Client(t)
	opts := c.ClientOptions()
	opts.ReadOnly = true
	rdb := redis.NewClusterClient(opts)
	defer func() { require.NoError(t, rdb.Close()) }()
	s := newStore(t, rdb)
	p := ""
	for i := 0; p == ""; i++ { // on the first master
		if slot := rdb.ClusterKeySlot(ctx, fmt.Sprintf("{%d}", i)).Val(); slot < 16384/3 {
			p = fmt.Sprintf("{%d}", i)
		}
	}
	require.NoError(t, s.Set(ctx, p+"gone", "v", store.WithTags([]string{p + "old"})))
	require.Eventually(t, func() bool {
		b, err := s.GetBytes(ctx, p+"gone")
		return err == nil && string(b) == "v" // read from the replica
	}, 2*time.Minute, 10*time.Millisecond)
	require.NoError(t, replica.ConfigSet(ctx, "masteruser", "nobody").Err())
	require.NoError(t, replica.ConfigSet(ctx, "masterauth", "wrong").Err())
	require.NoError(t, master.Do(ctx, "client", "kill", "type", "replica").Err())

	tag := store.WithTags([]string{p + "t"})
	for i := range 30 {
		require.NoError(t, s.Set(ctx, fmt.Sprint(p, i), "v", tag))
	}
	_, err := s.Get(ctx, p+"0")
	require.ErrorIs(t, err, &store.NotFound{}, "Get is asked of the replica, or this test tests nothing")
	b, _, err := s.GetBytesWithTTL(ctx, p+"0")
	require.NoError(t, err)
	swapped, err := s.CompareAndSwap(ctx, p+"0", b, 0, []byte("w"), -1)
	require.NoError(t, err)
	require.True(t, swapped)
	require.Len(t, names(t, s, p), 31)
	require.NoError(t, s.PruneTags(ctx, p))
	require.EqualValues(t, 30, master.SCard(ctx, "gocache_tag_"+p+"t").Val(), "no entry is taken for gone")
	require.Error(t, s.Set(ctx, "gocache_tag_"+p+"t", "v"), "the set of a tag that the replica does not know")
	require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{p + "t"})))
	require.Equal(t, []string{p + "gone"}, names(t, s, p))
	require.NoError(t, s.ClearPrefix(ctx, p))
	require.Empty(t, names(t, s, p))
}
