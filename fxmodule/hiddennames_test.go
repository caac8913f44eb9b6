package fxmodule_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/prf"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
)

// The settings of a cache reach its store: names are hidden, the expiry is sealed, values are compressed and padded.
func TestHiddenNamesAndPacking(t *testing.T) {
	t.Parallel()
	kek := sealtest.KEKFile(t)
	set := sealtest.KeysetFile(t, kek, prf.HMACSHA256PRFKeyTemplate())
	for name, c := range map[string]fxmodule.Cache{"hidden": {HiddenKeys: set, CompressFast: true}, "one way": {OneWayKeys: set}} {
		backing := newMemory(t)
		c.KEK, c.Namespace, c.TTL, c.SealedExpiry, c.CompressMinBytes, c.Padding = kek, "ns", time.Hour, true, 512, true
		var sealed *middleware.Store
		start(t, decorated(one(c), backing, fx.Populate(&sealed)))
		require.NoError(t, sealed.Set(t.Context(), "token", strings.Repeat(canary, 200)))
		found := 0
		for stored, err := range backing.Keys(t.Context(), "ns:") {
			require.NoError(t, err)
			require.NotContains(t, stored, "token")
			if strings.HasSuffix(stored, "key-check") {
				continue
			}
			found++
			b, err := backing.GetBytes(t.Context(), stored)
			require.NoError(t, err)
			info, err := middleware.Inspect(b)
			require.NoError(t, err)
			require.True(t, info.Hidden && info.Expires && info.Compressed && info.Padded, name)
			require.Equal(t, name == "hidden", info.Named)
		}
		require.Equal(t, 1, found)
	}
	bad := fxmodule.Cache{Store: "memory://", KEK: kek, HiddenKeys: "/nowhere"}
	require.ErrorContains(t, newApp(one(bad)).Err(), "hidden_keys")
}
