package fxmodule_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/prf"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/sessions"
)

func TestSessions(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	set := sealtest.KeysetFile(t, kek, prf.HMACSHA256PRFKeyTemplate())
	config := fxmodule.Config{Caches: map[string]fxmodule.Cache{
		"default": {Store: "memory://", KEK: kek, Namespace: "shop"},
		"web":     {Store: "memory://", KEK: kek, Namespace: "web", OneWayKeys: set},
	}}
	var s *sessions.Store
	start(t, newApp(config, fxmodule.Sessions("web", sessions.WithIdleTimeout(time.Hour)), fx.Populate(&s)))
	require.NoError(t, s.CommitCtx(t.Context(), "token", []byte("data"), time.Now().Add(time.Hour)))
	data, found, err := s.FindCtx(t.Context(), "token")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, []byte("data"), data)

	require.ErrorContains(t, newApp(config, fxmodule.Sessions("default"), fx.Populate(&s)).Err(), "WithOneWayKeys")
	require.Error(t, newApp(config, fxmodule.Sessions("missing"), fx.Populate(&s)).Err())
	require.Error(t, newApp(config, fxmodule.Sessions("")).Err())
}
