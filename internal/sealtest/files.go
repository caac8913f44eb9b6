package sealtest

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

// KEKFile writes a KEK as a platform mounts it, and returns its URI.
func KEKFile(t testing.TB) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()))
	return "file://" + writeFile(t, b.Bytes())
}

// KeysetFile writes a keyset that is sealed under the KEK of a URI, and returns its path.
func KeysetFile(t testing.TB, kekURI string, template *tinkpb.KeyTemplate, opts ...aead.KeyringOption) string {
	t.Helper()
	kek, err := aead.OpenKEK(context.Background(), kekURI+"?reload=off")
	require.NoError(t, err)
	defer kek.Close()
	var b bytes.Buffer
	require.NoError(t, aead.CreateKeyset(context.Background(), &b, kek, template, opts...))
	return writeFile(t, b.Bytes())
}

func writeFile(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyset.json")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

// WithNewPrimary returns the plaintext keyset of a file with one more key, the primary one.
func WithNewPrimary(t testing.TB, path string) []byte {
	t.Helper()
	handle, err := insecurecleartextkeyset.Handle(context.Background(), aead.FileSource(path))
	require.NoError(t, err)
	manager := keyset.NewManagerFromHandle(handle)
	id, err := manager.Add(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	require.NoError(t, manager.SetPrimary(id))
	handle, err = manager.Handle()
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, insecurecleartextkeyset.Write(&b, handle))
	return b.Bytes()
}

// Logs collects log lines. It is safe for concurrent use.
type Logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends p.
func (l *Logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns the lines so far.
func (l *Logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Logger returns a logger that writes every level to l as text.
func (l *Logs) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
