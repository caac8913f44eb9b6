package middleware_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
)

// keysetFile is a keyset in a file, sealed under a separate key-encryption key. It is replaced as operators do it: a
// new file is renamed over the old one.
type keysetFile struct {
	path    string
	kek     *aead.Keyring
	manager *keyset.Manager
}

func newKeysetFile(t testing.TB) *keysetFile {
	t.Helper()
	f := &keysetFile{path: filepath.Join(t.TempDir(), "keyset.json"), kek: keyring(t), manager: keyset.NewManager()}
	f.rotate(t)
	return f
}

// rotate adds a key, makes it the primary one, replaces the file, and returns the key's id.
func (f *keysetFile) rotate(t testing.TB) uint32 {
	t.Helper()
	id, err := f.manager.Add(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	require.NoError(t, f.manager.SetPrimary(id))
	h, err := f.manager.Handle()
	require.NoError(t, err)
	var buf bytes.Buffer
	require.NoError(t, h.WriteWithContext(t.Context(), keyset.NewJSONWriter(&buf), f.kek, nil))
	next := f.path + ".next"
	require.NoError(t, os.WriteFile(next, buf.Bytes(), 0o600))
	require.NoError(t, os.Rename(next, f.path))
	return id
}

func (f *keysetFile) open(t testing.TB) *aead.Keyring {
	t.Helper()
	k, err := aead.OpenKeyring(t.Context(), aead.FileSource(f.path), f.kek, aead.WithoutReload()) // tests reload it when they say so
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, k.Close()) })
	return k
}

// sealedUnder returns the id of the key that sealed a stored value, or that wrapped its data key.
func sealedUnder(t testing.TB, backing store.StoreInterface, key string) uint32 {
	t.Helper()
	stored, err := backing.Get(t.Context(), key)
	require.NoError(t, err)
	if s, ok := stored.(string); ok {
		stored = []byte(s)
	}
	info, err := middleware.Inspect(stored.([]byte))
	require.NoError(t, err)
	require.True(t, info.Key.HasID)
	return info.Key.ID
}
