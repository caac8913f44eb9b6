package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// The flags that bound the load reach the run and the audit.
func TestLoadFlags(t *testing.T) {
	t.Parallel()
	parse := func(c command, args ...string) *flags {
		t.Helper()
		cmd := &cobra.Command{Use: "x"}
		f := &flags{FlagSet: cmd.Flags(), cmd: cmd, fromEnv: map[string]string{}}
		c.declare(f)
		require.NoError(t, f.Parse(args))
		return f
	}
	load := []string{"--all", "--rate", "5", "--bytes-rate", "6", "--max-latency", "7ms"}
	m := &moveCommand{operation: migrate.Seal}
	f := parse(m, append(load, "--max-lag", "8", "--allow-eviction")...)
	config, err := m.config(new(program), f)
	require.NoError(t, err)
	require.Equal(t, 5.0, config.Rate)
	require.Equal(t, 6.0, config.BytesPerSecond)
	require.Equal(t, 7*time.Millisecond, config.MaxLatency)
	require.EqualValues(t, 8, config.MaxLagBytes)
	require.True(t, config.AllowEviction)
	a := new(auditCommand)
	f = parse(a, load...)
	audited, err := a.config(new(program), f)
	require.NoError(t, err)
	require.Equal(t, 5.0, audited.Rate)
	require.Equal(t, 6.0, audited.BytesPerSecond)
	require.Equal(t, 7*time.Millisecond, audited.MaxLatency)
	for _, wrong := range [][]string{{"--all", "--bytes-rate", "-1"}, {"--all", "--max-latency", "-1ms"}, {"--all", "--max-lag", "-1"}} {
		m := &moveCommand{operation: migrate.Seal}
		f := parse(m, wrong...)
		_, err := m.config(new(program), f)
		require.Equal(t, exitUsage, statusOf(err), wrong)
	}
}

// A run ends before Redis evicts for it. --allow-eviction goes on.
func TestAllowEviction(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := redis.NewClient(server.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	_, kek := kekFile(t)
	require.NoError(t, rdb.Set(t.Context(), "elsewhere", strings.Repeat("x", 64<<20), 0).Err()) // two percent are more than the clients need
	for i := range 20 {
		require.NoError(t, rdb.Set(t.Context(), fmt.Sprint("shop:", i), "value", time.Hour).Err())
	}
	_, rest, _ := strings.Cut(rdb.Info(t.Context(), "memory").Val(), "used_memory:")
	used, err := strconv.ParseInt(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]), 10, 64)
	require.NoError(t, err)
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory-policy", "volatile-lru").Err())
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", fmt.Sprint(used*102/100)).Err())
	args := []string{"migrate", "--redis", server.URL(), "--kek", kek, "--namespace", "shop", "--allow-unproven", "--progress", "none"}
	status, _, log := sealcache(t, args...)
	require.Equal(t, exitFailed, status, log)
	require.Contains(t, log, "to continue without more memory, give --allow-eviction")
	args = append(args, "--allow-eviction")
	status, out, log := sealcache(t, args...)
	require.Equal(t, exitDone, status, "%s%s", out, log)

	// Redis refuses all writes. The error does not advise the flag that is given.
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
	require.NoError(t, rdb.ConfigSet(t.Context(), "maxmemory", fmt.Sprint(used/2)).Err())
	status, _, log = sealcache(t, args...)
	require.Equal(t, exitFailed, status, log)
	require.Contains(t, log, "raise maxmemory")
	require.NotContains(t, log, "--allow-eviction")
}

// A server that cannot be migrated is named in one line, and nothing is written.
func TestUnsuitableServers(t *testing.T) {
	t.Parallel()
	_, kek := kekFile(t)
	master := redistest.Start(t)
	host, port, _ := strings.Cut(master.Addr(), ":")
	for name, c := range map[string]struct {
		server *redistest.Server
		status int
		says   string
	}{
		"no EVAL":   {redistest.Start(t, "--rename-command", "EVAL", "", "--rename-command", "EVALSHA", ""), exitFailed, "the run cannot change entries, because Redis refuses EVAL, EVALSHA or SET"},
		"no INFO":   {redistest.StartWith(t, redistest.Options{User: "mover", Password: "secret", Rules: "~* +@all -info"}), exitFailed, "the server refused INFO"},
		"a replica": {redistest.Start(t, "--replicaof", host+" "+port), exitUsage, "the server is a replica (connect to its master or a Sentinel)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := redis.NewClient(c.server.ClientOptions())
			t.Cleanup(func() { _ = rdb.Close() })
			_ = rdb.Set(t.Context(), "shop:1", "value", 0).Err() // refused by a replica
			before := rdb.DBSize(t.Context()).Val()
			for _, operation := range []string{"migrate", "reseal", "unseal"} {
				status, out, log := sealcache(t, operation, "--redis", c.server.URL(), "--kek", kek, "--namespace", "shop", "--allow-unproven", "--progress", "none")
				require.Equal(t, c.status, status, log)
				require.Empty(t, out)
				require.Contains(t, log, c.says)
				require.Equal(t, 1, strings.Count(log, "\n"), log)
				require.NotContains(t, log, "rediswalk")
				require.NotContains(t, log, "secret")
			}
			require.Equal(t, before, rdb.DBSize(t.Context()).Val())
		})
	}
}
