package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/runbooktest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

const keysFile = "../../docs/keys.md"

// The chapter "Moving to another KEK without downtime", against three instances that are at work all the time.
func TestMoveToAnotherKEK(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	rdb := redis.NewClient(server.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	backing, err := redisstore.New(rdb)
	require.NoError(t, err)
	_, old := kekFile(t)
	next := "file://" + filepath.ToSlash(filepath.Join(t.TempDir(), "new-kek.json"))

	const section = "Moving to another KEK without downtime"
	book := runbooktest.Open(t, keysFile)
	book.Begin(t, section)
	book.Words["file:///run/secrets/new-kek.json"], book.Words["file:///run/secrets/kek.json"] = next, old
	environment := fmt.Sprintf("export SEALCACHE_STORE=%s SEALCACHE_NAMESPACE=shop SEALCACHE_KEK=%s\n", server.URL(), old)
	require.NoError(t, os.WriteFile(filepath.Join(book.Dir, "environment"), []byte(environment), 0o600))

	app := new(service)
	deploy := func(kek string, others ...string) {
		t.Helper()
		if app.instances == nil {
			app.instances = []*instance{newInstance(), newInstance(), newInstance()}
		}
		for _, i := range app.instances {
			var keks []tink.AEADWithContext
			for _, uri := range append([]string{kek}, others...) {
				k, err := aead.OpenKEK(ctx, uri)
				require.NoError(t, err)
				t.Cleanup(func() { _ = k.Close() })
				keks = append(keks, k)
			}
			set, err := aead.NewKEKSet(keks[0], keks[1:]...)
			require.NoError(t, err)
			e, err := aead.NewEnvelope(ctx, set)
			require.NoError(t, err)
			t.Cleanup(func() { _ = e.Close() })
			s, err := middleware.New(backing, e, middleware.WithNamespace("shop"))
			require.NoError(t, err)
			require.NoError(t, s.Check(ctx))
			i.deploy(s)
			before := app.ops.Load()
			if before > 0 {
				require.Eventually(t, func() bool { return app.ops.Load() > before+300 }, 2*time.Minute, time.Millisecond)
			}
		}
	}
	deploy(old)
	app.old = 500
	for i := range app.old {
		require.NoError(t, (*app.instances[0].store.Load()).Set(ctx, fmt.Sprint("old:", i), fmt.Appendf(nil, "old %d", i)))
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	errs := make([]error, 2)
	for w := range errs {
		group.Go(func() {
			if errs[w] = app.work(working, w); errs[w] != nil {
				stop()
			}
		})
	}
	require.Eventually(t, func() bool { return app.ops.Load() > 300 }, 2*time.Minute, time.Millisecond)

	book.Follow(t, section) // create
	deploy(old, next)
	deploy(next, old)
	book.Follow(t, section) // the variables
	status, _, _ := sealcache(t, "audit", "--open", "--redis", server.URL(), "--namespace", "shop", "--kek", next, "--progress", "none")
	require.Equal(t, exitUnknown, status, "values of the old KEK are left, and the proof does not see them")
	require.Contains(t, book.Follow(t, section), " written") // reseal
	require.Contains(t, book.Follow(t, section), "NO")
	require.False(t, book.HasMore(section))
	deploy(next)
	require.NoError(t, os.Remove(filepath.FromSlash(old[len("file://"):])))
	before := app.ops.Load()
	require.Eventually(t, func() bool { return app.ops.Load() > before+2000 || working.Err() != nil }, 2*time.Minute, time.Millisecond)
	stop()
	group.Wait()
	require.NoError(t, errors.Join(errs...))
}

// A keyset is sealed again under the new KEK while processes of both KEKs read it.
func TestRewrapUnderAnotherKEK(t *testing.T) {
	t.Parallel()
	_, old := kekFile(t)
	_, next := kekFile(t)
	file := filepath.Join(t.TempDir(), "keyset.json")
	status, _, log := sealcache(t, "keys", "create", "--kek", old, "--out", file, "--keyset-name", "shop")
	require.Equal(t, exitDone, status, log)
	named := []string{"--keyset", file, "--keyset-name", "shop"}
	status, _, _ = sealcache(t, append([]string{"keys", "rewrap", "--kek", next}, named...)...)
	require.Equal(t, exitUsage, status, "the new KEK alone cannot open it")
	status, _, log = sealcache(t, append([]string{"keys", "rewrap", "--kek", next, "--other-kek", old}, named...)...)
	require.Equal(t, exitDone, status, log)
	status, _, log = sealcache(t, append([]string{"keys", "list", "--kek", next}, named...)...)
	require.Equal(t, exitDone, status, log)
	status, _, log = sealcache(t, append([]string{"keys", "list", "--kek", next, "--other-kek", next}, named...)...)
	require.Equal(t, exitUsage, status, log)
}
