package fxmodule_test

import (
	"context"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
)

// An application goes through the states of the introduction of a context. Neighbouring states read each other's values.
func TestWrapContextStates(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	kek := sealtest.KEKFile(t)
	run := func(state string, set, get string) error {
		t.Helper()
		cache := fxmodule.Cache{Store: server.URL(), Namespace: "shop", KEK: kek, WrapContextState: state}
		if state != "" {
			cache.WrapContext = map[string]string{"namespace": "shop"}
		}
		var err error
		app := fx.New(fxmodule.Module, fx.NopLogger, fx.Supply(one(cache)), fx.Invoke(func(lc fx.Lifecycle, s store.StoreInterface) {
			lc.Append(fx.StartHook(func(ctx context.Context) error {
				if set != "" {
					return s.Set(ctx, set, "value")
				}
				_, err = s.Get(ctx, get)
				return nil
			}))
		}))
		require.NoError(t, app.Start(t.Context()))
		require.NoError(t, app.Stop(t.Context()))
		return err
	}
	states := []string{"", "prepare", "tolerate", "require"}
	for i, state := range states {
		require.NoError(t, run(state, "key"+state, ""))
		for j := max(i-1, 0); j <= min(i+1, len(states)-1); j++ {
			require.NoError(t, run(states[j], "", "key"+state), "%q reads what %q wrote", states[j], state)
		}
	}
	require.ErrorIs(t, run("require", "", "key"), aead.ErrUnauthentic)
	require.ErrorIs(t, run("", "", "keyrequire"), aead.ErrUnauthentic)
}

func TestWrapContextRefused(t *testing.T) {
	t.Parallel()
	shop := map[string]string{"namespace": "shop"}
	for want, c := range map[string]fxmodule.Cache{
		"\"wrap_context_state\" has no effect without \"wrap_context\" (set \"wrap_context\")": {KEK: "file:///kek", WrapContextState: "prepare"},
		"wrap_context_state: the value must be \"prepare\", \"tolerate\" or \"require\"":       {KEK: "file:///kek", WrapContext: shop, WrapContextState: "soon"},
		"the setting \"unsealed\" excludes the settings \"wrap_context":                        {Unsealed: true, WrapContext: shop},
		"the setting \"unsealed\" excludes the settings \"wrap_context_state\"":                {Unsealed: true, WrapContextState: "soon"},
	} {
		c.Store = "memory://"
		require.ErrorContains(t, one(c).Validate(), want)
	}
}
