package redisstore_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

func names(t *testing.T, s *redisstore.Store, prefix string) []string {
	t.Helper()
	var all []string
	for key, err := range s.Keys(t.Context(), prefix) {
		require.NoError(t, err)
		all = append(all, key)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestKeysOfAPrefix(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx := t.Context()
		var want []string
		for i := range 2500 {
			key := fmt.Sprintf("%sin:%04d", p, i)
			want = append(want, key)
		}
		pipe := rdb.Pipeline()
		for _, key := range want {
			pipe.Set(ctx, key, "v", 0)
		}
		pipe.Set(ctx, p+"out", "v", 0)
		pipe.HSet(ctx, p+"in:hash", "f", "v")
		pipe.RPush(ctx, p+"in:list", "v")
		_, err := pipe.Exec(ctx)
		require.NoError(t, err)
		require.NoError(t, s.Set(ctx, p+"in:0000", "v", store.WithTags([]string{p + "in:tag"})))
		require.Equal(t, want, names(t, s, p+"in:"))
		require.Empty(t, names(t, s, "gocache_tag_"+p), "tag sets are not entries")

		n := 0
		for range s.Keys(ctx, p+"in:") { // the caller stops early
			if n++; n == 10 {
				break
			}
		}
		require.Equal(t, 10, n)
	})
}

// Special characters of patterns are taken literally.
func TestKeysAndClearPrefixTakeThePrefixLiterally(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, _ redis.UniversalClient, p string) {
		ctx := t.Context()
		prefixes := []string{"*", "?", "[a-z]", "[^a]", `\`, `\*`, "a*b", "]", "[", "{x}", "\x00", "\xff\xfe", "^", "-", "é", "**", `*\`}
		for _, prefix := range prefixes {
			require.NoError(t, s.Set(ctx, p+prefix+"1", "v", store.WithTags([]string{p + prefix + "tag"})))
		}
		require.NoError(t, s.Set(ctx, p+"a", "v"))
		require.NoError(t, s.Set(ctx, p+"axb1", "v"))
		for _, prefix := range prefixes {
			var want []string
			for _, other := range prefixes {
				if strings.HasPrefix(other+"1", prefix) {
					want = append(want, p+other+"1")
				}
			}
			slices.Sort(want)
			require.Equal(t, want, names(t, s, p+prefix), "%q", prefix)
		}
		require.NoError(t, s.ClearPrefix(ctx, p+"*"))
		left := names(t, s, p)
		require.NotContains(t, left, p+"*1")
		require.NotContains(t, left, p+"**1")
		require.Contains(t, left, p+"a")
		require.Contains(t, left, p+"[a-z]1")
		require.Len(t, left, len(prefixes)+2-3) // "*", "**" and `*\`
	})
}

func TestClearPrefixLeavesOthersAlone(t *testing.T) {
	on(t, func(t *testing.T, s *redisstore.Store, rdb redis.UniversalClient, p string) {
		ctx := t.Context()
		pipe := rdb.Pipeline()
		for i := range 3000 {
			pipe.Set(ctx, fmt.Sprint(p, "in:", i), "v", 0)
			pipe.SAdd(ctx, fmt.Sprint("gocache_tag_", p, "in:", i%7), fmt.Sprint(p, "in:", i))
		}
		pipe.Set(ctx, p+"out", "v", 0)
		pipe.SAdd(ctx, "gocache_tag_"+p+"out", p+"out")
		pipe.HSet(ctx, p+"in:hash", "f", "v")
		pipe.SAdd(ctx, p+"in:set", "m")
		_, err := pipe.Exec(ctx)
		require.NoError(t, err)
		require.NoError(t, s.ClearPrefix(ctx, p+"in:"))
		require.Equal(t, []string{p + "out"}, names(t, s, p))
		for i := range 7 {
			require.Zero(t, rdb.Exists(ctx, fmt.Sprint("gocache_tag_", p, "in:", i)).Val())
		}
		for _, key := range []string{"gocache_tag_" + p + "out", p + "in:hash", p + "in:set"} {
			require.EqualValues(t, 1, rdb.Exists(ctx, key).Val(), key)
		}
		require.NoError(t, s.ClearPrefix(ctx, p+"in:"), "of nothing")
	})
}

func TestClearEmptiesTheSelectedDatabaseOnly(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	ctx := t.Context()
	opts := srv.ClientOptions()
	opts.DB = 3
	other := redis.NewClient(opts)
	defer func() { require.NoError(t, other.Close()) }()
	require.NoError(t, other.Set(ctx, "theirs", "v", 0).Err())
	s := newStore(t, srv.Client(t))
	require.NoError(t, s.Set(ctx, "ours", "v", store.WithTags([]string{"tag"})))
	m := srv.Monitor(t)
	require.NoError(t, s.Clear(ctx))
	require.NotContains(t, strings.ToLower(string(m.Bytes(t))), "flushall")
	require.Zero(t, srv.Client(t).DBSize(ctx).Val())
	require.EqualValues(t, 1, other.Exists(ctx, "theirs").Val())
}

func TestClearEmptiesEveryMaster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	s, ctx := newStore(t, c.Client(t)), t.Context()
	for i := range 50 {
		require.NoError(t, s.Set(ctx, fmt.Sprint(i), "v"))
	}
	require.NoError(t, s.Clear(ctx))
	for _, node := range c.Nodes() {
		require.Zero(t, node.Client(t).DBSize(ctx).Val())
	}
}

// No operation uses a command that blocks the server for others, such as DEL of a large set.
func TestNoCommandStopsTheServer(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	s, ctx := newStore(t, srv.Client(t)), t.Context()
	m := srv.Monitor(t)
	require.NoError(t, s.Set(ctx, "p:k", "v", store.WithTags([]string{"p:tag"})))
	names(t, s, "p:")
	require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{"p:tag"})))
	require.NoError(t, s.Set(ctx, "p:k", "v", store.WithTags([]string{"p:tag"})))
	require.NoError(t, s.ClearPrefix(ctx, "p:"))
	seen := strings.ToLower(string(m.Bytes(t)))
	for _, command := range []string{`"keys"`, `"flushall"`, `"flushdb"`, `"smembers"`, `"del" "gocache_tag_`} {
		require.NotContains(t, seen, command)
	}
	require.Contains(t, seen, `"unlink" "gocache_tag_p:tag"`)
}

// A cursor is meaningless after a restart of the server. The scan must not end as if it were complete.
func TestScanNoticesARestart(t *testing.T) {
	t.Parallel()
	srv := redistest.StartWith(t, redistest.Options{AppendOnly: true})
	rdb := srv.Client(t)
	s, ctx := newStore(t, rdb), t.Context()
	pipe := rdb.Pipeline()
	for i := range 5000 {
		pipe.Set(ctx, fmt.Sprint(i), "v", 0)
	}
	_, err := pipe.Exec(ctx)
	require.NoError(t, err)
	var last error
	restarted := false
	for _, err := range s.Keys(ctx, "") {
		if last = err; !restarted {
			restarted = true
			require.NoError(t, srv.Restart())
		}
	}
	require.ErrorContains(t, last, "restarted or failed over")
}

func TestKeysWithoutPermissionForInfo(t *testing.T) {
	t.Parallel()
	srv := redistest.StartWith(t, redistest.Options{User: "app", Password: "pw", Rules: "~* &* +@all -info"})
	s := newStore(t, srv.Client(t))
	require.NoError(t, s.Set(t.Context(), "k", "v"))
	require.Equal(t, []string{"k"}, names(t, s, ""))
}

func TestKeysReportsErrorsOnce(t *testing.T) {
	t.Parallel()
	srv := redistest.StartWith(t, redistest.Options{User: "app", Password: "pw", Rules: "~* &* +@all -scan"})
	s := newStore(t, srv.Client(t))
	n := 0
	for key, err := range s.Keys(context.Background(), "") {
		require.Empty(t, key)
		require.ErrorContains(t, err, "NOPERM")
		n++
	}
	require.Equal(t, 1, n)
}

// A client that asks a node which was removed from the Cluster finds no master.
func TestNoMaster(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClusterClient(&redis.ClusterOptions{ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) { return nil, nil }})
	t.Cleanup(func() { require.NoError(t, rdb.Close()) })
	s, ctx := newStore(t, rdb), t.Context()
	for _, err := range s.Keys(ctx, "") {
		require.ErrorContains(t, err, "the client found no master")
	}
	for what, err := range map[string]error{"Ping": s.Ping(ctx), "Clear": s.Clear(ctx), "ClearPrefix": s.ClearPrefix(ctx, "a:"), "PruneTags": s.PruneTags(ctx, "")} {
		require.ErrorContains(t, err, "the client found no master", what)
	}
}
