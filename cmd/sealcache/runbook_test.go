package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
	"github.com/sealcache/sealcache/stores/storetest/redistest"
)

// sealcache runs a command and returns its status and what it said.
func sealcache(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, log bytes.Buffer
	status = run(args, nil, &out, &log)
	return status, out.String(), log.String()
}

// instance is one process of a service, as far as its cache goes: a deployment replaces the store.
type instance struct {
	store atomic.Pointer[store.StoreInterface]
}

func (i *instance) deploy(s store.StoreInterface) { i.store.Store(&s) }

// service is an application at work on its instances. Each of its goroutines has keys of its own, and goes to any instance.
type service struct {
	instances []*instance
	ops       atomic.Int64
}

func (s *service) work(ctx context.Context, which int) error {
	held := map[int]string{}
	for i := 0; ctx.Err() == nil; i++ {
		at := *s.instances[i%len(s.instances)].store.Load()
		k := i % 50
		key := fmt.Sprintf("w%d:%d", which, k)
		s.ops.Add(1)
		if i%3 == 0 {
			v := fmt.Sprint("value ", i)
			if err := at.Set(context.Background(), key, []byte(v), store.WithExpiration(time.Hour)); err != nil {
				return err
			}
			held[k] = v
			continue
		}
		got, err := at.Get(context.Background(), key)
		switch v, ok := held[k]; {
		case !ok && !errors.Is(err, store.NotFound{}):
			return fmt.Errorf("an entry that was never set: %w", err)
		case ok && err != nil:
			return err
		case ok && string(got.([]byte)) != v: //nolint:forcetypeassert // redisstore returns []byte
			return errors.New("an update was lost")
		}
	}
	return nil
}

// The runbook, forward and back, against a service that is at work all the time and never notices.
func TestRunbook(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := redistest.Start(t)
	rdb := redis.NewClient(server.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	dir := t.TempDir()
	kekFile := filepath.Join(dir, "kek.json")
	var b bytes.Buffer
	require.NoError(t, insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()))
	require.NoError(t, os.WriteFile(kekFile, b.Bytes(), 0o600))
	kekURI := "file://" + filepath.ToSlash(kekFile) + "?reload=off"
	kek, err := aead.OpenKEK(ctx, kekURI)
	require.NoError(t, err)
	backing, err := redisstore.New(rdb)
	require.NoError(t, err)
	for i := range 3000 {
		require.NoError(t, rdb.Set(ctx, fmt.Sprintf("shop:old:%d", i), fmt.Sprint("old ", i), time.Duration(i%2)*time.Hour).Err())
	}

	app := &service{}
	const instances = 3
	for range instances {
		app.instances = append(app.instances, new(instance))
	}
	// deploy rolls a state out, one instance after the other, with some work in between. Every process has data keys of its
	// own. Nil is off.
	deploy := func(policy *middleware.PlaintextPolicy) {
		for _, i := range app.instances {
			if policy == nil {
				i.deploy(clearStore{backing})
			} else {
				e, err := aead.NewEnvelope(ctx, kek)
				require.NoError(t, err)
				t.Cleanup(func() { _ = e.Close() })
				opts := []middleware.Option{middleware.WithNamespace("shop")}
				if *policy != middleware.RejectPlaintext {
					opts = append(opts, middleware.WithPlaintext(*policy), middleware.WithPlaintextUntil(time.Now().Add(time.Hour)))
					opts = append(opts, middleware.WithLogger(slog.New(slog.DiscardHandler)))
				}
				s, err := middleware.New(backing, e, opts...)
				require.NoError(t, err)
				i.deploy(s)
			}
			before := app.ops.Load()
			require.Eventually(t, func() bool { return app.ops.Load() > before+300 }, 20*time.Second, time.Millisecond)
		}
	}
	state := func(p middleware.PlaintextPolicy) *middleware.PlaintextPolicy { return &p }
	for _, i := range app.instances {
		i.deploy(clearStore{backing})
	}

	working, stop := context.WithCancel(ctx)
	defer stop()
	var group sync.WaitGroup
	errs := make([]error, 4)
	for w := range errs {
		group.Go(func() {
			if errs[w] = app.work(working, w); errs[w] != nil {
				stop()
			}
		})
	}
	common := []string{"-redis", server.URL(), "-progress", "none"}
	keys := append([]string{"-kek", kekURI, "-namespace", "shop"}, common...)
	command := func(want int, name string, args ...string) string {
		t.Helper()
		status, out, log := sealcache(t, append([]string{name}, args...)...)
		require.Equal(t, want, status, "%s%s", out, log)
		return out
	}

	command(exitLeft, "audit", common...)
	command(exitDone, "migrate", append(keys, "-dry-run")...)
	deploy(state(middleware.WritePlaintext))
	deploy(state(middleware.SealOnRead))
	command(exitDone, "migrate", append(keys, "-checkpoint", filepath.Join(dir, "checkpoint"))...)
	out := command(exitDone, "audit", append(common, "-kek", kekURI, "-open", "-namespaces", "shop")...)
	require.Contains(t, out, "Is anything in clear? NO")
	deploy(state(middleware.RejectPlaintext))
	command(exitDone, "audit", common...)
	require.NoError(t, working.Err(), "%v", errs)

	// And back.
	deploy(state(middleware.SealOnRead))
	deploy(state(middleware.WritePlaintext))
	command(exitDone, "unseal", keys...)
	deploy(nil)
	stop()
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	for i := range 3000 {
		v, ttl, err := backing.GetBytesWithTTL(ctx, fmt.Sprintf("shop:old:%d", i))
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint("old ", i), string(v))
		require.Equal(t, i%2 == 1, ttl > 0)
	}
	require.NoError(t, kek.(*aead.Keyring).Close()) //nolint:forcetypeassert // a file is one
}

// clearStore is the application's store before there was sealcache, which put its own prefix before its keys.
type clearStore struct{ *redisstore.Store }

func (c clearStore) Get(ctx context.Context, key any) (any, error) {
	return c.Store.Get(ctx, "shop:"+key.(string)) //nolint:forcetypeassert // it is one
}

func (c clearStore) Set(ctx context.Context, key, value any, opts ...store.Option) error {
	return c.Store.Set(ctx, "shop:"+key.(string), value, opts...) //nolint:forcetypeassert // it is one
}

// Scripts of others rely on the statuses.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := redis.NewClient(server.ClientOptions())
	t.Cleanup(func() { _ = rdb.Close() })
	kekFile := filepath.Join(t.TempDir(), "kek.json")
	var b bytes.Buffer
	require.NoError(t, insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()))
	require.NoError(t, os.WriteFile(kekFile, b.Bytes(), 0o600))
	kek := "file://" + filepath.ToSlash(kekFile)
	require.NoError(t, rdb.Set(t.Context(), "shop:x", "{", 0).Err())
	for want, lines := range map[int][][]string{
		exitDone:   {{"help"}, {"migrate", "-h"}, {"migrate", "-redis", server.URL(), "-kek", kek, "-prefix", "none:"}},
		exitFailed: {{"inspect", "-redis", server.URL(), "absent"}, {"migrate", "-redis", "redis://127.0.0.1:1?max_retries=0", "-kek", kek, "-all"}},
		exitUsage:  {{}, {"nonsense"}, {"audit"}, {"audit", "-nonsense"}, {"audit", "-redis", "http://x"}, {"migrate", "-redis", server.URL(), "-kek", kek, "-all", "-as", "int"}},
		exitLeft: {
			{"audit", "-redis", server.URL()},
			{"migrate", "-redis", server.URL(), "-kek", kek, "-namespace", "shop", "-as", "json"},
		},
		exitUnknown: {{"audit", "-redis", server.URL(), "-may-destroy", "1"}},
	} {
		for _, args := range lines {
			status, out, log := sealcache(t, args...)
			require.Equal(t, want, status, "%q\n%s%s", args, out, log)
		}
	}
}
