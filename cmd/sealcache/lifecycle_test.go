package main

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// The commands work on a whole Cluster, and through a Sentinel. Values, expiries and tags stay.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	t.Run("Cluster", func(t *testing.T) {
		t.Parallel()
		c := redistest.StartCluster(t)
		lifecycle(t, c.URL(), c.Client(t))
	})
	t.Run("Sentinel", func(t *testing.T) {
		t.Parallel()
		s := redistest.StartSentinel(t)
		lifecycle(t, s.URL(), s.Client(t))
	})
}

// lifecycle seals entries, gives them another key and unseals them.
func lifecycle(t *testing.T, url string, rdb redis.UniversalClient) {
	t.Helper()
	const entries = 400
	ctx := t.Context()
	s, err := redisstore.New(rdb)
	require.NoError(t, err)
	for i := range entries {
		require.NoError(t, s.Set(ctx, fmt.Sprint("shop:", i), fmt.Sprint("value ", i),
			store.WithExpiration(time.Duration(i%2)*time.Hour), store.WithTags([]string{"shop:tag"})))
	}
	_, kek := kekFile(t)
	dir := t.TempDir()
	keys := []string{"--kek", kek, "--keyset", filepath.Join(dir, "keyset.json")}
	checkpoint := filepath.Join(dir, "checkpoint")
	do := func(args ...string) {
		t.Helper()
		status, out, log := sealcache(t, append(args, keys...)...)
		require.Equal(t, exitDone, status, "%v: %s%s", args, out, log)
	}
	at := func(args ...string) []string {
		return append(args, "--redis", url, "--namespace", "shop", "--progress", "none")
	}
	status, _, log := sealcache(t, "keys", "create", "--kek", kek, "--out", keys[3])
	require.Equal(t, exitDone, status, log)
	do(at("migrate", "--allow-unproven", "--checkpoint", checkpoint)...)
	do(at("audit", "--open")...)
	old := ids(t, keys[3])[0]
	do("keys", "add")
	do("keys", "promote", ids(t, keys[3])[1])
	do(at("reseal", "--proof", "1", "--checkpoint", checkpoint)...)
	do("audit", "--may-destroy", old, "--not-primary-since", "2020-01-31T12:00:00Z", "--reload", "1ns", "--redis", url)
	do(at("unseal", "--proof", "1", "--checkpoint", checkpoint)...)
	status, _, log = sealcache(t, at("audit", "--expect", "plaintext")...)
	require.Equal(t, exitDone, status, log)
	for i := range entries {
		name := fmt.Sprint("shop:", i)
		require.Equal(t, fmt.Sprint("value ", i), rdb.Get(ctx, name).Val())
		require.Equal(t, i%2 == 1, rdb.PTTL(ctx, name).Val() > 50*time.Minute, name)
	}
	require.NoError(t, s.Invalidate(ctx, store.WithInvalidateTags([]string{"shop:tag"})))
	for i := range entries {
		require.Zero(t, rdb.Exists(ctx, fmt.Sprint("shop:", i)).Val())
	}
}
