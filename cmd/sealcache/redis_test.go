package main

import (
	"errors"
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
		client, err := (&redisFlag{url}).open(t.Context())
		require.NoError(t, err, name)
		require.Equal(t, name, client.Get(t.Context(), name).Val())
		if _, ok := client.(*redis.ClusterClient); name == "cluster" {
			require.True(t, ok)
		}
		require.NoError(t, client.Close())
	}
	for _, url := range []string{"", "memory://", "redis://a:b@c:d", server.URL() + "?nonsense=1"} {
		_, err := (&redisFlag{url}).open(t.Context())
		var u *configError
		require.ErrorAs(t, err, &u, url)
	}
}

// A refused login and a missing database are named, because the operator corrects them in the URL.
func TestOpenRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	secured := redistest.StartWith(t, redistest.Options{User: "app", Password: "secret"})
	const login, database = "Redis refuses the user or the password (check the URL)", "the Redis server does not have this database (check the number in the URL)"
	for url, want := range map[string]string{
		"redis://app:wrong@" + secured.Addr():          login,
		"redis://" + secured.Addr():                    login,
		"redis://" + server.Addr() + "/99":             database,
		"redis://app:secret@" + secured.Addr() + "/99": database,
	} {
		_, err := (&redisFlag{url}).open(t.Context())
		require.EqualError(t, err, want, url)
		var u *configError
		require.ErrorAs(t, err, &u, url)
	}
	require.True(t, databaseRefused(errors.New("ERR SELECT is not allowed in cluster mode")))
	require.True(t, loginRefused(errors.New("ERR AUTH <password> called without any password configured for the default user")))
	require.False(t, loginRefused(errors.New("dial tcp: connection refused")))
}
