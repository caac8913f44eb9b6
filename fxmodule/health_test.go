package fxmodule_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

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
	require.Contains(t, l.String(), "the keys or the store of a cache failed")

	require.NoError(t, app.Stop(context.Background()))
	require.Error(t, health.Check(t.Context()))
	code, _ = ask(http.MethodHead)
	require.Equal(t, http.StatusServiceUnavailable, code)
}

// Requests to a public endpoint do not fill a log.
func TestHealthLogsAFailureOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var health *fxmodule.Health
		var l sealtest.Logs
		backing := &flakyStore{}
		app := fx.New(fx.NopLogger, fx.Supply(l.Logger(), one(fxmodule.Cache{Unsealed: true})), fxmodule.Decorator, provideStore(backing), fx.Populate(&health))
		require.NoError(t, app.Start(t.Context()))
		defer stop(t, app)
		ask := func(times int) {
			for range times {
				health.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
			}
		}
		backing.err = errBroken
		ask(50)
		require.Equal(t, 1, strings.Count(l.String(), "of a cache failed"))
		time.Sleep(time.Minute)
		ask(50)
		require.Equal(t, 2, strings.Count(l.String(), "of a cache failed"))
	})
}

// flakyStore is a store whose reads fail once err is set.
type flakyStore struct {
	store.StoreInterface
	err error
}

func (s *flakyStore) Get(context.Context, any) (any, error) { return nil, s.err }

func (*flakyStore) GetType() string { return "flaky" }

// docs/fx.md: an application may refuse to start with keys that are not those of earlier processes.
func TestStartRefusedByKeysDiffer(t *testing.T) {
	t.Parallel()
	memory := newMemory(t)
	app := func(kek string) *fx.App {
		return decorated(one(fxmodule.Cache{KEK: kek, Namespace: "shop"}), memory,
			fx.Invoke(func(lc fx.Lifecycle, s *middleware.Store) {
				lc.Append(fx.StartHook(func() error {
					if err := s.KeysDiffer(); errors.Is(err, middleware.ErrUnknownKey) || errors.Is(err, middleware.ErrUnauthentic) {
						return err
					}
					return nil // the module has logged any other error, such as one of the store
				}))
			}),
		)
	}
	newApp := func() *fx.App { return app(sealtest.KEKFile(t)) }
	start(t, newApp())
	require.ErrorIs(t, newApp().Start(t.Context()), middleware.ErrUnknownKey)
	require.NoError(t, memory.Set(t.Context(), "shop:sealcache.key-check", []byte("planted")))
	start(t, newApp())
	require.NoError(t, memory.Delete(t.Context(), "shop:sealcache.key-check"))
	kek := sealtest.KEKFile(t)
	start(t, app(kek))
	start(t, app(kek))
	// Another key of some key services does not name the entry's key, so the finding is ErrUnauthentic.
	check, err := memory.Get(t.Context(), "shop:sealcache.key-check")
	require.NoError(t, err)
	altered := bytes.Clone(check.([]byte))
	altered[len(altered)-1] ^= 1
	require.NoError(t, memory.Set(t.Context(), "shop:sealcache.key-check", altered))
	require.ErrorIs(t, app(kek).Start(t.Context()), middleware.ErrUnauthentic)
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

// The log names the keyset that could not be reloaded, because an application may have several.
func TestLogOfAFailedReload(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	keyset := sealtest.KeysetFile(t, kek, tinkaead.AES256GCMKeyTemplate())
	var keys *fxmodule.Keys
	var l sealtest.Logs
	start(t, fx.New(fx.NopLogger, fx.Supply(l.Logger(), one(fxmodule.Cache{Store: "memory://", KEK: kek, Keyset: keyset})), fxmodule.Module, fx.Populate(&keys)))
	require.NoError(t, os.WriteFile(keyset, []byte("not a keyset"), 0o600))
	require.Error(t, keys.Reload(t.Context()))
	require.Contains(t, l.String(), "keyset="+keyset)
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

// hanging is a store that does not answer and ignores its context, until it is released.
type hanging struct {
	store.StoreInterface
	released chan struct{}
	hangs    atomic.Bool
}

func newHanging(t *testing.T) *hanging {
	t.Helper()
	h := &hanging{StoreInterface: newMemory(t), released: make(chan struct{})}
	t.Cleanup(func() { close(h.released) })
	return h
}

func (h *hanging) Get(ctx context.Context, key any) (any, error) {
	if h.hangs.Load() {
		<-h.released
	}
	return h.StoreInterface.Get(ctx, key)
}

// An application's store that ignores its context holds up neither a health check nor the start.
func TestStoreThatIgnoresItsContext(t *testing.T) {
	t.Parallel()
	for name, cache := range map[string]fxmodule.Cache{"sealed": {KEK: sealtest.KEKFile(t)}, "unsealed": {Unsealed: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backing := newHanging(t)
			var health *fxmodule.Health
			start(t, decorated(one(cache), backing, fx.Populate(&health)))
			backing.hangs.Store(true)
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			err := health.Check(ctx)
			requireFailure(t, err, "default", fxmodule.PartStore)
			require.ErrorIs(t, err, context.DeadlineExceeded)

			ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			requireFailure(t, decorated(one(cache), backing).Start(ctx), "default", fxmodule.PartStore)
		})
	}
}
