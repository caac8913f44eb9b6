package rediserr_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/rediserr"
)

type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

const inScript = "ERR Error running script (call to f_0a1b): @user_script:3: @user_script: 3: "

func TestNotOffered(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		// Redis, renamed commands, KeyDB, Valkey, Azure, ElastiCache, Memorystore
		"ERR unknown command 'info', with args beginning with: ":                            true,
		"ERR unknown command `info`":                                                        true,
		"ERR Unknown subcommand or wrong number of arguments for 'USAGE'. Try MEMORY HELP.": true,
		"ERR unknown subcommand 'NO-TOUCH'. Try CLIENT HELP.":                               true,
		"NOPERM this user has no permissions to run the 'info' command":                     true,
		"NOPERM User app has no permissions to run the 'memory|usage' command":              true,
		"ERR DEBUG command not allowed. If the enable-debug-command option is set":          true,
		"ERR This Redis command is not allowed from script":                                 true,
		"ERR SELECT is not allowed in cluster mode":                                         true,
		"ERR This instance has cluster support disabled":                                    true,
		inScript + "Unknown Redis command called from script":                               true,
		inScript + "The user executing the script can't run this command or subcommand":     true,
		// Envoy, predixy, Codis, Pika, Dragonfly, Upstash, Alibaba, Redis Enterprise, miniredis, SSDB
		"unsupported command 'hello'":                       true,
		"ERR unsupported command":                           true,
		"ERR forbid":                                        true,
		"ERR handle request, command 'INFO' is not allowed": true,
		"ERR unknown command \"MULTI\"":                     true,
		"ERR Command is not available: 'CONFIG'. See https://upstash.com/docs": true,
		"ERR command 'CONFIG' not support for normal user":                     true,
		"ERR command is not allowed":                                           true,
		"section (server) is not supported":                                    true,
		"client_error Unknown Command: multi":                                  true,
		"ERR command not implemented":                                          true,
		"ERR unsupport command":                                                true,

		"NOPERM this user has no permissions to access one of the keys used as arguments":                                   false,
		"NOPERM User app has no permissions to access the 'secret' key":                                                     false,
		"NOPERM No permissions to access a key":                                                                             false,
		inScript + "The user executing the script can't access at least one of the keys mentioned in the command arguments": false,
		"OOM command not allowed when used memory > 'maxmemory'.":                                                           false,
		inScript + "-OOM command not allowed when used memory > 'maxmemory'.":                                               false,
		"MISCONF Commands that may modify the data set are disabled, because":                                               false,
		"WRONGPASS invalid username-password pair or user is disabled.":                                                     false,
		"NOAUTH Authentication required.":                                                                                   false,
		"READONLY You can't write against a read only replica.":                                                             false,
		"ERR max number of clients reached":                                                                                 false,
		"WRONGTYPE Operation against a key holding the wrong kind of value":                                                 false,
		"UNBLOCKED client unblocked via CLIENT UNBLOCK":                                                                     false,
		"ERR permission denied": true,
		// The command stands where a code would.
		"INFO is disabled":                 true,
		"MULTI not supported":              true,
		"EXEC is not allowed":              true,
		"GETRANGE unsupported":             true,
		"OBJECT is disabled":               true,
		"CLIENT subcommand not supported":  true,
		"CLUSTER is disabled":              true,
		"MEMORY is not available":          true,
		"SCRIPT not allowed":               true,
		"SREM not implemented":             true,
		"UNLINK not supported":             true,
		inScript + "-MEMORY not supported": true,
		// Texts that may be temporary.
		"ERR quota exceeded, requests blocked until 12:00": false,
		"ERR access denied":      false,
		"ERR INFO is restricted": false,
		"ERR 42":                 false,
		"redis: nil":             false,
	} {
		require.Equal(t, want, rediserr.NotOffered(fmt.Errorf("wrapped: %w", reply(text))), text)
		require.False(t, rediserr.NotOffered(errors.New(text)), "not said by the server")
	}
	require.False(t, rediserr.NotOffered(nil))
	require.False(t, rediserr.NotOffered(io.EOF))
}

func TestCode(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"WRONGTYPE Operation against a key":                  "WRONGTYPE",
		"ERR syntax error":                                   "ERR",
		"no upstream host":                                   "ERR",
		"INFO is disabled":                                   "ERR",
		"MULTI 42":                                           "ERR",
		inScript + "-READONLY You can't write":               "READONLY",
		inScript + "WRONGTYPE Operation against a key":       "WRONGTYPE",
		"WRONGTYPE Operation script: 0a, on @user_script:3.": "WRONGTYPE",
		"redis: nil":                                         "",
		"redis: transaction failed":                          "",
	} {
		require.Equal(t, want, rediserr.Code(reply(text)), text)
		require.Equal(t, want != "", rediserr.IsReply(reply(text)))
	}
	require.Empty(t, rediserr.Code(nil))
	require.Empty(t, rediserr.Code(context.Canceled))
	require.Empty(t, rediserr.Code(redis.Nil))
	require.Empty(t, rediserr.Code(redis.TxFailedErr))
}

// Each reply is refused for good or temporary, and never both.
func TestRefusals(t *testing.T) {
	t.Parallel()
	type refusal struct{ forNow, temporary, forGood, denied, unavailable bool }
	for text, want := range map[string]refusal{
		"READONLY You can't write against a read only replica.": {forNow: true, temporary: true},
		inScript + "-READONLY You can't write against a read":   {forNow: true, temporary: true},
		"LOADING Redis is loading the dataset in memory":        {forNow: true, temporary: true},
		"CLUSTERDOWN The cluster is down":                       {forNow: true, temporary: true},
		"TRYAGAIN Multiple keys request during rehashing":       {forNow: true, temporary: true},
		"MASTERDOWN Link with MASTER is down":                   {forNow: true, temporary: true},
		"NOREPLICAS Not enough good replicas to write.":         {forNow: true, temporary: true},
		"BUSY Redis is busy running a script.":                  {temporary: true},
		"MOVED 3999 127.0.0.1:6381":                             {temporary: true},
		"ASK 3999 127.0.0.1:6381":                               {temporary: true},
		"OOM command not allowed":                               {temporary: true},
		"MISCONF Redis is configured to save":                   {temporary: true},
		"UNBLOCKED client unblocked":                            {temporary: true},
		"ERR max number of clients reached":                     {temporary: true},

		"NOPERM this user has no permissions to run the 'info' command":                   {forGood: true, denied: true, unavailable: true},
		"NOPERM this user has no permissions to access one of the keys used as arguments": {forGood: true, denied: true},
		"ERR unknown command 'info', with args beginning with: ":                          {forGood: true, denied: true, unavailable: true},
		"unsupported command 'multi'":                                                     {forGood: true, denied: true, unavailable: true},
		"ERR unknown command 'getrange', with args beginning with: 'page:timeout' '0' ":   {forGood: true, denied: true, unavailable: true},
		"ERR unknown command 'object', with args beginning with: 'encoding' 'upstream:a'": {forGood: true, denied: true, unavailable: true},
		"INFO is disabled":                                            {forGood: true, denied: true, unavailable: true},
		"MULTI is restricted":                                         {forGood: true, unavailable: true},
		"ERR command 'INFO' is blocked":                               {forGood: true, unavailable: true},
		"ERR quota exceeded, requests blocked until 12:00":            {forGood: true, unavailable: true},
		"ERR max requests limit exceeded":                             {forGood: true, unavailable: true},
		"no upstream host":                                            {forGood: true},
		"ERR upstream is not available":                               {forGood: true},
		"ERR request timed out":                                       {forGood: true},
		"INPROG Failover already in progress":                         {forGood: true},
		"REDIRECT 127.0.0.1:6380":                                     {forGood: true},
		"IOERR error or timeout reading to target instance":           {forGood: true},
		"EXECABORT Transaction discarded because of previous errors.": {forGood: true},
		"ERR syntax error":                                            {forGood: true, unavailable: true},
		"ERR 42":                                                      {forGood: true, unavailable: true},
		"NOSUCH thing":                                                {forGood: true},
		inScript + "The user executing the script can't access at least one of the keys": {forGood: true},
		"WRONGTYPE Operation against a key":                                              {forGood: true},
		inScript + "WRONGTYPE Operation against a key":                                   {forGood: true},
		"NOAUTH Authentication required.":                                                {forGood: true},
		"WRONGPASS invalid username-password pair or user is disabled.":                  {forGood: true},
		"ERR invalid password":                                                           {forGood: true},
		"DENIED Redis is running in protected mode":                                      {forGood: true},

		"redis: nil": {},
	} {
		err := fmt.Errorf("wrapped: %w", reply(text))
		require.Equal(t, want, refusal{
			rediserr.RefusedForNow(err), rediserr.Temporary(err), rediserr.RefusedForGood(err), rediserr.Denied(err), rediserr.Unavailable(err),
		}, text)
	}
	for _, err := range []error{nil, io.EOF, context.Canceled, redis.Nil, redis.TxFailedErr, errors.New("ERR unknown command, not said by the server")} {
		require.False(t, rediserr.RefusedForNow(err) || rediserr.Temporary(err) || rediserr.RefusedForGood(err) || rediserr.Denied(err) || rediserr.Unavailable(err), "%v", err)
	}
}

func TestNoNumber(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"ERR user_script:9: attempt to perform arithmetic on local 'bytes' (a nil value) script: 0a, on @user_script:9.": true,
		inScript + "attempt to perform arithmetic on local 'bytes' (a boolean value)":                                    true,
		"ERR user_script:9: attempt to perform arithmetic on local 'other' (a nil value)":                                false,
		"ERR user_script:9: attempt to concatenate local 'bytes' (a nil value)":                                          false,
		"ERR syntax error": false,
	} {
		require.Equal(t, want, rediserr.NoNumber(fmt.Errorf("wrapped: %w", reply(text)), "bytes"), text)
		require.False(t, rediserr.NoNumber(errors.New(text), "bytes"), "not said by the server")
	}
	require.False(t, rediserr.NoNumber(nil, "bytes"))
}
