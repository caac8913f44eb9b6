package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

const runbookFile = "../../docs/rollout.md"

// usersOfRunbook are the rules of its users, by name, and what a Cluster asks for besides.
func usersOfRunbook(t *testing.T) (users map[string][]string, cluster []string) {
	t.Helper()
	data, err := os.ReadFile(runbookFile)
	require.NoError(t, err)
	users = map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^ *ACL SETUSER (\S+) on >PASSWORD (.+)$`).FindAllStringSubmatch(string(data), -1) {
		users[m[1]] = strings.Fields(m[2])
	}
	m := regexp.MustCompile(`(?m)^ *(\+cluster\|.+)$`).FindStringSubmatch(string(data))
	require.NotNil(t, m)
	require.Len(t, users, 3)
	return users, strings.Fields(m[1])
}

// Each command does its work as the user that the runbook makes for it, with exactly the rights that it names.
func TestRightsOfRunbook(t *testing.T) {
	t.Parallel()
	users, more := usersOfRunbook(t)
	t.Run("one node", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t)
		rdb := redis.NewClient(server.ClientOptions())
		t.Cleanup(func() { _ = rdb.Close() })
		for name, rules := range users {
			setUser(t, rdb, name, rules)
		}
		rights(t, rdb, "redis://"+server.Addr()+"/1")
	})
	t.Run("Cluster", func(t *testing.T) {
		t.Parallel()
		cluster := redistest.StartCluster(t)
		rdb := redis.NewClusterClient(cluster.ClientOptions())
		t.Cleanup(func() { _ = rdb.Close() })
		require.NoError(t, rdb.ForEachShard(t.Context(), func(_ context.Context, node *redis.Client) error {
			for name, rules := range users {
				setUser(t, node, name, append(rules[:len(rules):len(rules)], more...))
			}
			return nil
		}))
		rights(t, rdb, cluster.URL())
	})
}

func setUser(t *testing.T, node redis.Cmdable, name string, rules []string) {
	t.Helper()
	args := []any{"acl", "setuser", name, "on", ">PASSWORD"}
	for _, r := range rules {
		args = append(args, r)
	}
	require.NoError(t, node.(interface { //nolint:forcetypeassert // a client is one
		Do(ctx context.Context, args ...any) *redis.Cmd
	}).Do(t.Context(), args...).Err())
}

func rights(t *testing.T, admin redis.Cmdable, url string) {
	t.Helper()
	ctx := t.Context()
	dir := t.TempDir()
	kekFile := filepath.Join(dir, "kek.json")
	var b bytes.Buffer
	require.NoError(t, insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()))
	require.NoError(t, os.WriteFile(kekFile, b.Bytes(), 0o600))
	kek := "file://" + filepath.ToSlash(kekFile)
	scheme, rest, _ := strings.Cut(url, "://")
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = rest[i+1:]
	}
	as := func(user string, want int, args ...string) {
		t.Helper()
		args = append([]string{args[0], "--redis", scheme + "://" + user + ":PASSWORD@" + rest}, args[1:]...)
		status, out, log := sealcache(t, args...)
		require.Equal(t, want, status, "%s as %s\n%s%s", args[0], user, out, log)
	}
	if one, ok := admin.(*redis.Client); ok { // the commands work on another database than the first
		o := *one.Options()
		o.DB = 1
		client := redis.NewClient(&o)
		t.Cleanup(func() { _ = client.Close() })
		admin = client
	}
	for _, name := range []string{"shop:1", "shop:2", "{shop:3}", "user:1"} {
		require.NoError(t, admin.Set(ctx, name, strings.Repeat("a", 100), 0).Err())
	}
	require.NoError(t, admin.Set(ctx, "shop:large", strings.Repeat("a", 1<<20), 0).Err())
	require.NoError(t, admin.SAdd(ctx, "gocache_tag_shop:t", "shop:1").Err())
	require.NoError(t, admin.SAdd(ctx, "gocache_tag_people", "user:1").Err())
	require.NoError(t, admin.SAdd(ctx, "gocache_tag_brief", "user:1").Err())
	require.NoError(t, admin.Expire(ctx, "gocache_tag_brief", time.Hour).Err())
	// Everything that asynq and asynqjobs keep as plaintext, in each form.
	require.NoError(t, admin.HSet(ctx, "asynq:{q}:t:1", "msg", "\x12\x01x", "result", "r").Err())
	require.NoError(t, admin.HSet(ctx, "asynq:workers:{h:1:x}", "1", "\x32\x01x").Err())
	require.NoError(t, admin.RPush(ctx, "asynq:schedulers:{h:1:x}", "\x22\x01x").Err())
	require.NoError(t, admin.ZAdd(ctx, "asynq:{q}:scheduled", redis.Z{Member: "1"}).Err())
	require.NoError(t, admin.SAdd(ctx, "asynq:queues", "q").Err())
	require.NoError(t, admin.HSet(ctx, "{sealcache:jobs:x}:schedules", "1", "x").Err())
	jobs := []string{"asynq:{q}:t:1", "asynq:workers:{h:1:x}", "asynq:schedulers:{h:1:x}", "asynq:{q}:scheduled", "asynq:queues", "{sealcache:jobs:x}:schedules"}

	const look, change, move = "sealcache-look", "sealcache-change", "sealcache-move"
	as(look, exitLeft, "audit", "--all")
	_, out, _ := sealcache(t, "audit", "--redis", scheme+"://"+look+":PASSWORD@"+rest, "--all")
	require.Contains(t, out, "jobs: 1 task")
	require.NotContains(t, out, "NOT READ")
	as(look, exitFailed, "migrate", "--namespace", "shop", "--kek", kek, "--allow-unproven") // the others may not
	as(change, exitDone, "plan", "--namespace", "shop")
	as(change, exitDone, "migrate", "--namespace", "shop", "--kek", kek, "--allow-unproven", "--dry-run")
	as(change, exitDone, "migrate", "--namespace", "shop", "--kek", kek, "--allow-unproven", "--checkpoint", filepath.Join(dir, "checkpoint"))
	as(look, exitDone, "inspect", "--namespace", "shop", "1")
	as(look, exitDone, "get", "--namespace", "shop", "--kek", kek, "--reason", "test", "1")
	as(look, exitLeft, "audit", "--all", "--kek", kek, "--open", "--namespace", "shop")
	as(change, exitDone, "reseal", "--namespace", "shop", "--kek", kek, "--proof", "1")
	as(move, exitDone, "migrate", "--prefix", "user:", "--to-namespace", "shop", "--kek", kek, "--proof", "1")
	as(move, exitDone, "migrate", "--prefix", "user:", "--to-namespace", "shop", "--kek", kek, "--proof", "1", "--delete-old")
	require.Equal(t, "shop:user:1", strings.Join(admin.SMembers(ctx, "gocache_tag_shop:people").Val(), " "))
	require.Positive(t, admin.TTL(ctx, "gocache_tag_shop:brief").Val())
	for _, name := range append(jobs, "{shop:3}") {
		require.NoError(t, admin.Del(ctx, name).Err())
	}
	as(look, exitDone, "audit", "--all", "--kek", kek, "--open", "--namespace", "shop")
	expiring(t, admin, kek)
	as(change, exitDone, "unseal", "--namespace", "shop", "--kek", kek, "--proof", "1")
	require.Equal(t, "v", admin.Get(ctx, "shop:expires").Val())
	require.Positive(t, admin.TTL(ctx, "shop:expires").Val())
	require.Len(t, admin.Get(ctx, "shop:large").Val(), 1<<20)

	prf := filepath.Join(dir, "prf.json")
	keys := func(args ...string) {
		t.Helper()
		status, _, log := sealcache(t, append([]string{"keys"}, append(args, "--kek", kek)...)...)
		require.Equal(t, exitDone, status, log)
	}
	keys("create", "--out", prf, "--type", "prf")
	hidden := []string{"--namespace", "shop", "--kek", kek, "--hidden-keys", prf}
	as(move, exitDone, append([]string{"migrate", "--allow-unproven"}, hidden...)...)
	require.Zero(t, admin.Exists(ctx, "shop:1", "shop:2", "shop:large").Val())
	as(look, exitDone, append([]string{"audit"}, hidden...)...)
	as(look, exitDone, append([]string{"get", "--reason", "test", "1"}, hidden...)...)
	keys("add", "--keyset", prf)
	keys("promote", "--keyset", prf, ids(t, prf)[1])
	as(move, exitDone, append([]string{"reseal", "--proof", "1"}, hidden...)...)
	as(look, exitDone, append([]string{"audit", "--may-disable", ids(t, prf)[0]}, hidden...)...)
	as(move, exitDone, append([]string{"unseal", "--proof", "1"}, hidden...)...)
	require.Len(t, admin.Get(ctx, "shop:1").Val(), 100)
}

// expiring writes an entry with an expiry in its sealed value, and none in Redis.
func expiring(t *testing.T, rdb redis.Cmdable, kek string) {
	t.Helper()
	ctx := t.Context()
	key, err := aead.OpenKEK(ctx, kek)
	require.NoError(t, err)
	e, err := aead.NewEnvelope(ctx, key)
	require.NoError(t, err)
	t.Cleanup(func() { _ = e.Close() })
	s, err := redisstore.New(rdb.(redis.UniversalClient)) //nolint:forcetypeassert // a client is one
	require.NoError(t, err)
	sealed, err := middleware.New(s, e, middleware.WithNamespace("shop"), middleware.WithAuthenticatedExpiry())
	require.NoError(t, err)
	require.NoError(t, sealed.Set(ctx, "expires", "v", store.WithExpiration(time.Hour)))
	require.NoError(t, rdb.Persist(ctx, "shop:expires").Err())
}
