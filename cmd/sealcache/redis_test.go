package main

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// Every kind of URL that the application's store takes leads to the same place here: what the store writes, the client
// reads.
func TestOpenRedis(t *testing.T) {
	server := redistest.Start(t)
	secured := redistest.StartWith(t, redistest.Options{TLS: true, TLSClientAuth: true, User: "app", Password: "p@ss/word"})
	cluster := redistest.StartCluster(t)
	sentinel := redistest.StartSentinel(t)
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("p@ss/word\n"), 0o600))
	t.Setenv("TEST_REDIS_PASSWORD", "p@ss/word")
	withoutPassword := strings.Replace(secured.URL(), "p%40ss%2Fword@", "@", 1)
	require.NotEqual(t, secured.URL(), withoutPassword)
	for name, url := range map[string]string{
		"one":           server.URL(),
		"database":      "redis://" + server.Addr() + "/3",
		"socket":        "redis+unix://" + server.Socket() + "?db=4",
		"TLS":           secured.URL(),
		"password file": withoutPassword + "&password_file=" + file,
		"password env":  withoutPassword + "&password_env=TEST_REDIS_PASSWORD",
		"cluster":       cluster.URL(),
		"sentinel":      sentinel.URL(),
	} {
		s, err := redisstore.Open(t.Context(), url)
		require.NoError(t, err, name)
		require.NoError(t, s.Set(t.Context(), name, name), name)
		require.NoError(t, s.Close())
		client, err := (&redisFlag{"redis", url}).open(t.Context())
		require.NoError(t, err, name)
		require.Equal(t, name, client.Get(t.Context(), name).Val())
		if _, ok := client.(*redis.ClusterClient); name == "cluster" {
			require.True(t, ok)
		}
		require.NoError(t, client.Close())
	}
	for _, url := range []string{"", "memory://", "redis://a:b@c:d", server.URL() + "?nonsense=1"} {
		_, err := (&redisFlag{"redis", url}).open(t.Context())
		require.Equal(t, exitUsage, statusOf(err), url)
	}
}

// A refused login and a missing database are named, because the operator corrects them in the URL.
func TestOpenRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	secured := redistest.StartWith(t, redistest.Options{User: "app", Password: "secret"})
	sentinel := redistest.StartSentinel(t).Addr()
	const login, database = "Redis refuses the user or the password (check --redis)", "the Redis server does not have this database (check the number in --redis)"
	for url, want := range map[string]string{
		"redis://app:wrong@" + secured.Addr():          login,
		"redis://" + secured.Addr():                    login,
		"redis://" + server.Addr() + "/99":             database,
		"redis://app:secret@" + secured.Addr() + "/99": database,

		"redis+cluster://" + server.Addr():                "the Redis server is a single node and not a Cluster (write redis:// in --redis)",
		"redis+sentinel://" + server.Addr() + "?master=m": "the Redis server is not a Sentinel (write redis:// in --redis, or the address of a Sentinel)",
		"redis+sentinel://" + sentinel + "?master=other":  "the Sentinels know no master of this name (check the option master in --redis)",
	} {
		_, err := (&redisFlag{"redis", url}).open(t.Context())
		require.EqualError(t, err, want, url)
		require.Equal(t, exitUsage, statusOf(err), url)
	}
}

// An error says whether the server answered, and what. An error that no retry mends is a fault of the configuration.
func TestOpenNotServed(t *testing.T) {
	t.Parallel()
	const protected = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. In this mode"
	for answer, want := range map[string]struct {
		text  string
		usage bool
	}{
		"-LOADING Redis is loading the dataset in memory":                                   {text: "redis cannot serve the request now: LOADING Redis is loading the dataset in memory (try again later)"},
		"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": {text: "redis cannot serve the request now: MASTERDOWN Link with MASTER is down and replica-serve-stale-data... (try again later)"},
		"-ERR max number of clients reached":                                                {text: "redis cannot serve the request now: ERR max number of clients reached (try again later)"},
		"-ERR no upstream":                                                                  {text: "redis refused the request: ERR no upstream (check the server)"},
		protected:                                                                           {"redis refused the connection: DENIED, the server is in protected mode (set a password in Redis)", true},
		"-NOPERM User app has no permissions to run the 'ping' command":                     {"redis refused the request: NOPERM User app has no permissions to run the 'ping' command (check the ACL of the Redis user)", true},
		"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n":            {"the server does not speak the Redis protocol (check --redis)", true},
	} {
		_, err := (&redisFlag{"redis", "redis://" + answering(t, answer) + "?max_retries=0"}).open(t.Context())
		require.EqualError(t, err, want.text)
		require.Equal(t, want.usage, statusOf(err) == exitUsage, want.text)
	}
}

// answering starts a server that gives every command, and every request that is none, the same answer.
func answering(t *testing.T, answer string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for b := make([]byte, 4096); err == nil; {
					var n int
					if n, err = c.Read(b); err == nil {
						_, err = io.WriteString(c, strings.Repeat(answer+"\r\n", max(1, bytes.Count(b[:n], []byte("*")))))
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// A server closes the connection of a client too many.
func TestOpenTooManyClients(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	require.NoError(t, client.ConfigSet(t.Context(), "maxclients", "1").Err())
	_, err := (&redisFlag{"redis", server.URL()}).open(t.Context())
	require.EqualError(t, err, "redis cannot serve the request now: ERR max number of clients reached (try again later)")
}

// A port without TLS does not answer the handshake, or answers it without TLS.
func TestOpenWithoutTLS(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for _, addr := range []string{server.Addr(), answering(t, "-ERR Protocol error")} {
		_, err := (&redisFlag{"redis", "rediss://" + addr + "?dial_timeout=200ms&max_retries=0"}).open(t.Context())
		require.ErrorContains(t, err, "redis does not answer (check that the port speaks TLS): ")
		require.Equal(t, exitFailed, statusOf(err))
	}
}
