package fxmodule_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// opener opens test: URIs as a key-service module does. It records when a KEK is opened and closed.
type opener struct {
	service *aeadtest.KeyService
	mu      sync.Mutex
	events  []string
}

func (o *opener) Schemes() []string { return []string{"test"} }

func (o *opener) OpenKEK(ctx context.Context, uri string) (tink.AEADWithContext, error) {
	if strings.HasSuffix(uri, "broken") {
		return nil, errBroken
	}
	if strings.HasSuffix(uri, "hangs") {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	o.note("open")
	return closingKEK{o.service, o}, nil
}

func (o *opener) note(event string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, event)
}

func (o *opener) seen() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.events)
}

func (o *opener) provide() fx.Option {
	return fx.Provide(fx.Annotate(func() aead.KEKOpener { return o }, fx.ResultTags(`group:"kek"`)))
}

type closingKEK struct {
	tink.AEADWithContext
	o *opener
}

func (c closingKEK) Close() error {
	c.o.note("close")
	return errClose
}

var (
	errBroken = errors.New("broken on purpose")
	errClose  = errors.New("does not close on purpose")
)

func newOpener(t *testing.T) *opener { return &opener{service: aeadtest.NewKeyService(t)} }

func TestKeyServiceThroughTheGroup(t *testing.T) {
	t.Parallel()
	o, backing := newOpener(t), newMemory(t)
	var got store.StoreInterface
	var keys *fxmodule.Keys
	app := decorated(one(fxmodule.Cache{KEK: "test:key"}), backing, o.provide(), fx.Populate(&got, &keys))
	require.NoError(t, app.Err())
	require.NoError(t, app.Start(t.Context()))
	requireSealed(t, got, backing, "patient")
	require.Equal(t, 1, o.service.Encrypts(), "one data key")
	_, err := keys.Keyring("default")
	require.ErrorIs(t, err, fxmodule.ErrNoCache, "there is no local keyset")
	require.ErrorIs(t, app.Stop(context.Background()), errClose, "a failed Close is reported")
	require.Equal(t, []string{"open", "close"}, o.seen())
	_, err = got.Get(t.Context(), "patient")
	require.ErrorIs(t, err, aead.ErrClosed)
	require.NoError(t, backing.Ping(t.Context()), "the application's store is the application's to close")
}

func TestCachesShareKeys(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	keyset := sealtest.KeysetFile(t, kek, tinkaead.AES256GCMKeyTemplate())
	ks := fxmodule.Cache{Store: "memory://", KEK: kek, Keyset: keyset}
	limited := ks
	limited.DataKeys.MaxMessages = 1000
	var keys *fxmodule.Keys
	config := fxmodule.Config{Caches: map[string]fxmodule.Cache{
		"a": ks, "b": ks, "limited": limited, "file": {Store: "memory://", KEK: kek}, "plain": {Store: "memory://", Unsealed: true},
	}}
	for name, c := range config.Caches {
		c.Namespace = name
		config.Caches[name] = c
	}
	run(t, config, fx.Populate(&keys))
	envelope := func(name string) *aead.Envelope {
		e, err := keys.Envelope(name)
		require.NoError(t, err)
		return e
	}
	ring := func(name string) *aead.Keyring {
		r, err := keys.Keyring(name)
		require.NoError(t, err)
		return r
	}
	require.Same(t, envelope("a"), envelope("b"))
	require.NotSame(t, envelope("a"), envelope("limited"))
	require.NotSame(t, envelope("a"), envelope("file"))
	require.Same(t, ring("a"), ring("limited"))
	require.NotSame(t, ring("a"), ring("file"), "the keyset's own, not that of its KEK")
	require.Len(t, ring("file").Keys(), 1)
	_, err := keys.Envelope("plain")
	require.ErrorIs(t, err, fxmodule.ErrNoCache)
	require.NoError(t, keys.Reload(t.Context()))
	require.Equal(t, "fxmodule.Keys(4 caches, 2 keysets)", keys.String())
}

// A cache that moves to another KEK opens what caches before and after the move sealed.
func TestOtherKEKs(t *testing.T) {
	t.Parallel()
	old, next := sealtest.KEKFile(t), sealtest.KEKFile(t)
	keyset := sealtest.KeysetFile(t, old, tinkaead.AES256GCMKeyTemplate())
	config := fxmodule.Config{Caches: map[string]fxmodule.Cache{
		"before": {KEK: old}, "prepared": {KEK: old, OtherKEKs: []string{next}}, "switched": {KEK: next, OtherKEKs: []string{old}},
		"also-switched": {KEK: next, OtherKEKs: []string{old}}, "after": {KEK: next},
		"keyset": {KEK: next, OtherKEKs: []string{old}, Keyset: keyset},
	}}
	for name, c := range config.Caches {
		c.Store, c.Namespace = "memory://", name
		config.Caches[name] = c
	}
	var keys *fxmodule.Keys
	run(t, config, fx.Populate(&keys))
	envelope := func(name string) *aead.Envelope {
		e, err := keys.Envelope(name)
		require.NoError(t, err)
		return e
	}
	for from, readers := range map[string][]string{"before": {"prepared", "switched"}, "prepared": {"before", "switched"}, "switched": {"prepared", "after"}} {
		sealed, err := envelope(from).EncryptWithContext(t.Context(), []byte("value"), nil)
		require.NoError(t, err)
		for _, to := range readers {
			opened, err := envelope(to).DecryptWithContext(t.Context(), sealed, nil)
			require.NoError(t, err, "%s to %s", from, to)
			require.Equal(t, "value", string(opened))
		}
	}
	require.Same(t, envelope("switched"), envelope("also-switched"))
	ring, err := keys.Keyring("keyset")
	require.NoError(t, err)
	require.NoError(t, ring.Reload(t.Context()))
}

// A new keyset in the file is in use at the next reload, and old values still open.
func TestRotation(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	keyset := sealtest.KeysetFile(t, kek, tinkaead.AES256GCMKeyTemplate())
	var got store.StoreInterface
	var keys *fxmodule.Keys
	run(t, one(fxmodule.Cache{Store: "memory://", KEK: kek, Keyset: "file://" + keyset, KeysetReload: time.Hour}), fx.Populate(&got, &keys))
	require.NoError(t, got.Set(t.Context(), "k", "v"))
	ring, err := keys.Keyring("default")
	require.NoError(t, err)
	before := ring.Keys()

	other, err := os.ReadFile(sealtest.KeysetFile(t, kek, tinkaead.AES256GCMKeyTemplate()))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(keyset, other, 0o600))
	require.NoError(t, keys.Reload(t.Context()))
	require.NotEqual(t, before[0].ID, ring.Keys()[0].ID)
	_, err = got.Get(t.Context(), "k")
	require.ErrorIs(t, err, middleware.ErrUnknownKey, "the key was replaced, not added to")

	require.NoError(t, os.WriteFile(keyset, []byte("{"), 0o600))
	require.Error(t, keys.Reload(t.Context()))
	require.NoError(t, got.Set(t.Context(), "k", "v"), "the old keyset stays in service")
}

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

func TestLimitsOfDataKeysAreChecked(t *testing.T) {
	t.Parallel()
	err := newApp(one(fxmodule.Cache{Store: "memory://", KEK: sealtest.KEKFile(t), DataKeys: fxmodule.DataKeys{MaxMessages: 1 << 40}})).Err()
	requireFailure(t, err, "default", fxmodule.PartKeys)
	require.ErrorContains(t, err, "2^32")
}

func requireFailure(t *testing.T, err error, cache string, part fxmodule.Part) {
	t.Helper()
	var failed *fxmodule.CacheError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, cache, failed.Cache)
	require.Equal(t, part, failed.Part)
	require.ErrorContains(t, err, `cache "`+cache+`": `+string(part)+": ")
}

// deaf is a store that never answers.
type deaf struct {
	store.StoreInterface
	err error
}

func (d deaf) Get(context.Context, any) (any, error) { return nil, d.err }
func (deaf) GetType() string                         { return "deaf" }

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
	require.Error(t, decorated(both, deaf{}).Err())
	require.Error(t, newApp(both, fxmodule.Named("x"), fx.Invoke(fx.Annotate(func(store.StoreInterface) {}, fx.ParamTags(`name:"x"`)))).Err())
	both.Jobs.PRFKeyset = "/nowhere"
	require.ErrorIs(t, newApp(both).Err(), os.ErrNotExist)
	both.Jobs.PRFKeyset = keyset
	require.ErrorContains(t, newApp(both).Err(), "fxmodule: jobs: prf_keyset")
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
	config.KeyTimeout = 20 * time.Millisecond
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
			deaf{err: broken}, fx.Populate(&got))
		require.NoError(t, app.Err())
		err := app.Start(t.Context())
		requireFailure(t, err, "default", fxmodule.PartStore)
		require.ErrorIs(t, err, broken)
		other, err := got.Cache("other")
		require.NoError(t, err)
		require.ErrorIs(t, other.Delete(t.Context(), "k"), memorystore.ErrClosed, "closed again")
	}
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

// A KEK that does not encrypt is detected before a value is sealed.
func TestKEKThatDoesNotEncrypt(t *testing.T) {
	t.Parallel()
	err := newApp(one(fxmodule.Cache{Store: "memory://", KEK: "clear:x"}),
		fx.Provide(fx.Annotate(func() aead.KEKOpener { return clearOpener{} }, fx.ResultTags(`group:"kek"`)))).Err()
	requireFailure(t, err, "default", fxmodule.PartKeys)
}

type clearOpener struct{}

func (clearOpener) Schemes() []string { return []string{"clear"} }

func (clearOpener) OpenKEK(context.Context, string) (tink.AEADWithContext, error) {
	return aead.WithContext(clearAEAD{}), nil
}

type clearAEAD struct{}

func (clearAEAD) Encrypt(p, _ []byte) ([]byte, error) { return bytes.Clone(p), nil }
func (clearAEAD) Decrypt(c, _ []byte) ([]byte, error) { return bytes.Clone(c), nil }

func TestHealth(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	memory, err := memorystore.New()
	require.NoError(t, err)
	var health *fxmodule.Health
	var l sealtest.Logs
	app := fx.New(fx.NopLogger, fx.Supply(l.Logger()), fxmodule.Decorator, fx.Supply(fxmodule.Config{Caches: map[string]fxmodule.Cache{
		"default":  {KEK: kek, Namespace: "d"},
		"sessions": {Store: "memory://", KEK: kek, Namespace: "s"},
		"insecure": {Unsealed: true, Namespace: "i"},
	}}), provideStore(memory), fx.Populate(&health))
	require.NoError(t, app.Start(t.Context()))

	ask := func(method string) (int, string) {
		w := httptest.NewRecorder()
		health.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "/readyz", nil))
		return w.Code, strings.TrimSpace(w.Body.String())
	}
	require.NoError(t, health.Check(t.Context()))
	code, body := ask(http.MethodGet)
	require.Equal(t, http.StatusOK, code)
	require.JSONEq(t, `{"status":"ok","caches":{"default":"ok","sessions":"ok","insecure":"ok"}}`, body)
	code, _ = ask(http.MethodPost)
	require.Equal(t, http.StatusMethodNotAllowed, code)

	// A process with other keys was first. The cache works, and the health report names the difference.
	require.NoError(t, memory.Set(t.Context(), "d:sealcache.key-check", "planted"))
	code, body = ask(http.MethodGet)
	require.Equal(t, http.StatusOK, code)
	require.JSONEq(t, `{"status":"ok","caches":{"default":"ok","sessions":"ok","insecure":"ok"},"keys_differ":["default"]}`, body)
	require.NoError(t, memory.Delete(t.Context(), "d:sealcache.key-check"))
	_, body = ask(http.MethodGet)
	require.NotContains(t, body, "keys_differ")

	require.NoError(t, memory.Close())
	err = health.Check(t.Context())
	requireFailure(t, err, "default", fxmodule.PartStore)
	require.ErrorIs(t, err, memorystore.ErrClosed)
	code, body = ask(http.MethodGet)
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.JSONEq(t, `{"status":"failing","caches":{"default":"store","sessions":"ok","insecure":"store"}}`, body)
	require.Contains(t, l.String(), "not ready")

	require.NoError(t, app.Stop(context.Background()))
	require.Error(t, health.Check(t.Context()))
	code, _ = ask(http.MethodHead)
	require.Equal(t, http.StatusServiceUnavailable, code)
}

// Health distinguishes a key service that is down from a store that is down.
func TestHealthOfKeys(t *testing.T) {
	t.Parallel()
	o := newOpener(t)
	var health *fxmodule.Health
	app := newApp(one(fxmodule.Cache{Store: "memory://", KEK: "test:key", DataKeys: fxmodule.DataKeys{MaxMessages: 5}}), o.provide(), fx.Populate(&health))
	require.NoError(t, app.Start(t.Context()))
	o.service.Fail(errBroken)
	var err error
	for range 10 { // until the data key is used up
		if err = health.Check(t.Context()); err != nil {
			break
		}
	}
	requireFailure(t, err, "default", fxmodule.PartKeys)
	require.ErrorIs(t, err, aead.ErrKeyServiceUnavailable)
	require.ErrorIs(t, app.Stop(context.Background()), errClose)
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
		require.ErrorContains(t, newApp(one(fxmodule.Cache{Store: "memory://", Unsealed: true}), take).Err(), "set jobs.keys_of")
		run(t, one(fxmodule.Cache{Store: "memory://", Unsealed: true}))
		run(t, one(fxmodule.Cache{Store: "memory://", KEK: kek}), take)
	})
}

// A worker that finds an unknown key reads its keyset again, because another process may have had the new keyset first.
func TestJobsReload(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	var producer, worker *jobs.Encryptor
	config := one(fxmodule.Cache{Store: "memory://", KEK: kek + "?reload=off"})
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

// A keyset of unrelated keys that goes into service makes the cache not ready, until a keyset with former keys is back.
func TestHealthOfUnrelatedKeyset(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	keyset := sealtest.KeysetFile(t, kek, tinkaead.AES256GCMKeyTemplate())
	former, err := os.ReadFile(keyset)
	require.NoError(t, err)
	other, err := os.ReadFile(sealtest.KeysetFile(t, kek, tinkaead.AES256GCMKeyTemplate()))
	require.NoError(t, err)
	var keys *fxmodule.Keys
	var health *fxmodule.Health
	run(t, one(fxmodule.Cache{Store: "memory://", KEK: kek, Keyset: keyset}), fx.Populate(&keys, &health))
	require.NoError(t, health.Check(t.Context()))
	require.NoError(t, os.WriteFile(keyset, other, 0o600))
	require.NoError(t, keys.Reload(t.Context()))
	requireFailure(t, health.Check(t.Context()), "default", fxmodule.PartKeys)
	require.NoError(t, os.WriteFile(keyset, former, 0o600))
	require.NoError(t, keys.Reload(t.Context()))
	require.NoError(t, health.Check(t.Context()))
}

// A keyset that is bound to another name under the same KEK is refused, for caches and for jobs.
func TestKeysetName(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	bound := func(name string, template *tinkpb.KeyTemplate) string {
		return sealtest.KeysetFile(t, kek, template, aead.WithKeysetName(name))
	}
	config := func(keyset, prfs string) fxmodule.Config {
		c := one(fxmodule.Cache{Store: "memory://", KEK: kek + "?reload=off", Keyset: keyset, KeysetName: "shop", Namespace: "shop"})
		c.Jobs = fxmodule.Jobs{PRFKeyset: prfs, PRFKeysetName: "shop-prf"}
		return c
	}
	mine, prfs := bound("shop", tinkaead.AES256GCMKeyTemplate()), bound("shop-prf", prf.HMACSHA256PRFKeyTemplate())
	run(t, config(mine, prfs))
	err := newApp(config(bound("other", tinkaead.AES256GCMKeyTemplate()), prfs)).Err()
	requireFailure(t, err, "default", fxmodule.PartKeys)
	require.ErrorContains(t, newApp(config(mine, bound("other", prf.HMACSHA256PRFKeyTemplate()))).Err(), "prf_keyset")
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
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	require.NoError(t, app.Stop(ctx))
	require.NoError(t, ctx.Err())
}
