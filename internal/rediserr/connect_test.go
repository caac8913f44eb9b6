package rediserr_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/rediserr"
)

func TestFirstCommand(t *testing.T) {
	t.Parallel()
	type verdict struct{ login, database, cluster, protected, other bool }
	for text, want := range map[string]verdict{
		"NOAUTH Authentication required.":                                                 {login: true},
		"WRONGPASS invalid username-password pair or user is disabled.":                   {login: true},
		"ERR AUTH <password> called without any password configured for the default user": {login: true},
		"ERR invalid password":                           {login: true},
		"ERR Client sent AUTH, but no password is set":   {login: true},
		"ERR AUTH failed":                                {login: true},
		"ERR NOAUTH Authentication required.":            {login: true},
		"ERR WRONGPASS invalid username-password pair":   {login: true},
		"unauthenticated":                                {login: true},
		"ERR DB index is out of range":                   {database: true},
		"ERR SELECT is not allowed in cluster mode":      {database: true},
		"ERR This instance has cluster support disabled": {cluster: true},
		"ERR Cluster is disabled":                        {cluster: true},
		"DENIED Redis is running in protected mode and no password is set for the default user.": {protected: true},
		"redis: can't parse \"HTTP/1.1 400\"":                                                    {other: true},
		"redis: invalid reply: \"HTTP\"":                                                         {other: true},
		"ERR 42":                                                                                 {},
		"NOPERM User app has no permissions to run the 'ping' command":                           {},
		"dial tcp: lookup noauth: no such host":                                                  {},
		"dial tcp 127.0.0.1:1: connect: connection refused":                                      {},
	} {
		err := fmt.Errorf("wrapped: %w", reply(text))
		require.Equal(t, want, verdict{
			rediserr.LoginRefused(err), rediserr.DatabaseRefused(err), rediserr.NoCluster(err), rediserr.Protected(err), rediserr.NotRedis(err),
		}, text)
		// Some errors of the client hold the reply only as text. The other replies must come from the server.
		only := errors.New(text)
		require.Equal(t, want.login, rediserr.LoginRefused(only), text)
		require.Equal(t, want.database, rediserr.DatabaseRefused(only), text)
		require.False(t, rediserr.NoCluster(only) || rediserr.Protected(only), text)
	}
	for _, quoted := range []string{"page:/unauthenticated", "NOAUTH x", "WRONGPASS x", "auth failed", "invalid password"} {
		err := reply("ERR unknown command 'getrange', with args beginning with: '" + quoted + "'")
		require.False(t, rediserr.LoginRefused(err), quoted)
		require.True(t, rediserr.NotOffered(err) && rediserr.Unavailable(err), quoted)
	}
	require.True(t, rediserr.InvalidExpire(reply("ERR invalid expire time in 'set' command")))
	require.False(t, rediserr.InvalidExpire(reply("ERR syntax error")))
	for _, f := range []func(error) bool{
		rediserr.LoginRefused, rediserr.DatabaseRefused, rediserr.NoCluster, rediserr.Protected, rediserr.NotRedis, rediserr.InvalidExpire,
	} {
		require.False(t, f(nil))
	}
}
