package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

// A reseal notices that a key is promoted during the run: the values that it resealed before are under the earlier key.
func TestPromoteDuringReseal(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	rdb := redis.NewClient(server.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	dir := t.TempDir()
	secret, file := filepath.Join(dir, "passphrase"), filepath.Join(dir, "keyset.json")
	require.NoError(t, os.WriteFile(secret, []byte("correct-horse-battery"), 0o600))
	keys := []string{"--kek", "passphrase:file:" + secret, "--keyset", file}
	do := func(want int, name string, args ...string) {
		t.Helper()
		status, out, log := sealcache(t, append([]string{name}, args...)...)
		require.Equal(t, want, status, "%s%s", out, log)
	}
	with := func(args ...string) []string { return append(args, keys...) }
	at := func(args ...string) []string {
		return append(with("--redis", server.URL(), "--namespace", "shop", "--progress", "none"), args...)
	}
	change := func(command string, id ...string) {
		t.Helper()
		status, out, log := sealcache(t, append(with("keys", command), id...)...)
		require.Equal(t, exitDone, status, "%s%s", out, log)
	}
	status, out, log := sealcache(t, "keys", "create", "--kek", keys[1], "--out", file)
	require.Equal(t, exitDone, status, "%s%s", out, log)
	const entries = 3000
	for i := range entries {
		require.NoError(t, rdb.Set(ctx, fmt.Sprint("shop:", i), "value", 0).Err())
	}
	do(exitDone, "migrate", at("--allow-unproven")...)
	change("add")
	change("add")
	all := ids(t, file)
	change("promote", all[1])

	begun, control := sets(t, rdb), filepath.Join(dir, "control")
	type result struct {
		status   int
		out, log string
	}
	done := make(chan result, 1)
	go func() {
		status, out, log := sealcache(t, append([]string{"reseal"}, at("--rate", "30", "--proof", "1", "--control", control)...)...)
		done <- result{status, out, log}
	}()
	require.Eventually(t, func() bool { return sets(t, rdb) > begun+20 }, 2*time.Minute, 5*time.Millisecond)
	change("promote", all[2])
	// The run reads the keyset again when its file changes. It is fast from here on.
	require.Eventually(t, func() bool { return sealedUnder(t, rdb, all[2]) }, 2*time.Minute, 50*time.Millisecond)
	require.NoError(t, os.WriteFile(control, []byte("rate 1000000\n"), 0o600))
	r := <-done
	require.Equal(t, exitLeft, r.status, "%s%s", r.out, r.log)
	require.Contains(t, r.out, "PRIMARY KEY CHANGED")
	do(exitDone, "reseal", at("--proof", "1")...)
}

// sealedUnder reports whether an entry is sealed under a data key that a key has wrapped: FORMAT.md, "Envelope".
func sealedUnder(t *testing.T, rdb *redis.Client, key string) bool {
	t.Helper()
	id, err := strconv.ParseUint(key, 10, 32)
	require.NoError(t, err)
	start := binary.BigEndian.AppendUint32([]byte{1}, uint32(id)) // of the wrapped data key, which Tink makes
	names, err := rdb.Keys(t.Context(), "shop:*").Result()
	require.NoError(t, err)
	values, err := rdb.MGet(t.Context(), names...).Result()
	require.NoError(t, err)
	return slices.ContainsFunc(values, func(v any) bool {
		text, ok := v.(string)
		return ok && strings.Contains(text, string(start))
	})
}

// sets counts calls of SET, those of scripts included.
func sets(t *testing.T, rdb *redis.Client) int {
	t.Helper()
	var calls int
	for _, line := range bytes.Split([]byte(rdb.Info(t.Context(), "commandstats").Val()), []byte("\r\n")) {
		if rest, ok := bytes.CutPrefix(line, []byte("cmdstat_set:calls=")); ok {
			_, _ = fmt.Sscanf(string(rest), "%d,", &calls)
		}
	}
	return calls
}
