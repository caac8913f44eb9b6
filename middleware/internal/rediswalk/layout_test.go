package rediswalk

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

// A layout is safe only if each slot has exactly one master, by the views of the masters themselves.
func TestLayout(t *testing.T) {
	t.Parallel()
	// says returns the view of node n: its slots and those of the others.
	says := func(n int, slots ...string) view {
		var b strings.Builder
		for i := range slots {
			flags := "master"
			if i == n {
				flags = "myself,master"
			}
			fmt.Fprintf(&b, "id%d 127.0.0.1:%d@1 %s - 0 0 %d connected %s\n", i, i, flags, i, slots[i])
		}
		return parseView(b.String())
	}
	of := func(slots ...string) layout {
		var views []view
		for n := range slots {
			v := says(n, slots...)
			v.counted = true
			views = append(views, v)
		}
		return layoutOf(views)
	}
	for _, c := range []struct {
		slots   []string
		safe    bool
		unowned int
		half    int
	}{
		{[]string{"0-5460", "5461-10922", "10923-16383"}, true, 0, 0},
		{[]string{"0-5460", "5461-10922", "10923-16383", ""}, true, 0, 0},
		{[]string{"0-5460 10923-16383", "5461 5462-10922"}, true, 0, 0},
		{[]string{"0-5460 [7->-id1]", "5461-10922 [7-<-id0]", "10923-16383"}, true, 0, 0},
		{[]string{"0-5460 [7->-id3]", "5461-10922", "10923-16383"}, false, 0, 1},
		{[]string{"0-5460", "5461-10922 [7-<-id0]", "10923-16383"}, false, 0, 1},
		{[]string{"0-5460 [7->-id2]", "5461-10922 [7-<-id0]", "10923-16383"}, false, 0, 2},
		{[]string{"0-5460", "5462-10922", "10923-16383"}, false, 1, 0},
		{[]string{"0-5460", "5460-10922", "10923-16383"}, false, 1, 0},
		{[]string{"0-16384", ""}, false, clusterSlots, 0},
		{[]string{"0-16382", ""}, false, 1, 0},
		{[]string{"0-16382 x", "16383"}, true, 0, 0},
		{[]string{"", ""}, false, clusterSlots, 0},
	} {
		got := of(c.slots...)
		require.Equal(t, c.safe, got.safe, c.slots)
		require.Equal(t, c.unowned, got.unowned, c.slots)
		require.Equal(t, c.half, got.half, c.slots)
		require.Equal(t, c.safe, got.same(of(c.slots...)), c.slots)
	}
	moving := []string{"0-5460 [7->-id1]", "5461-16383 [7-<-id0]"}
	uncounted := layoutOf([]view{says(0, moving...), says(1, moving...)})
	require.False(t, uncounted.safe)
	require.Equal(t, 2, uncounted.half, "entries may move unseen")
	one := layoutOf([]view{says(0, "0-16383", "")})
	require.True(t, one.safe)
	one = layoutOf([]view{says(0, "0-16382", "16383")})
	require.False(t, one.safe, "a master was not asked")
	require.Equal(t, 1, one.unowned)
}

// A scan cannot read a slot without a master, so it is never complete.
func TestSlotWithoutMaster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	rdb, ctx := cluster.Client(t), t.Context()
	require.NoError(t, rdb.Set(ctx, "k", "clear", 0).Err())
	slot := int(rdb.ClusterKeySlot(ctx, "k").Val())
	owner, err := rdb.MasterForKey(ctx, "k")
	require.NoError(t, err)
	s, err := New(rdb)
	require.NoError(t, err)
	scan := func(settleFor time.Duration) error { return count(ctx, s, settleFor, new(int)) }
	require.NoError(t, scan(time.Minute))
	require.NoError(t, owner.ClusterDelSlots(ctx, slot).Err())
	require.ErrorIs(t, scan(3*time.Second), errUnowned)

	require.NoError(t, owner.ClusterAddSlots(ctx, slot).Err())
	require.NoError(t, scan(time.Minute))
}

// The client may ask a node that was removed from the Cluster, and which lists no slots. Without masters, nothing is confirmed, and a
// scan asks again.
func TestNoMasterForAMoment(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	admin, ctx := cluster.Client(t), t.Context()
	require.NoError(t, admin.Set(ctx, "k", "v", 0).Err())
	node := cluster.Nodes()[0].Client(t)
	var removed atomic.Int64 // how often the removed node answers
	o := cluster.ClientOptions()
	o.ClusterSlots = func(ctx context.Context) ([]redis.ClusterSlot, error) {
		if removed.Add(-1) >= 0 {
			return nil, nil
		}
		return node.ClusterSlots(ctx).Result() //nolint:staticcheck // the client reads these, not CLUSTER SHARDS
	}
	rdb := redis.NewClusterClient(o)
	t.Cleanup(func() { require.NoError(t, rdb.Close()) })
	s, err := New(rdb)
	require.NoError(t, err)
	removed.Store(1)
	_, err = s.States(ctx)
	require.ErrorIs(t, err, errNoMaster)
	states, err := s.States(ctx)
	require.NoError(t, err)
	require.Len(t, states, 3)
	removed.Store(2)
	total := 0
	require.NoError(t, count(ctx, s, time.Minute, &total))
	require.Equal(t, 1, total)
}

// A user without ASKING is sent back and forth between the two masters of a slot.
func TestRedirectedInACircle(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	err := rdb.Eval(t.Context(), `return redis.error_reply("MOVED 7 127.0.0.1:7000")`, nil).Err()
	require.ErrorContains(t, withRemedy(err), "MOVED 7 127.0.0.1:7000 (allow ASKING")
	require.ErrorIs(t, withRemedy(err), err)
}

// count scans all names and adds up how many there are.
func count(ctx context.Context, s *Servers, settleFor time.Duration, total *int) error {
	w := &Walk[int]{
		Servers: s, Pattern: "*", Tuning: Tuning{BatchSize: 100, Workers: 1}, Log: slog.New(slog.DiscardHandler), settleFor: settleFor,
		Work:    func(_ context.Context, names []string) (*int, error) { return new(len(names)), nil },
		Merge:   func(tally, result *int) { *tally += *result; *total += *result },
		Discard: func(tally *int) { *total -= *tally },
	}
	return w.Run(ctx, nil, "")
}

// Entries of a slot may be on a node that the client does not scan, because the node has no slots. Or their master may have
// forgotten the move, as after a failover. Then no scan is complete until the move ends.
func TestHalfMovedSlot(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	rdb, ctx := cluster.Client(t), t.Context()
	require.NoError(t, rdb.Set(ctx, "k", "plaintext", 0).Err())
	slot := int(rdb.ClusterKeySlot(ctx, "k").Val())
	s, err := New(rdb)
	require.NoError(t, err)
	total := 0
	scan := func(settleFor time.Duration) error { total = 0; return count(ctx, s, settleFor, &total) }

	added := cluster.AddMaster(t)
	from, err := cluster.OpenSlot(ctx, added, slot)
	require.NoError(t, err)
	_, err = redistest.MoveKeys(ctx, from, added, slot, 100)
	require.NoError(t, err)
	require.ErrorIs(t, scan(3*time.Second), errHalfMoved)
	require.NoError(t, cluster.CloseSlot(ctx, added, slot))
	require.NoError(t, scan(time.Minute))
	require.Equal(t, 1, total)

	_, err = cluster.OpenSlot(ctx, from, slot)
	require.NoError(t, err)
	_, err = redistest.MoveKeys(ctx, added, from, slot, 100)
	require.NoError(t, err)
	require.NoError(t, scan(time.Minute), "both masters know the move, and are scanned")
	require.Equal(t, 1, total)
	owner := added.Client(t)
	require.NoError(t, owner.Do(ctx, "cluster", "setslot", slot, "stable").Err())
	require.ErrorIs(t, scan(3*time.Second), errHalfMoved)
}
