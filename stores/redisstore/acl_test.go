package redisstore_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// documented returns the rules of the ACL user in docs/stores.md.
func documented(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile("../../docs/stores.md")
	require.NoError(t, err)
	_, rest, ok := strings.Cut(string(b), "ACL SETUSER app on >password ")
	require.True(t, ok)
	text, _, ok := strings.Cut(rest, "```")
	require.True(t, ok)
	return strings.Fields(text)
}

// allow creates a user with rules.
func allow(t *testing.T, admin redis.Cmdable, rules ...string) {
	t.Helper()
	args := []any{"acl", "setuser", "app", "reset", "on", ">password"}
	for _, r := range rules {
		args = append(args, r)
	}
	require.NoError(t, admin.(redis.UniversalClient).Do(t.Context(), args...).Err())
}

// shop calls each method except Clear on names that start with "shop:", and returns those that failed.
func shop(ctx context.Context, s *redisstore.Store) map[string]error {
	errs := make(map[string]error)
	tagged := store.WithTags([]string{"shop:tag"})
	expect := func(name string, ok bool, err error) {
		if err == nil && !ok {
			err = errors.New("not what was expected")
		}
		if err != nil {
			errs[name] = errors.Join(errs[name], err)
		}
	}
	expect("Ping", true, s.Ping(ctx))
	expect("Set", true, s.Set(ctx, "shop:k", "v"))
	b, err := s.GetBytes(ctx, "shop:k")
	expect("Get", string(b) == "v", err)
	b, _, err = s.GetBytesWithTTL(ctx, "shop:k")
	expect("GetWithTTL", string(b) == "v", err)
	_, _, err = s.GetBytesWithTTL(ctx, "shop:none")
	expect("GetWithTTL of nothing", errors.Is(err, &store.NotFound{}), nil)
	ok, err := s.CompareAndSwap(ctx, "shop:k", []byte("v"), 0, nil, -1)
	expect("CompareAndSwap", ok, err)
	ok, err = s.CompareAndSwap(ctx, "shop:k", nil, 0, []byte("v"), -1)
	expect("CompareAndSwap of an empty value", ok, err)
	expect("Set with a tag", true, s.Set(ctx, "shop:t", "v", tagged, store.WithTagsTTL(1e9)))
	expect("Set with a tag forever", true, s.Set(ctx, "shop:t", "v", tagged))
	expect("Delete", true, s.Delete(ctx, "shop:t"))
	ok, err = s.SetIfNotExists(ctx, "shop:t", "v", tagged)
	expect("SetIfNotExists", ok, err)
	expect("PruneTags", true, s.PruneTags(ctx, "shop:"))
	expect("InvalidatePrefix", true, s.InvalidatePrefix(ctx, "shop:", store.WithInvalidateTags([]string{"shop:tag"})))
	expect("Invalidate", true, s.Invalidate(ctx, store.WithInvalidateTags([]string{"shop:tag"})))
	n := 0
	for _, err := range s.Keys(ctx, "shop:") {
		expect("Keys", true, err)
		n++
	}
	expect("Keys", n == 1, nil)
	expect("ClearPrefix", true, s.ClearPrefix(ctx, "shop:"))
	return errs
}

func TestDocumentedPermissionsSuffice(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	admin, ctx := srv.Client(t), t.Context()
	rules := documented(t)
	allow(t, admin, rules...)
	require.Empty(t, shop(ctx, open(t, "redis://app:password@"+srv.Addr())))

	// These methods need more rights.
	s := open(t, "redis://app:password@"+srv.Addr())
	require.ErrorContains(t, s.Clear(ctx), "NOPERM")
	require.ErrorContains(t, s.Set(ctx, "other:k", "v"), "NOPERM")
	require.ErrorContains(t, s.Set(ctx, "shop:k", "v", store.WithTags([]string{"other:tag"})), "NOPERM")
	require.ErrorContains(t, open(t, "redis://app:password@"+srv.Addr()+"/1").Ping(ctx), "NOPERM")
	require.ErrorContains(t, open(t, "redis://app:password@"+srv.Addr()+"?client_name=me").Ping(ctx), "NOPERM")

	allow(t, admin, append(rules, "+select", "+client|setname", "+flushdb")...)
	s = open(t, "redis://app:password@"+srv.Addr()+"/1?client_name=me")
	require.Empty(t, shop(ctx, s))
	require.NoError(t, s.Clear(ctx))
}

func TestDocumentedPermissionsSufficeInACluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	for _, n := range c.Nodes() {
		allow(t, n.Client(t), append(documented(t), "+cluster|slots", "+command", "+asking", "+readonly", "+flushdb")...)
	}
	url := strings.Replace(c.URL(), "://", "://app:password@", 1)
	s := open(t, url)
	require.Empty(t, shop(t.Context(), s))
	require.NoError(t, s.Clear(t.Context()))

	opts := c.ClientOptions()
	opts.Username, opts.Password, opts.ReadOnly = "app", "password", true
	replicas := redis.NewClusterClient(opts)
	defer func() { require.NoError(t, replicas.Close()) }()
	require.Empty(t, shop(t.Context(), newStore(t, replicas)))

	for _, n := range c.Nodes() {
		rules := slices.DeleteFunc(documented(t), func(r string) bool { return r == "+multi" || r == "+exec" })
		allow(t, n.Client(t), append(rules, "+cluster|slots", "+command")...)
	}
	require.Empty(t, shop(t.Context(), open(t, url)), "without transactions")
}

// Each documented command is needed, or its absence has the effect that the documentation states.
func TestDocumentedPermissionsAreTheLeast(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	admin := srv.Client(t)
	rules := documented(t)
	for _, rule := range rules {
		if !strings.HasPrefix(rule, "+") || rule == "+exec" {
			continue
		}
		less := slices.DeleteFunc(slices.Clone(rules), func(r string) bool {
			return r == rule || rule == "+multi" && r == "+exec"
		})
		allow(t, admin, less...)
		require.NoError(t, admin.ScriptFlush(t.Context()).Err())
		errs := shop(t.Context(), open(t, "redis://app:password@"+srv.Addr()+"?max_retries=0"))
		if rule == "+multi" || rule == "+info" {
			require.Empty(t, errs, "without %s", rule)
			continue
		}
		require.NotEmpty(t, errs, "%s is not needed", rule)
		denied := slices.ContainsFunc(slices.Collect(maps.Values(errs)), func(err error) bool {
			return strings.Contains(err.Error(), "NOPERM") || strings.Contains(err.Error(), "can't run this command")
		})
		require.True(t, denied, "without %s: %v", rule, errs)
		require.NoError(t, admin.FlushDB(t.Context()).Err())
	}

	// These methods need neither tags nor swaps nor enumeration.
	allow(t, admin, append(rules[:2:2], strings.Fields("-@all +ping +get +set +del +pttl +multi +exec")...)...)
	s, ctx := open(t, "redis://app:password@"+srv.Addr()), t.Context()
	require.NoError(t, s.Set(ctx, "shop:k", "v"))
	_, _, err := s.GetWithTTL(ctx, "shop:k")
	require.NoError(t, err)
	written, err := s.SetIfNotExists(ctx, "shop:n", "v")
	require.NoError(t, err)
	require.True(t, written)
	require.NoError(t, s.Delete(ctx, "shop:k"))
}

// A server without MULTI is asked once, not for each value.
func TestMissingTransactionsAreRemembered(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, "--rename-command", "multi", "")
	s, ctx := newStore(t, srv.Client(t)), t.Context()
	require.NoError(t, s.Set(ctx, "k", "v", store.WithExpiration(1e12)))
	_, _, err := s.GetWithTTL(ctx, "none")
	require.ErrorIs(t, err, &store.NotFound{})
	m := srv.Monitor(t)
	for range 20 {
		b, ttl, err := s.GetBytesWithTTL(ctx, "k")
		require.NoError(t, err)
		require.Equal(t, "v", string(b))
		require.Positive(t, ttl)
	}
	require.NotContains(t, string(m.Bytes(t)), `"exec"`)
}
