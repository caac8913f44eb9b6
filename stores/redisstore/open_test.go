package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// works calls every kind of operation on an opened store.
func works(t *testing.T, s *redisstore.Store) {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, s.Ping(ctx))
	require.NoError(t, s.Set(ctx, "works:k", "v", store.WithExpiration(time.Hour), store.WithTags([]string{"works:t"})))
	b, ttl, err := s.GetBytesWithTTL(ctx, "works:k")
	require.NoError(t, err)
	require.Equal(t, "v", string(b))
	require.Positive(t, ttl)
	swapped, err := s.CompareAndSwap(ctx, "works:k", b, 0, []byte("w"), -1)
	require.NoError(t, err)
	require.True(t, swapped)
	require.Equal(t, []string{"works:k"}, names(t, s, "works:"))
	require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{"works:t"})))
	_, err = s.Get(ctx, "works:k")
	require.ErrorIs(t, err, &store.NotFound{})
	require.NoError(t, s.ClearPrefix(ctx, "works:"))
}

func TestOpenSingleNode(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	works(t, open(t, srv.URL()))
	works(t, open(t, "redis+unix://"+srv.Socket()+"?db=2"))
	works(t, open(t, "unix://"+srv.Socket()))
	works(t, open(t, "redis://"+srv.Addr()+"/1?protocol=2"))
	s := open(t, "redis://"+srv.Addr()+"?db=5&expiration=1h&client_name=cache&pool_size=2&min_idle_conns=1&read_timeout=41s"+
		"&write_timeout=42s&dial_timeout=43s&pool_timeout=1m30s&max_retries=0&min_retry_backoff=1ms&max_retry_backoff=2ms"+
		"&max_idle_conns=2&max_active_conns=3&conn_max_idle_time=1m&conn_max_lifetime=1h&tags_ttl=24h")
	works(t, s)
	require.NoError(t, s.Set(t.Context(), "k", "v", store.WithTags([]string{"t"})))
	_, ttl, err := s.GetBytesWithTTL(t.Context(), "k")
	require.NoError(t, err)
	require.InDelta(t, time.Hour, ttl, float64(time.Minute))

	opts := srv.ClientOptions()
	opts.DB = 5
	rdb := redis.NewClient(opts)
	defer func() { require.NoError(t, rdb.Close()) }()
	require.Equal(t, "v", rdb.Get(t.Context(), "k").Val(), "in the database of the URL")
	require.InDelta(t, 24*time.Hour, rdb.PTTL(t.Context(), "gocache_tag_t").Val(), float64(time.Minute))
	require.Contains(t, rdb.ClientList(t.Context()).Val(), "name=cache")
}

// Calls wait for one of the few connections. go-redis would refuse those above max_active_conns if its pool were larger.
// Pipelines have no connections besides.
func TestCallsWaitUnderMaxActiveConns(t *testing.T) {
	t.Parallel()
	for _, url := range []string{shared.Single.URL(), shared.Cluster.URL()} {
		s := open(t, url+"?max_active_conns=1&pool_timeout=5m&client_name=one")
		var wg sync.WaitGroup
		for w := range 16 {
			wg.Go(func() {
				for i := range 20 {
					key := fmt.Sprint(t.Name(), w, "-", i)
					_, err := s.SetIfNotExists(t.Context(), key, "v")
					if err == nil {
						err = s.Set(t.Context(), key, "v", store.WithTags([]string{t.Name()}))
					}
					if err == nil {
						_, err = s.Get(t.Context(), key)
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		require.NotZero(t, s.Stats().Batches)
	}
	for _, node := range append(shared.Cluster.Nodes(), shared.Single) {
		require.Equal(t, 1, strings.Count(node.Client(t).ClientList(t.Context()).Val(), "name=one "))
	}
}

func TestOpenTLS(t *testing.T) {
	t.Parallel()
	for _, mutual := range []bool{false, true} {
		srv := redistest.StartWith(t, redistest.Options{TLS: true, TLSClientAuth: mutual, User: "app", Password: "p@ss:/?#[]% word"})
		works(t, open(t, srv.URL()))
		works(t, open(t, strings.Replace(srv.URL(), "127.0.0.1", "localhost", 1)))

		u, err := url.Parse(srv.URL())
		require.NoError(t, err)
		q := u.Query()
		q.Set("server_name", "other.example")
		q.Set("max_retries", "0")
		u.RawQuery = q.Encode()
		require.ErrorContains(t, open(t, u.String()).Ping(t.Context()), "not other.example")

		q.Del("server_name")
		q.Del("ca_file")
		u.RawQuery = q.Encode()
		require.ErrorContains(t, open(t, u.String()).Ping(t.Context()), "unknown authority", "the CA is not the system's")

		u, err = url.Parse(srv.URL())
		require.NoError(t, err)
		u.Scheme, u.RawQuery = "redis", "max_retries=0"
		require.Error(t, open(t, u.String()).Ping(t.Context()), "in plaintext")
		if mutual {
			u.Scheme, u.RawQuery = "rediss", "max_retries=0&ca_file="+url.QueryEscape(srv.Certificates().CAFile)
			require.Error(t, open(t, u.String()).Ping(t.Context()), "without a certificate of the client")
		}
	}
}

func TestOpenWithPasswords(t *testing.T) {
	const password = "p@ss:/?#[]% word+"
	srv := redistest.StartWith(t, redistest.Options{User: "app", Password: password})
	works(t, open(t, srv.URL()))

	t.Setenv("SEALCACHE_TEST_PASSWORD", password)
	works(t, open(t, "redis://app@"+srv.Addr()+"?password_env=SEALCACHE_TEST_PASSWORD"))

	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte(password+"\n"), 0o600))
	fromFile := open(t, "redis://app@"+srv.Addr()+"?password_file="+url.QueryEscape(file))
	works(t, fromFile)

	// A mounted secret that changed is read again for the next connection.
	admin := srv.Client(t)
	require.NoError(t, admin.Do(t.Context(), "acl", "setuser", "app", "resetpass", ">rotated").Err())
	require.NoError(t, os.WriteFile(file, []byte("rotated\n"), 0o600))
	require.NoError(t, admin.Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err())
	require.Eventually(t, func() bool { return fromFile.Ping(t.Context()) == nil }, 2*time.Minute, 10*time.Millisecond)

	for name, u := range map[string]string{
		"wrong":   "redis://app:hunter2@" + srv.Addr(),
		"no user": "redis://:hunter2@" + srv.Addr(),
		"none":    "redis://" + srv.Addr(),
	} {
		s := open(t, u+"?max_retries=0")
		for _, err := range []error{s.Ping(t.Context()), s.Set(t.Context(), "key1", "v")} {
			require.Error(t, err, name)
			require.Regexp(t, "WRONGPASS|NOAUTH", err.Error(), name)
			require.NotContains(t, err.Error(), "hunter2", name)
			require.NotContains(t, err.Error(), "key1", name)
		}
	}

	t.Setenv("SEALCACHE_TEST_EMPTY", "")
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	for u, want := range map[string]string{
		"redis://h?password_env=SEALCACHE_TEST_EMPTY":                            "the option \"password_env\" is empty or not set",
		"redis://h?password_env=SEALCACHE_TEST_NOT_SET":                          "the option \"password_env\" is empty or not set",
		"redis+sentinel://h?master=m&sentinel_password_env=SEALCACHE_TEST_EMPTY": "the option \"sentinel_password_env\" is empty or not set",
		"redis://h?password_file=" + empty:                                       "the file of the option \"password_file\" is empty",
		"redis://h?password_file=" + empty + ".none":                             "no such file",
		"redis://h?password_file=none":                                           "read the file of the option \"password_file\": no such file",
		"redis+sentinel://h?master=m&sentinel_password_file=none":                "read the file of the option \"sentinel_password_file\": no such file",
		"rediss://h?ca_file=none":                                                "read the file of the option \"ca_file\": no such file",
		"redis://u:p@h?password_file=" + empty:                                   "more than one password",
		"redis://h?password_env=A&password_file=" + empty:                        "more than one password",
		"rediss://h?ca_file=/nil":                                                "no such file",
		"rediss://h?ca_file=" + empty:                                            "no PEM certificate",
		"redis+cluster://h?server_name=h":                                        "write \"rediss\", not \"redis\"",
		"redis+unix:///s?ca_file=" + empty:                                       "a Unix socket has no TLS",
	} {
		_, err := redisstore.Open(t.Context(), u)
		require.ErrorContains(t, err, want, u)
	}
}

// Redis asks this user for no password.
func TestOpenUserWithoutPassword(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	admin, ctx := srv.Client(t), t.Context()
	require.NoError(t, admin.Do(ctx, "acl", "setuser", "app", "reset", "on", "nopass", "~*", "+@all").Err())
	require.NoError(t, admin.Do(ctx, "acl", "setuser", "locked", "reset", "on", ">pw", "~*", "+@all").Err())
	s := open(t, "redis://app@"+srv.Addr())
	works(t, s)
	works(t, open(t, "redis://app:@"+srv.Addr()+"?protocol=2"))
	require.Contains(t, admin.ClientList(ctx).Val(), "user=app", "it is this user's permissions that count")
	require.ErrorContains(t, open(t, "redis://locked@"+srv.Addr()+"?max_retries=0").Ping(ctx), "WRONGPASS")
}

// A wrong part of a URL may be a password in the wrong place.
func TestOpenErrorsRepeatNoPartOfTheURL(t *testing.T) {
	t.Parallel()
	const secret = "Hunter2_pass"
	dir := t.TempDir()
	empty := filepath.Join(dir, secret)
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, u := range []string{
		"redis://h?password_env=" + secret,
		"redis://h?password_file=" + secret,
		"redis://h?password_file=" + dir, // a directory
		"redis://h?password_file=" + empty,
		"redis+sentinel://h?master=m&sentinel_password_env=" + secret,
		"redis+sentinel://h?master=m&sentinel_password_file=" + secret,
		"rediss://h?ca_file=" + secret,
		"rediss://h?ca_file=" + empty,
		"rediss://h?cert_file=" + secret + "&key_file=" + secret,
		"rediss://h?cert_file=" + empty + "&key_file=" + empty,
		"redis://h?" + secret + "=1",
		"redis://h?db=" + secret,
	} {
		_, err := redisstore.Open(t.Context(), u)
		require.Error(t, err, u)
		require.NotContains(t, err.Error(), secret)
		_, same := redisstore.OpenClient(t.Context(), u)
		require.EqualError(t, same, err.Error())
	}

	// A path or variable name that cannot be a password is shown.
	_, err := redisstore.Open(t.Context(), "redis://h?password_file="+filepath.Join(dir, "missing"))
	require.ErrorContains(t, err, filepath.Join(dir, "missing"))
	_, err = redisstore.Open(t.Context(), "redis://h?password_env=MISSING_PASSWORD")
	require.ErrorContains(t, err, "MISSING_PASSWORD")

	// The file is read again for each connection.
	file := filepath.Join(dir, secret+".file")
	require.NoError(t, os.WriteFile(file, []byte("pw"), 0o600))
	s := open(t, "redis://"+shared.Single.Addr()+"?max_retries=0&password_file="+url.QueryEscape(file))
	require.NoError(t, os.Remove(file))
	err = s.Ping(t.Context())
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestOpenSentinel(t *testing.T) {
	t.Parallel()
	srv := redistest.StartSentinelWith(t, redistest.SentinelOptions{Password: "data", SentinelPassword: "watch"})
	s := open(t, srv.URL())
	works(t, s)
	ctx := t.Context()
	require.NoError(t, s.Set(ctx, "k", "v", store.WithTags([]string{"t"})))
	before := srv.Master(t)
	srv.Failover(t)
	require.NotSame(t, before, srv.Master(t))
	require.Eventually(t, func() bool { return s.Set(ctx, "after", "v") == nil }, 2*time.Minute, 20*time.Millisecond)
	require.Equal(t, "v", srv.Master(t).Client(t).Get(ctx, "after").Val())
	b, err := s.GetBytes(ctx, "k")
	require.NoError(t, err)
	swapped, err := s.CompareAndSwap(ctx, "k", b, 0, []byte("w"), -1)
	require.NoError(t, err)
	require.True(t, swapped)
	require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{"t"})))
	works(t, s)

	_, err = redisstore.Open(ctx, strings.Replace(srv.URL(), "master=", "client_name=", 1))
	require.ErrorContains(t, err, "master")
}

func TestOpenCluster(t *testing.T) {
	t.Parallel()
	works(t, open(t, shared.Cluster.URL()))
	addrs := shared.Cluster.Addrs()
	works(t, open(t, "redis+cluster://"+addrs[0]))
	works(t, open(t, "redis+cluster://?addr="+addrs[1]+"&addr="+addrs[2]+"&max_redirects=5&pool_size=3"))
}

// The certificate is checked against the name under which the client reaches a node, from a URL, a sentinel or another
// node.
func TestOpenTLSBehindSentinelAndInACluster(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinelWith(t, redistest.SentinelOptions{Password: "data", SentinelPassword: "watch", TLS: true})
	cluster := redistest.StartClusterWith(t, redistest.Options{TLS: true, TLSClientAuth: true})
	for _, u := range []string{sentinel.URL(), cluster.URL()} {
		require.True(t, strings.HasPrefix(u, "rediss+"), u)
		s := open(t, u)
		works(t, s)
		for i := range 20 { // on each master
			key := "k" + strconv.Itoa(i)
			require.NoError(t, s.Set(t.Context(), key, "v"))
			_, err := s.Get(t.Context(), key)
			require.NoError(t, err)
		}
		base, query, _ := strings.Cut(u, "?")
		q, err := url.ParseQuery(query)
		require.NoError(t, err)
		q.Del("ca_file")
		q.Set("max_retries", "0")
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		require.Error(t, open(t, base+"?"+q.Encode()).Ping(ctx), "the CA is not the system's")
		q.Del("cert_file")
		q.Del("key_file")
		require.Error(t, open(t, strings.Replace(base, "rediss", "redis", 1)+"?"+q.Encode()).Ping(ctx), "in plaintext")
		cancel()
	}
}

// A service can start before its Redis.
func TestOpenDoesNotConnect(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	require.NoError(t, srv.Stop())
	s := open(t, srv.URL()+"?max_retries=0")
	require.ErrorContains(t, s.Ping(t.Context()), "connection refused")
	require.NoError(t, srv.Restart())
	require.Eventually(t, func() bool { return s.Ping(t.Context()) == nil }, 2*time.Minute, 10*time.Millisecond)

	for _, u := range []string{"redis+sentinel://127.0.0.1:1?master=m&max_retries=0", "redis+cluster://127.0.0.1:1?max_retries=0"} {
		s := open(t, u)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		require.Error(t, s.Ping(ctx))
		cancel()
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the cause")
	cancel(cause)
	_, err := redisstore.Open(ctx, srv.URL())
	require.ErrorIs(t, err, cause)
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for u, want := range map[string]string{
		"":                   "the URL is empty (is the environment variable set?)",
		"localhost:6379":     "is not a URL such as redis://localhost:6379/0",
		"http://localhost":   "redis+cluster",
		"redis://h?hunter=1": "unknown option \"hunter\" in the URL",
		"redis://h?tls_insecure_skip_verify=true": "unknown option",
		"redis://h?db=1&db=2":                     "more than once",
		"redis://h?db=":                           "the option \"db\" in the URL has no value",
		"redis://h/1?db=1":                        "the URL selects a database twice",
		"redis://h/0?db=3":                        "the URL selects a database twice",
		"redis://h/x":                             "not a number",
		"redis://h/-1":                            "not a number",
		"redis://h/01":                            "not a number",
		"redis://h/1/2":                           "not a number",
		"redis://h?pool_size=0":                   "pool_size",
		"redis://h?pool_size=99999999999":         "pool_size",
		"redis://h?expiration=10":                 "10m",
		"redis://h?expiration=-1s":                "positive duration",
		"redis://h?protocol=4":                    "must be \"2\" or \"3\"",
		"redis://h:0":                             "port",
		"redis://h:65536":                         "port",
		"redis://h:":                              "port",
		"redis://a,b":                             "several hosts",
		"redis://a b":                             "percent-encode",
		"redis://[::1":                            "brackets",
		"redis://[127.0.0.1]":                     "brackets",
		"redis://::1":                             "brackets",
		"redis://u:p@h#f":                         "percent-encode",
		"redis://u:%zz@h":                         "percent-encoded",
		"redis://h?db=%zz":                        "percent-encoded",
		"redis://h?ca_file=/x":                    "rediss",
		"redis://h?master=m":                      "redis+sentinel",
		"redis://h?max_redirects=2":               "redis+cluster",
		"rediss://h?cert_file=/x":                 "given together",
		"redis+unix://host/x":                     "has a host",
		"redis+unix://":                           "path",
		"redis+sentinel://h":                      "\"master\" is missing",
		"redis+sentinel://?master=m":              "the URL has no host",
		"redis+cluster://":                        "the URL has no host",
		"redis+cluster://a,,b":                    "list of hosts in the URL has an empty element",
		"redis+cluster://h/1":                     "database 0",
	} {
		s, err := redisstore.Open(t.Context(), u)
		require.ErrorContains(t, err, want, u)
		require.Nil(t, s)
		require.True(t, strings.HasPrefix(err.Error(), "redisstore: open: "), u)
		client, same := redisstore.OpenClient(t.Context(), u)
		require.EqualError(t, same, err.Error(), u)
		require.Nil(t, client)
	}
}

// OpenClient returns the client that the store of the same URL uses.
func TestOpenClient(t *testing.T) {
	t.Parallel()
	srv := redistest.StartWith(t, redistest.Options{TLS: true, TLSClientAuth: true, User: "app", Password: "p@ss:/?#[]% word"})
	sentinel := redistest.StartSentinelWith(t, redistest.SentinelOptions{Password: "data", SentinelPassword: "watch"})
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("p@ss:/?#[]% word\n"), 0o600))
	fromFile, err := url.Parse(srv.URL())
	require.NoError(t, err)
	fromFile.User = url.User("app")
	for _, u := range []string{
		srv.URL(),
		fromFile.String() + "&password_file=" + url.QueryEscape(file),
		sentinel.URL(),
		shared.Cluster.URL(),
		"redis+unix://" + shared.Single.Socket() + "?db=160",
		"redis://" + shared.Single.Addr() + "/161?client_name=tool&protocol=2&pool_size=1&expiration=1h&tags_ttl=24h",
	} {
		s := open(t, u)
		require.NoError(t, s.Set(t.Context(), "client:k", u))
		client, err := redisstore.OpenClient(t.Context(), u)
		require.NoError(t, err)
		require.Equal(t, u, client.Get(t.Context(), "client:k").Val())
		_, cluster := client.(*redis.ClusterClient)
		require.Equal(t, strings.Contains(u, "+cluster"), cluster)
		if strings.Contains(u, "client_name") {
			require.Equal(t, "tool", client.ClientGetName(t.Context()).Val())
			require.NoError(t, client.Set(t.Context(), "client:own", "v", 0).Err())
			require.Equal(t, time.Duration(-1), client.TTL(t.Context(), "client:own").Val(), "expiration is the store's")
		}
		require.NoError(t, client.Close())
		require.NoError(t, s.Ping(t.Context()), "it is not the store's")
	}

	down := redistest.Start(t)
	require.NoError(t, down.Stop())
	client, err := redisstore.OpenClient(t.Context(), down.URL()+"?max_retries=0")
	require.NoError(t, err, "it does not connect")
	require.ErrorContains(t, client.Ping(t.Context()).Err(), "connection refused")
	require.NoError(t, client.Close())

	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the cause")
	cancel(cause)
	client, err = redisstore.OpenClient(ctx, srv.URL())
	require.ErrorIs(t, err, cause)
	require.Nil(t, client)
}
