package fxmodule_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/prf"
	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/stores/memorystore"
)

var (
	errBroken = errors.New("broken on purpose")
	errClose  = errors.New("does not close on purpose")
)

func TestEverySettingReachesTheStore(t *testing.T) {
	t.Parallel()
	type point struct{ X, Y int }
	backing := newMemory(t)
	require.NoError(t, backing.Set(t.Context(), "ns:old", "plaintext"))
	var got *middleware.Store
	start(t, decorated(one(fxmodule.Cache{
		KEK: sealtest.KEKFile(t), Namespace: "ns", TTL: time.Hour, MaxValueBytes: 100,
		Plaintext: middleware.SealOnRead, PlaintextUntil: time.Now().Add(time.Hour), MissOnOpenFailure: true,
		Codecs:   []middleware.Codec{middleware.JSON[point]()},
		DataKeys: fxmodule.DataKeys{MaxMessages: 3, MaxBytes: 1000, MaxAge: time.Hour, CacheSize: 2, TTL: time.Hour},
	}), backing, fx.Populate(&got)))
	ctx := t.Context()
	v, err := got.Get(ctx, "old")
	require.NoError(t, err)
	require.EqualValues(t, "plaintext", v)
	require.NotContains(t, stored(t, backing, "ns:old"), "plaintext", "sealed on reading")
	require.NoError(t, got.Set(ctx, "p", point{1, 2}))
	v, ttl, err := got.GetWithTTL(ctx, "p")
	require.NoError(t, err)
	require.Equal(t, point{1, 2}, v)
	require.InDelta(t, time.Hour, ttl, float64(time.Minute))
	require.ErrorIs(t, got.Set(ctx, "big", strings.Repeat("x", 101)), middleware.ErrTooLarge)
	require.NoError(t, backing.Set(ctx, "ns:moved", stored(t, backing, "ns:p")))
	_, err = got.Get(ctx, "moved")
	require.ErrorIs(t, err, store.NotFound{})
	require.ErrorIs(t, err, middleware.ErrUnauthentic)
	for range 10 { // with data keys for 3 messages
		require.NoError(t, got.Set(ctx, "k", "v"))
	}
}

func requireFailure(t *testing.T, err error, cache string, part fxmodule.Part) {
	t.Helper()
	var failed *fxmodule.CacheError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, cache, failed.Cache)
	require.Equal(t, part, failed.Part)
	require.ErrorContains(t, err, `cache "`+cache+`": `+string(part)+": ")
}

// failingStore is a store whose reads fail.
type failingStore struct {
	store.StoreInterface
	err error
}

func (s failingStore) Get(context.Context, any) (any, error) { return nil, s.err }

func (failingStore) GetType() string { return "failing" }

// These tests do not run in parallel, because they count goroutines.

func TestFailedConstructionClosesEverything(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	kek := sealtest.KEKFile(t)
	keyset := sealtest.KeysetFile(t, kek, tinkaead.AES256GCMKeyTemplate())
	first := fxmodule.Cache{Store: "memory://", KEK: kek, Keyset: keyset, Namespace: "a"}
	for name, c := range map[string]struct {
		broken fxmodule.Cache
		part   fxmodule.Part
		is     error
	}{
		"KEK":            {fxmodule.Cache{Store: "memory://", KEK: "test:broken"}, fxmodule.PartKeys, errBroken},
		"KEK file":       {fxmodule.Cache{Store: "memory://", KEK: "file:///nowhere"}, fxmodule.PartKeys, os.ErrNotExist},
		"KEK scheme":     {fxmodule.Cache{Store: "memory://", KEK: "gcp-kms://x"}, fxmodule.PartKeys, nil},
		"keyset":         {fxmodule.Cache{Store: "memory://", KEK: kek, Keyset: "/nowhere"}, fxmodule.PartKeys, os.ErrNotExist},
		"another KEK":    {fxmodule.Cache{Store: "memory://", KEK: sealtest.KEKFile(t), Keyset: keyset}, fxmodule.PartKeys, aead.ErrUnknownKey},
		"store's scheme": {fxmodule.Cache{Store: "mongodb://x", KEK: kek}, fxmodule.PartStore, nil},
		"store's option": {fxmodule.Cache{Store: "memory://?x=y", KEK: kek}, fxmodule.PartStore, nil},
	} {
		o, broken := newOpener(t), c.broken
		broken.Namespace = "b"
		err := newApp(fxmodule.Config{Caches: map[string]fxmodule.Cache{"a": first, "broken": broken}}, o.provide()).Err()
		requireFailure(t, err, "broken", c.part)
		if c.is != nil {
			require.ErrorIs(t, err, c.is, name)
		}
	}
	both := one(first)
	require.Error(t, decorated(both, failingStore{}).Err())
	require.Error(t, newApp(both, fxmodule.Named("x"), fx.Invoke(fx.Annotate(func(store.StoreInterface) {}, fx.ParamTags(`name:"x"`)))).Err())
	both.Jobs.PRFKeyset = "/nowhere"
	require.ErrorIs(t, newApp(both).Err(), os.ErrNotExist)
	both.Jobs.PRFKeyset = keyset
	require.ErrorContains(t, newApp(both).Err(), "fxmodule: jobs: open prf_keyset")
}

func TestKeyTimeout(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	config := one(fxmodule.Cache{Store: "memory://", KEK: "test:hangs"})
	config.KeyTimeout = 20 * time.Millisecond
	err := newApp(config, newOpener(t).provide()).Err()
	requireFailure(t, err, "default", fxmodule.PartKeys)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	gone := newOpener(t)
	gone.service.Gone(true)
	config = one(fxmodule.Cache{Store: "memory://", KEK: "test:key"})
	config.KeyTimeout = time.Minute
	err = newApp(config, gone.provide()).Err()
	requireFailure(t, err, "default", fxmodule.PartKeys)
	require.ErrorIs(t, err, aead.ErrKeyServiceUnavailable)
	require.Equal(t, []string{"open", "close"}, gone.seen())
}

func TestFailedStartClosesEverything(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	kek := sealtest.KEKFile(t)
	broken := errors.New("connection refused on purpose")
	for _, def := range []fxmodule.Cache{{KEK: kek, Namespace: "ns"}, {Unsealed: true, Namespace: "ns"}} {
		var got *fxmodule.Caches
		app := decorated(fxmodule.Config{Caches: map[string]fxmodule.Cache{"default": def, "other": {Store: "memory://", KEK: kek, Namespace: "o"}}},
			failingStore{err: broken}, fx.Populate(&got))
		require.NoError(t, app.Err())
		err := app.Start(t.Context())
		requireFailure(t, err, "default", fxmodule.PartStore)
		require.ErrorIs(t, err, broken)
		other, err := got.Cache("other")
		require.NoError(t, err)
		require.ErrorIs(t, other.Delete(t.Context(), "k"), memorystore.ErrClosed, "closed again")
	}
}

// A key service that hangs during the key check of one cache takes the time of no other check.
func TestStartWithASlowKeyCheck(t *testing.T) {
	t.Parallel()
	o, backing := newOpener(t), newMemory(t)
	build := func() *fx.App {
		return decorated(fxmodule.Config{Caches: map[string]fxmodule.Cache{
			"default": {KEK: sealtest.KEKFile(t), Namespace: "shop"}, "slow": {KEK: "test:key", Namespace: "slow"},
		}}, backing, o.provide())
	}
	first, second := build(), build()
	require.NoError(t, first.Start(t.Context()), "makes the key check")
	require.ErrorIs(t, first.Stop(t.Context()), errClose)
	require.NoError(t, second.Err())
	o.service.Delay(time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.NoError(t, second.Start(ctx))
	require.ErrorIs(t, second.Stop(t.Context()), errClose)
}

// If a later part of the application fails to start, fx stops the module.
func TestLaterFailureClosesEverything(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	app := newApp(one(fxmodule.Cache{Store: "memory://", KEK: sealtest.KEKFile(t)}), fx.Invoke(func(lc fx.Lifecycle, _ store.StoreInterface) {
		lc.Append(fx.StartHook(func() error { return errBroken }))
	}))
	require.NoError(t, app.Err())
	require.ErrorIs(t, app.Start(t.Context()), errBroken)
}

func TestStopClosesEverythingInOrder(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	kek := sealtest.KEKFile(t)
	keyset := sealtest.KeysetFile(t, kek, tinkaead.AES256GCMKeyTemplate())
	o := newOpener(t)
	app := newApp(fxmodule.Config{Caches: map[string]fxmodule.Cache{
		"default":  {Store: "memory://", KEK: kek, Keyset: keyset, Namespace: "d"},
		"sessions": {Store: "memory://", KEK: "test:key", Namespace: "s"},
		"insecure": {Store: "memory://", Unsealed: true, Namespace: "i"},
	}}, o.provide(), fx.Invoke(func(lc fx.Lifecycle, s store.StoreInterface) {
		lc.Append(fx.StopHook(func(ctx context.Context) error {
			o.note("application")
			return s.Set(ctx, "last", "words") // users of a cache stop before the cache
		}))
	}))
	require.NoError(t, app.Start(t.Context()))
	require.ErrorIs(t, app.Stop(context.Background()), errClose)
	require.Equal(t, []string{"open", "application", "close"}, o.seen())
}

func TestJobs(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	prfKeyset := sealtest.KeysetFile(t, kek, prf.HMACSHA256PRFKeyTemplate())
	var got *jobs.Encryptor
	run(t, fxmodule.Config{
		Caches: map[string]fxmodule.Cache{"sessions": {Store: "memory://", KEK: kek, Namespace: "sessions"}},
		Jobs:   fxmodule.Jobs{KeysOf: "sessions", Namespace: "billing", PRFKeyset: prfKeyset, CompressMinBytes: 64, MaxPayloadBytes: 4096},
	}, fx.Populate(&got))
	require.Equal(t, "billing", got.Namespace())
	m := jobs.Meta{Type: "invoice:send", Queue: "default", ID: "1"}
	payload := []byte(strings.Repeat(canary, 20))
	sealed, err := got.Seal(t.Context(), m, payload)
	require.NoError(t, err)
	require.NotContains(t, string(sealed), canary)
	require.Less(t, len(sealed), len(payload), "compressed")
	opened, err := got.Open(t.Context(), m, sealed)
	require.NoError(t, err)
	require.Equal(t, payload, opened)
	_, err = got.Seal(t.Context(), m, make([]byte, 5000))
	require.ErrorIs(t, err, jobs.ErrTooLarge)
	_, err = got.Tokens().Token("test", []byte("x"))
	require.NoError(t, err)

	t.Run("none without a sealed default", func(t *testing.T) {
		t.Parallel()
		take := fx.Invoke(func(*jobs.Encryptor) {})
		require.ErrorContains(t, newApp(one(fxmodule.Cache{Store: "memory://", Unsealed: true}), take).Err(), "set \"jobs.keys_of\"")
		run(t, one(fxmodule.Cache{Store: "memory://", Unsealed: true}))
		run(t, one(fxmodule.Cache{Store: "memory://", KEK: kek, Namespace: "shop"}), take)
	})
}

// A worker that finds an unknown key reads its keyset again, because another process may have had the new keyset first.
func TestJobsReload(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	var producer, worker *jobs.Encryptor
	config := one(fxmodule.Cache{Store: "memory://", KEK: kek + "?reload=off", Namespace: "shop"})
	run(t, config, fx.Populate(&worker))
	path := strings.TrimPrefix(kek, "file://")
	require.NoError(t, os.WriteFile(path, sealtest.WithNewPrimary(t, path), 0o600))

	run(t, config, fx.Populate(&producer))
	m := jobs.Meta{Type: "invoice:send", Queue: "default", ID: "1"}
	sealed, err := producer.Seal(t.Context(), m, []byte(canary))
	require.NoError(t, err)
	opened, err := worker.Open(t.Context(), m, sealed)
	require.NoError(t, err)
	require.Equal(t, canary, string(opened))
}

// A keyset file whose reading blocks does not use up the application's time to stop.
func TestStopWithABlockedKeysetFile(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	kek := sealtest.KEKFile(t)
	keyset := sealtest.KeysetFile(t, kek, tinkaead.AES256GCMKeyTemplate())
	var keys *fxmodule.Keys
	app := newApp(one(fxmodule.Cache{Store: "memory://", KEK: kek, Keyset: keyset}), fx.Populate(&keys))
	require.NoError(t, app.Start(t.Context()))
	require.NoError(t, os.Remove(keyset))
	require.NoError(t, syscall.Mkfifo(keyset, 0o600))
	defer func() { // ends the abandoned reading
		f, err := os.OpenFile(keyset, os.O_RDWR, 0)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}()
	blocked, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Error(t, keys.Reload(blocked), "the file blocks")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	require.NoError(t, app.Stop(ctx))
	require.NoError(t, ctx.Err())
}
