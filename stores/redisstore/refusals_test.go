package redisstore_test

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

// Proxies and managed services refuse optional commands with their own texts.
func TestRefusedOptionalCommands(t *testing.T) {
	t.Parallel()
	for name, refusals := range map[string]map[string]string{
		"Envoy":        {"multi": "unsupported command 'multi'", "exec": "unsupported command 'exec'", "info": "unsupported command 'info'"},
		"predixy":      {"multi": "ERR forbid", "exec": "ERR forbid", "info": "ERR forbid"},
		"miniredis":    {"info": "section (server) is not supported"},
		"no words":     {"multi": "ERR 42", "exec": "ERR 43", "info": "ERR 44", "getrange": "ERR 45"},
		"no existence": {"exists": "ERR 46"},
		"blocked":      {"multi": "ERR command 'MULTI' is blocked", "info": "ERR command 'INFO' is blocked"},
		"unsupport":    {"multi": "ERR unsupport command", "info": "ERR unsupport command"},
		"denied":       {"multi": "ERR access denied", "info": "ERR access denied"},
		"restricted":   {"multi": "ERR MULTI is restricted", "info": "ERR INFO is restricted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := redistest.Start(t)
			ctx := t.Context()
			s := open(t, "redis://"+redistest.Refusing(t, srv.Addr(), refusals)+"?pool_size=1")
			tag := store.WithTags([]string{"ns:t"})
			for i := range 3 {
				key := fmt.Sprintf("ns:%d", i)
				require.NoError(t, s.Set(ctx, key, key, tag, store.WithExpiration(time.Hour)))
				for range 3 { // the reply of a refused command must not become the reply of another
					b, ttl, err := s.GetBytesWithTTL(ctx, key)
					require.NoError(t, err)
					require.Equal(t, key, string(b))
					require.Greater(t, ttl, 59*time.Minute)
					b, err = s.GetBytes(ctx, key)
					require.NoError(t, err)
					require.Equal(t, key, string(b))
					b, err = s.GetBytesMax(ctx, key, 100)
					require.NoError(t, err)
					require.Equal(t, key, string(b))
					b, ttl, err = s.GetBytesWithTTLMax(ctx, key, 100)
					require.NoError(t, err)
					require.Equal(t, key, string(b))
					require.Greater(t, ttl, 59*time.Minute)
					values, errs := s.GetBytesMany(ctx, []string{key, "none"}, 100)
					require.Nil(t, errs, "%v", errs)
					require.Equal(t, [][]byte{[]byte(key), nil}, values)
				}
				var large interface{ TooLarge() bool }
				_, err := s.GetBytesMax(ctx, key, 3)
				require.ErrorAs(t, err, &large)
				_, _, err = s.GetBytesWithTTLMax(ctx, key, 3)
				require.ErrorAs(t, err, &large)
			}
			_, _, err := s.GetWithTTL(ctx, "none")
			require.ErrorIs(t, err, store.NotFound{})
			n := 0
			for _, err := range s.Keys(ctx, "ns:") {
				require.NoError(t, err)
				n++
			}
			require.Equal(t, 3, n)
			require.NoError(t, s.PruneTags(ctx, "ns:"))
			require.NoError(t, s.ClearPrefix(ctx, "ns:"))
			_, err = s.Get(ctx, "ns:1")
			require.ErrorIs(t, err, store.NotFound{})
			require.NoError(t, s.Clear(ctx))
			advice, err := s.Advice(ctx)
			require.NoError(t, err)
			require.Empty(t, advice)
		})
	}
}

// A server that cannot answer INFO for a moment is not taken for one that does not offer it.
func TestScanNeedsInfoOfABusyServer(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	ctx := t.Context()
	busy := map[string]string{"info": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."}
	s := open(t, "redis://"+redistest.Refusing(t, srv.Addr(), busy)+"?max_retries=0")
	require.NoError(t, s.Set(ctx, "ns:k", "v"))
	require.ErrorContains(t, s.ClearPrefix(ctx, "ns:"), "BUSY")
	require.EqualValues(t, 1, srv.Client(t).Exists(ctx, "ns:k").Val())
}

// After a refused transaction, no other call gets one of its replies.
func TestRefusedTransactionLeavesNoReply(t *testing.T) {
	t.Parallel()
	for name, refusals := range map[string]map[string]string{
		"MULTI and EXEC": {"multi": "ERR 42", "exec": "ERR 43"},
		"EXEC":           {"exec": "ERR 43"},
		"ACL":            {"exec": "EXECABORT Transaction discarded because of: NOPERM this user has no permissions to run the 'exec' command"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := redistest.Start(t)
			ctx := t.Context()
			s := open(t, "redis://"+redistest.Refusing(t, srv.Addr(), refusals)+"?pool_size=1")
			require.NoError(t, s.Set(ctx, "a", "value of a"))
			require.NoError(t, s.Set(ctx, "b", "value of b"))
			for range 3 {
				b, _, err := s.GetBytesWithTTL(ctx, "a")
				require.NoError(t, err)
				require.Equal(t, "value of a", string(b))
				b, err = s.GetBytesMax(ctx, "b", 100)
				require.NoError(t, err)
				require.Equal(t, "value of b", string(b))
				b, err = s.GetBytes(ctx, "b")
				require.NoError(t, err)
				require.Equal(t, "value of b", string(b))
			}
		})
	}
}

// If DEL of an entry is denied, the entry stays in its tag, so that a later Invalidate can still remove it.
func TestInvalidateDeletesBeforeItForgets(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	admin, ctx := srv.Client(t), t.Context()
	allow(t, admin, append(documented(t), "-del")...)
	s := open(t, "redis://app:password@"+srv.Addr())
	require.NoError(t, s.Set(ctx, "shop:k", "v", store.WithTags([]string{"shop:t"})))
	tag := store.WithInvalidateTags([]string{"shop:t"})
	require.Error(t, s.Invalidate(ctx, tag))
	require.True(t, admin.SIsMember(ctx, "gocache_tag_shop:t", "shop:k").Val())
	allow(t, admin, documented(t)...)
	require.NoError(t, s.Invalidate(ctx, tag))
	require.Zero(t, admin.Exists(ctx, "shop:k", "gocache_tag_shop:t").Val())
}

// If DEL of an entry is denied to ClearPrefix, the entry keeps its tags.
func TestClearPrefixDeletesEntriesBeforeTags(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	admin, ctx := srv.Client(t), t.Context()
	require.NoError(t, newStore(t, admin).Set(ctx, "shop:k", "v", store.WithTags([]string{"shop:t"})))
	allow(t, admin, append(documented(t), "resetkeys", "%R~shop:*", "~gocache_tag_shop:*")...)
	s := open(t, "redis://app:password@"+srv.Addr())
	require.Error(t, s.ClearPrefix(ctx, "shop:"))
	require.True(t, admin.SIsMember(ctx, "gocache_tag_shop:t", "shop:k").Val())
	allow(t, admin, documented(t)...)
	require.NoError(t, s.ClearPrefix(ctx, "shop:"))
	require.Zero(t, admin.DBSize(ctx).Val())
}

// A master that became a read-only replica may lack entries and tags of the new master. A removal that finds nothing
// must fail there, as a write does.
func TestRemovalsOnADemotedNode(t *testing.T) {
	t.Parallel()
	master, demoted := redistest.Start(t), redistest.Start(t)
	ctx := t.Context()
	s := open(t, demoted.URL()+"?max_retries=0")
	require.NoError(t, s.Ping(ctx))
	require.NoError(t, newStore(t, master.Client(t)).Set(ctx, "ns:k", "v", store.WithTags([]string{"ns:t"})))
	host, port, err := net.SplitHostPort(master.Addr())
	require.NoError(t, err)
	admin := demoted.Client(t)
	// With a wrong password the replica never syncs, so it stays without the entry.
	require.NoError(t, admin.ConfigSet(ctx, "masterauth", "wrong").Err())
	require.NoError(t, master.Client(t).ConfigSet(ctx, "requirepass", "password").Err())
	require.NoError(t, admin.Do(ctx, "replicaof", host, port).Err())
	for name, err := range map[string]error{
		"Set":              s.Set(ctx, "k", "v"),
		"Delete":           s.Delete(ctx, "k"),
		"Invalidate":       s.Invalidate(ctx, store.WithInvalidateTags([]string{"ns:t"})),
		"InvalidatePrefix": s.InvalidatePrefix(ctx, "ns:", store.WithInvalidateTags([]string{"ns:t"})),
		"ClearPrefix":      s.ClearPrefix(ctx, "ns:"),
		"PruneTags":        s.PruneTags(ctx, "ns:"),
		"Clear":            s.Clear(ctx),
	} {
		require.ErrorContains(t, err, "READONLY", name)
		var reply redis.Error
		require.ErrorAs(t, err, &reply, name)
	}
	require.NoError(t, s.Invalidate(ctx), "no tag, so nothing to remove")
}

// A client of one node of a Cluster would work on a part of the entries and report success.
func TestOneNodeOfAClusterIsRefused(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := open(t, shared.Cluster.Nodes()[0].URL())
	var listed error
	for _, listed = range s.Keys(ctx, t.Name()+":") {
	}
	for name, err := range map[string]error{
		"Keys":        listed,
		"ClearPrefix": s.ClearPrefix(ctx, t.Name()+":"),
		"PruneTags":   s.PruneTags(ctx, t.Name()+":"),
		"Clear":       s.Clear(ctx),
	} {
		require.ErrorContains(t, err, "redis+cluster://", name)
	}
	advice, err := s.Advice(ctx)
	require.NoError(t, err)
	require.Len(t, advice, 1)
	require.Contains(t, advice[0], "redis+cluster://")

	// A server that does not offer INFO is recognized by CLUSTER INFO.
	cluster := redistest.StartCluster(t)
	require.NoError(t, cluster.Nodes()[0].Client(t).Do(ctx, "acl", "setuser", "default", "-info").Err())
	s = open(t, cluster.Nodes()[0].URL())
	require.ErrorContains(t, s.ClearPrefix(ctx, t.Name()+":"), "redis+cluster://")
}

// A Sentinel answers PING, but stores nothing.
func TestPingRefusesASentinel(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t)
	require.ErrorContains(t, open(t, "redis://"+sentinel.Addr()).Ping(t.Context()), "the server is a Sentinel, which stores nothing")
	require.NoError(t, open(t, sentinel.URL()).Ping(t.Context()), "the URL of its master")
}

// Policies that evict tag sets are reported. Safe policies are not.
func TestAdviceOnEviction(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	s, admin, ctx := open(t, srv.URL()), srv.Client(t), t.Context()
	require.NoError(t, admin.ConfigSet(ctx, "maxmemory-policy", "allkeys-lru").Err())
	advice, err := s.Advice(ctx)
	require.NoError(t, err)
	require.Empty(t, advice, "without maxmemory nothing is evicted")
	require.NoError(t, admin.ConfigSet(ctx, "maxmemory", "100mb").Err())
	for policy, safe := range map[string]bool{
		"noeviction": true, "volatile-ttl": true, "allkeys-lru": false, "allkeys-lfu": false, "allkeys-random": false,
		"volatile-lru": false, "volatile-lfu": false, "volatile-random": false,
	} {
		require.NoError(t, admin.ConfigSet(ctx, "maxmemory-policy", policy).Err())
		advice, err := s.Advice(ctx)
		require.NoError(t, err)
		if safe {
			require.Empty(t, advice, policy)
			continue
		}
		require.Len(t, advice, 1, policy)
		require.Contains(t, advice[0], policy)
	}
}

// Every removal works on a server without UNLINK.
func TestRemovalsWithoutUnlink(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, "--rename-command", "UNLINK", "")
	s, ctx := open(t, "redis://"+srv.Addr()), t.Context()
	for name, remove := range map[string]func() error{
		"Delete":      func() error { return s.Delete(ctx, "k") },
		"DeleteMany":  func() error { return errors.Join(s.DeleteMany(ctx, []string{"k"})...) },
		"Invalidate":  func() error { return s.Invalidate(ctx, store.WithInvalidateTags([]string{"t"})) },
		"ClearPrefix": func() error { return s.ClearPrefix(ctx, "") },
	} {
		require.NoError(t, s.Set(ctx, "k", "v", store.WithTags([]string{"t"})), name)
		require.NoError(t, remove(), name)
		require.Zero(t, srv.Client(t).Exists(ctx, "k").Val(), name)
	}
	require.NoError(t, s.ClearPrefix(ctx, "")) // Delete leaves the set of the tag
	require.Zero(t, srv.Client(t).DBSize(ctx).Val())
}

// A server that refuses writes, in any wording, does not look like one without entries.
func TestClearNeedsAWritableServer(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	const refusal = "ERR this instance is read-only"
	s := open(t, "redis://"+redistest.Refusing(t, srv.Addr(), map[string]string{"srem": refusal, "del": refusal}))
	require.ErrorContains(t, s.ClearPrefix(t.Context(), "ns:"), "read-only")
}
