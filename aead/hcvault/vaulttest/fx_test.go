package vaulttest_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/hcvault"
	"github.com/sealcache/sealcache/fxmodule"
)

// The program of docs/keyservices.md: fxmodule takes the opener from the group "kek".
func TestFxmodule(t *testing.T) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "VAULT_") {
			t.Setenv(name, "")
			_ = os.Unsetenv(name) // t.Setenv restores it
		}
	}
	_, s := serve(t)
	t.Setenv("VAULT_ADDR", s.URL())
	t.Setenv("VAULT_TOKEN", token)
	var user any
	app := fx.New(
		fxmodule.Module,
		fx.NopLogger,
		fx.Provide(fx.Annotate(
			func() aead.KEKOpener { return hcvault.Opener{} },
			fx.ResultTags(`group:"kek"`),
		)),
		fx.Supply(fxmodule.Config{Caches: map[string]fxmodule.Cache{
			fxmodule.Default: {Store: "memory://", KEK: keyURI},
		}}),
		fx.Invoke(func(lc fx.Lifecycle, s store.StoreInterface) {
			lc.Append(fx.StartHook(func(ctx context.Context) error {
				if err := s.Set(ctx, "user:42", "alice@example.com"); err != nil {
					return err
				}
				var err error
				user, err = s.Get(ctx, "user:42")
				return err
			}))
		}),
	)
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := app.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(user); got != "alice@example.com" {
		t.Errorf("read %s", got)
	}
}
