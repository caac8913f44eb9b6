package redisstore_test

import (
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// refusesAll requires that every operation returns the server's refusal, never a value, a miss or success.
func refusesAll(t *testing.T, name string, s *redisstore.Store, want string) {
	t.Helper()
	for range 2 { // the second call gets the refusal, too
		errs := every(t.Context(), s, "k")
		errs["clear"] = s.Clear(t.Context())
		for op, err := range errs {
			require.ErrorContains(t, err, want, "%s, %s", name, op)
			require.NotErrorIs(t, err, redis.Nil, "%s, %s", name, op)
			quiet(t, name+", "+op, err)
		}
		b, ttl, err := s.GetBytesWithTTL(t.Context(), "k")
		require.Error(t, err, name)
		require.Nil(t, b, name)
		require.Zero(t, ttl, name)
	}
}

// If the server refuses the connection, every operation fails. go-redis then leaves the commands of a transaction
// without an error, so an empty value with a short TTL would look like a hit.
func TestRefusedConnectionIsAnErrorOfEveryMethod(t *testing.T) {
	t.Parallel()
	srv := redistest.StartWith(t, redistest.Options{Password: "right", Args: []string{"--databases", "1"}})
	admin, ctx := srv.Client(t), t.Context()
	require.NoError(t, admin.Set(ctx, "k", "v", 0).Err())
	require.NoError(t, admin.Do(ctx, "acl", "setuser", "app", "reset", "on", ">right", "~*", "+@all", "-client").Err())
	for name, c := range map[string]struct{ url, want string }{
		"wrong password":     {"redis://default:wrong@" + srv.Addr(), "WRONGPASS"},
		"unknown user":       {"redis://nobody:right@" + srv.Addr(), "WRONGPASS"},
		"no password":        {"redis://" + srv.Addr(), "NOAUTH"},
		"db out of range":    {"redis://default:right@" + srv.Addr() + "/5", "out of range"},
		"client_name denied": {"redis://app:right@" + srv.Addr() + "?client_name=me", "NOPERM"},
	} {
		for _, protocol := range []string{"2", "3"} {
			u := c.url + map[bool]string{false: "?", true: "&"}[strings.Contains(c.url, "?")] + "max_retries=0&protocol=" + protocol
			refusesAll(t, name+", RESP "+protocol, open(t, u), c.want)
		}
	}
	require.Equal(t, "v", admin.Get(ctx, "k").Val())
	require.EqualValues(t, 1, admin.DBSize(ctx).Val(), "nothing was written")
}

func TestRefusedConnectionToAClusterIsAnErrorOfEveryMethod(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	ctx := t.Context()
	for _, n := range c.Nodes() {
		require.NoError(t, n.Client(t).Do(ctx, "acl", "setuser", "app", "reset", "on", ">right", "~*", "+@all").Err())
	}
	url := strings.Replace(c.URL(), "://", "://app:right@", 1)
	s := open(t, url)
	works(t, s) // the client knows the nodes now
	for _, n := range c.Nodes() {
		require.NoError(t, n.Client(t).Do(ctx, "acl", "setuser", "app", "resetpass", ">other").Err())
		require.NoError(t, n.Client(t).Do(ctx, "client", "kill", "user", "app").Err())
	}
	refusesAll(t, "password revoked", s, "WRONGPASS")
	refusesAll(t, "wrong password", open(t, url), "WRONGPASS")
	for _, n := range c.Nodes() {
		require.NoError(t, n.Client(t).Do(ctx, "acl", "setuser", "app", "resetpass", ">right", "-client").Err())
	}
	refusesAll(t, "client_name denied", open(t, url+"?client_name=me"), "NOPERM")
	works(t, s)
}

// If one master of three refuses the connection, its own entries fail, and the others keep their tags.
func TestOneMasterThatRefusesLosesNoTag(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	ctx := t.Context()
	for _, n := range c.Nodes() {
		require.NoError(t, n.Client(t).Do(ctx, "acl", "setuser", "app", "reset", "on", ">right", "~*", "+@all").Err())
	}
	s := open(t, strings.Replace(c.URL(), "://", "://app:right@", 1)+"?max_retries=0&max_redirects=1")
	works(t, s)
	broken := c.Nodes()[0].Client(t)
	require.NoError(t, broken.Do(ctx, "acl", "setuser", "app", "resetpass", ">other").Err())
	require.NoError(t, broken.Do(ctx, "client", "kill", "user", "app").Err())
	failures := 0
	for i := range 60 {
		key, tag := "k"+string(rune('A'+i)), "t"+string(rune('A'+i))
		err := s.Set(ctx, key, "v", store.WithTags([]string{tag}))
		if err != nil {
			failures++
			continue
		}
		require.True(t, c.Client(t).SIsMember(ctx, "gocache_tag_"+tag, key).Val(), "Set succeeded without its tag")
	}
	require.Positive(t, failures)
	require.Less(t, failures, 60)
	require.Error(t, s.Ping(ctx))
}
