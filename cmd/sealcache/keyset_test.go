package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

func sealedKeyset(t *testing.T) (*keysetFile, *aeadtest.KeyService) {
	t.Helper()
	service := aeadtest.NewKeyService(t)
	var b bytes.Buffer
	require.NoError(t, aead.CreateKeyset(t.Context(), &b, service, tinkaead.AES256GCMKeyTemplate()))
	path := filepath.Join(t.TempDir(), "keyset.json")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	return &keysetFile{path: path, kek: service, to: service}, service
}

func oneMore(m *keyset.Manager, _ *keysetView) error {
	_, err := m.Add(tinkaead.AES256GCMKeyTemplate())
	return err
}

// The file keeps its mode, and a symbolic link stays one. Only the file of key times is left next to it.
func TestChangeKeysetKeepsTheFile(t *testing.T) {
	t.Parallel()
	k, _ := sealedKeyset(t)
	require.NoError(t, os.Chmod(k.path, 0o640))
	link := filepath.Join(t.TempDir(), "link.json")
	require.NoError(t, os.Symlink(k.path, link))
	view, err := (&keysetFile{path: link, kek: k.kek, to: k.to}).change(t.Context(), oneMore)
	require.NoError(t, err)
	require.Len(t, view.keys, 2)
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&os.ModeSymlink)
	info, err = os.Stat(k.path)
	require.NoError(t, err)
	if runtime.GOOS != "windows" {
		require.Equal(t, os.FileMode(0o640), info.Mode())
	}
	require.Equal(t, []string{"keyset.json", "keyset.json.times"}, namesIn(t, filepath.Dir(k.path)))
	ring, err := aead.OpenKeyring(t.Context(), aead.FileSource(k.path), k.kek)
	require.NoError(t, err)
	require.Len(t, ring.Keys(), 2)
	require.NoError(t, ring.Close())
}

// A failure leaves the keyset as it was, to the byte, and nothing next to it.
func TestChangeKeysetFails(t *testing.T) {
	t.Parallel()
	for name, attempt := range map[string]func(t *testing.T, k *keysetFile, service *aeadtest.KeyService) (want []byte, err error){
		"changed during the command": func(t *testing.T, k *keysetFile, _ *aeadtest.KeyService) ([]byte, error) {
			t.Helper()
			other, err := os.ReadFile(k.path)
			require.NoError(t, err)
			other = append(other, '\n')
			_, err = k.change(t.Context(), func(m *keyset.Manager, _ *keysetView) error {
				require.NoError(t, os.WriteFile(k.path, other, 0o600))
				return oneMore(m, nil)
			})
			require.ErrorContains(t, err, "another program has just changed")
			return other, err
		},
		"a second change": func(t *testing.T, k *keysetFile, _ *aeadtest.KeyService) (want []byte, err error) {
			t.Helper()
			_, err = k.change(t.Context(), func(m *keyset.Manager, _ *keysetView) error {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				_, err := k.change(ctx, oneMore)
				require.ErrorIs(t, err, errBusy)
				return errors.New("given up")
			})
			require.ErrorContains(t, err, "given up")
			return nil, err
		},
		"the KEK fails to seal": func(t *testing.T, k *keysetFile, service *aeadtest.KeyService) ([]byte, error) {
			t.Helper()
			_, err := k.change(t.Context(), func(m *keyset.Manager, _ *keysetView) error {
				service.Fail(aeadtest.ErrOutage)
				return oneMore(m, nil)
			})
			require.ErrorIs(t, err, aeadtest.ErrOutage)
			return nil, err
		},
		"the KEK fails to open": func(t *testing.T, k *keysetFile, service *aeadtest.KeyService) ([]byte, error) {
			t.Helper()
			service.Fail(aeadtest.ErrOutage)
			_, err := k.change(t.Context(), oneMore)
			require.ErrorIs(t, err, aeadtest.ErrOutage)
			return nil, err
		},
		"what is written does not open": func(t *testing.T, k *keysetFile, _ *aeadtest.KeyService) ([]byte, error) {
			t.Helper()
			_, err := (&keysetFile{path: k.path, kek: k.kek, to: aead.WithContext(broken{})}).change(t.Context(), oneMore)
			require.ErrorContains(t, err, "the new keyset cannot be opened")
			return nil, err
		},
		"a wrong change": func(t *testing.T, k *keysetFile, _ *aeadtest.KeyService) ([]byte, error) {
			t.Helper()
			_, err := k.change(t.Context(), func(m *keyset.Manager, now *keysetView) error { return m.Delete(now.primary().ID) })
			return nil, err
		},
		"a plaintext keyset": func(t *testing.T, k *keysetFile, service *aeadtest.KeyService) ([]byte, error) {
			t.Helper()
			var b bytes.Buffer
			require.NoError(t, insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()))
			require.NoError(t, os.WriteFile(k.path, b.Bytes(), 0o600))
			_, err := k.change(t.Context(), oneMore)
			require.ErrorContains(t, err, "plaintext")
			return b.Bytes(), err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k, service := sealedKeyset(t)
			before, err := os.ReadFile(k.path)
			require.NoError(t, err)
			want, err := attempt(t, k, service)
			require.Error(t, err)
			if want == nil {
				want = before
			}
			after, err := os.ReadFile(k.path)
			require.NoError(t, err)
			require.Equal(t, string(want), string(after))
			files, err := os.ReadDir(filepath.Dir(k.path))
			require.NoError(t, err)
			require.Len(t, files, 1)
		})
	}
}

// The error reports that the keyset was changed. The change may be repeated, so the error does not forbid that.
func TestChangeKeysetWithoutTimes(t *testing.T) {
	t.Parallel()
	for name, prevent := range map[string]func(times string) error{
		"no file can be created": func(times string) error {
			return os.Symlink(filepath.Join(filepath.Dir(times), "missing", "x"), times+".new")
		},
	} {
		k, _ := sealedKeyset(t)
		view, err := k.change(t.Context(), oneMore)
		require.NoError(t, err, name)
		require.NoError(t, prevent(timesFile(k.path)), name)
		next := view.keys[1].ID
		_, err = k.change(t.Context(), func(m *keyset.Manager, _ *keysetView) error { return m.SetPrimary(next) })
		require.ErrorIs(t, err, errTimesNotSaved, name)
		require.Equal(t, exitFailed, statusOf(err), "%s: something was changed", name)
		require.NotContains(t, err.Error(), "do not repeat", name)
		require.Contains(t, err.Error(), timesFile(k.path), name)
		require.NotContains(t, err.Error(), ".new", "%s: a temporary name", name)
		ring, err := aead.OpenKeyring(t.Context(), aead.FileSource(k.path), k.kek)
		require.NoError(t, err, name)
		require.Equal(t, next, ring.Keys()[1].ID, name)
		require.True(t, ring.Keys()[1].Primary, name)
		require.NoError(t, ring.Close(), name)
	}
}

// A newer release may note in the times that a key must stay. The change would drop that.
func TestChangeKeysetWithNewerTimes(t *testing.T) {
	t.Parallel()
	k, _ := sealedKeyset(t)
	_, err := k.change(t.Context(), oneMore)
	require.NoError(t, err)
	times, err := os.ReadFile(timesFile(k.path))
	require.NoError(t, err)
	times = bytes.Replace(times, []byte(`"schema": 1`), []byte(`"schema": 2`), 1)
	require.NoError(t, os.WriteFile(timesFile(k.path), times, 0o600))
	before, err := os.ReadFile(k.path)
	require.NoError(t, err)
	_, err = k.change(t.Context(), oneMore)
	require.EqualError(t, err, "the keyset was not changed, because a newer release wrote the file "+timesFile(k.path)+" (use that release)")
	for path, want := range map[string][]byte{k.path: before, timesFile(k.path): times} {
		got, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
	}
}

// broken seals to what it does not open.
type broken struct{}

func (broken) Encrypt([]byte, []byte) ([]byte, error) { return []byte("not a keyset at all"), nil }
func (broken) Decrypt([]byte, []byte) ([]byte, error) { return nil, errors.New("no") }

func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

// ids are those of a keyset's keys, in its order.
func ids(t *testing.T, file string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	var all []string
	for _, m := range regexp.MustCompile(`"keyId": *([0-9]+)`).FindAllStringSubmatch(string(data), -1) {
		all = append(all, m[1])
	}
	return all
}
