package fxmodule_test

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
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

// A keyset in a variable is not read again, unless the Config gives an interval.
func TestVariableIsReadOnce(t *testing.T) {
	kek := sealtest.KEKFile(t)
	keyset, err := os.ReadFile(sealtest.KeysetFile(t, kek, tinkaead.AES256GCMKeyTemplate()))
	require.NoError(t, err)
	for every, again := range map[time.Duration]bool{0: false, time.Minute: true} {
		t.Setenv("FXMODULE_TEST_KEYSET", string(keyset))
		synctest.Test(t, func(t *testing.T) {
			logs := new(sealtest.Logs)
			cache := fxmodule.Cache{Store: "memory://", KEK: kek + "?reload=off", Keyset: "env:FXMODULE_TEST_KEYSET", KeysetReload: every}
			run(t, one(cache), fx.Replace(logs.Logger()))
			t.Setenv("FXMODULE_TEST_KEYSET", "broken")
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			require.Equal(t, again, strings.Contains(logs.String(), "level=ERROR"), logs.String())
		})
	}
}

// Warnings about a KEK go to the application's logger.
func TestLoggerOfKEKs(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	require.NoError(t, os.Chmod(strings.TrimPrefix(kek, "file://"), 0o644))
	var l sealtest.Logs
	start(t, fx.New(fx.NopLogger, fx.Supply(l.Logger(), one(fxmodule.Cache{Store: "memory://", KEK: kek})), fxmodule.Module))
	require.Contains(t, l.String(), "other users can read or change a file with a plaintext key or passphrase")
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
