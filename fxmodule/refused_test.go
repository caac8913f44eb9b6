package fxmodule_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
)

// A lock of another process is under a key that this process has loaded as disabled. The key was enabled again since. The
// cache reloads the keyset before it replaces a refused entry, so the lock keeps its one holder.
func TestARefusedLockIsReloadedFirst(t *testing.T) {
	t.Parallel()
	enabled, old, _ := sealtest.Rotated(t, sealtest.Handle(t))
	m := keyset.NewManagerFromHandle(enabled)
	require.NoError(t, m.Disable(old))
	disabled, err := m.Handle()
	require.NoError(t, err)
	m = keyset.NewManagerFromHandle(enabled)
	require.NoError(t, m.SetPrimary(old))
	enabled, err = m.Handle()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "kek.json")
	write := func(h *keyset.Handle) {
		var b bytes.Buffer
		require.NoError(t, insecurecleartextkeyset.Write(&b, h))
		require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	}
	write(disabled)
	backing := newMemory(t)
	var got *middleware.Store
	start(t, decorated(one(fxmodule.Cache{KEK: "file://" + path + "?reload=off", Namespace: "ns", MissOnOpenFailure: true}), backing, fx.Populate(&got)))

	other, err := middleware.New(backing, sealtest.EnvelopeOf(t, sealtest.KeyringOf(t, enabled)), middleware.WithNamespace("ns"))
	require.NoError(t, err)
	written, err := other.SetIfNotExists(t.Context(), "lock", "theirs")
	require.NoError(t, err)
	require.True(t, written)
	write(enabled)
	written, err = got.SetIfNotExists(t.Context(), "lock", "mine")
	require.NoError(t, err)
	require.False(t, written, "two holders")
}
