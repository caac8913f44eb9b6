package rediscmd_test

import (
	"path"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/redistest"
)

// FuzzPattern compares the escaping with path.Match, whose patterns are those of Redis except for '/' and broken UTF-8.
func FuzzPattern(f *testing.F) {
	for _, s := range []string{"", "plain", "*", "?", "[a]", `\`, `a\*b`, "[", "]", "[^a]", "[!a]"} {
		f.Add(s, "x")
	}
	f.Fuzz(func(t *testing.T, prefix, rest string) {
		pattern := rediscmd.Pattern(prefix)
		// Only escaped or ordinary bytes stand before the star.
		var back strings.Builder
		for i := 0; i < len(pattern)-1; i++ {
			if pattern[i] == '\\' {
				i++
			} else if strings.IndexByte(`*?[]`, pattern[i]) >= 0 {
				t.Fatalf("%q has a special byte that is not escaped", pattern)
			}
			back.WriteByte(pattern[i])
		}
		if back.String() != prefix {
			t.Fatalf("%q is read as %q", pattern, back.String())
		}
		name := prefix + rest
		if strings.Contains(name, "/") || strings.ToValidUTF8(name, "") != name {
			return
		}
		if ok, err := path.Match(pattern, name); err != nil || !ok {
			t.Fatalf("%q does not match %q: %v", pattern, name, err)
		}
	})
}

func TestInfoField(t *testing.T) {
	t.Parallel()
	const info = "# Server\r\nredis_version:7.0.15\r\nrun_id:0a1b\r\nexecutable:/x/run_id:9\r\n\r\n# Memory\r\nmaxmemory:0\r\n"
	for name, want := range map[string]string{"redis_version": "7.0.15", "run_id": "0a1b", "maxmemory": "0", "role": "", "": ""} {
		require.Equal(t, want, rediscmd.InfoField(info, name), name)
	}
}

func TestClusterNode(t *testing.T) {
	t.Parallel()
	const state, refusal = "+cluster_state:ok", "-ERR This instance has cluster support disabled"
	clients := make(map[string]*redis.Client)
	for _, reply := range []string{state, refusal, "+OK"} {
		clients[reply] = redis.NewClient(&redis.Options{Addr: redistest.Answering(t, func(command string) string {
			if command == "cluster" {
				return reply
			}
			return "-ERR unknown command"
		})})
		t.Cleanup(func() { _ = clients[reply].Close() })
	}
	for _, c := range []struct {
		info, reply string
		want        bool
	}{
		{"redis_version:7.0.15\r\nredis_mode:cluster\r\n", refusal, true},
		{"redis_version:7.0.15\r\nredis_mode:standalone\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n", state, false},
		{"redis_version:7.2.4\r\nserver_name:valkey\r\nserver_mode:cluster\r\nrun_id:0a\r\n", refusal, true},
		{"redis_version:7.2.4\r\nserver_name:valkey\r\nserver_mode:standalone\r\ncluster_enabled:0\r\n", state, false},
		{"# Cluster\r\ncluster_enabled:1\r\n", refusal, true},
		{"redis_version:6.0.5\r\nrole:master\r\n", state, true},
		{"redis_version:6.0.5\r\nrole:master\r\n", refusal, false},
		{"", state, true},
		{"", refusal, false},
		{"", "+OK", false},
	} {
		require.Equal(t, c.want, rediscmd.ClusterNode(t.Context(), clients[c.reply], c.info), c)
	}
}

// A misspelt type is refused. The types of Redis, of modules and of other servers are not.
func TestCheckType(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"hash", "list", "set", "zset", "stream", "ReJSON-RL", "MBbloom--", "vectorset", "graphdata", "bitmap", "keydb-cron"} {
		require.NoError(t, rediscmd.CheckType(name))
	}
	for _, name := range []string{"", "string", "none", "HyperLogLog", "hsah", "Hash", "lists", "json", strings.Repeat("x", 1000)} {
		err := rediscmd.CheckType(name)
		require.Error(t, err, name)
		require.Less(t, len(err.Error()), 130)
	}
}
