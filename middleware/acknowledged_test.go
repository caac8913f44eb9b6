package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	canaries "github.com/sealcache/sealcache/internal/leaktest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/reporttest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// patience bounds the time that a store may take on a busy machine to work again after an outage.
const patience = time.Minute

// overURL returns a redisstore of its own over a server's address, with options as in a URL.
func overURL(t testing.TB, rawURL string, options ...string) *redisstore.Store {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	q := u.Query()
	q.Set("read_timeout", patience.String()) // a command that times out may be sent again
	q.Set("write_timeout", patience.String())
	for _, o := range options {
		k, v, ok := strings.Cut(o, "=")
		require.True(t, ok, o)
		q.Set(k, v)
	}
	u.RawQuery = q.Encode()
	s, err := redisstore.Open(t.Context(), u.String())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func overRedis(t testing.TB, s *redistest.Server, options ...string) *redisstore.Store {
	t.Helper()
	return overURL(t, s.URL(), options...)
}

// within returns a context that bounds a call of a test, so that a hang is a failure.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually calls f until it returns nil.
func eventually(t testing.TB, what string, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			require.NoError(t, err, what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// secretReports holds the reports of a store, none of which may hold a value or the name of a key.
type secretReports struct {
	*reporttest.Reports
	secrets *canaries.Set
}

func newSecretReports(secrets *canaries.Set) *secretReports {
	return &secretReports{reporttest.New(), secrets}
}

// options returns options that make a store report to r.
func (r *secretReports) options() []middleware.Option {
	return []middleware.Option{
		middleware.WithLogger(r.Logger),
		middleware.WithMeterProvider(r.Meters),
		middleware.WithTracerProvider(r.Tracers),
	}
}

// err records an error as an application would print or log it, and returns it.
func (r *secretReports) err(err error) error { return r.Err(err) }

// requireNoSecrets fails if r holds a canary.
func (r *secretReports) requireNoSecrets(t testing.TB) {
	t.Helper()
	for place, said := range r.Places(t) {
		require.Empty(t, r.secrets.Find(said), "in %s: %s", place, said)
	}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}

// keysetFile is a keyset in a file, sealed under a key-encryption key of its own. It is replaced as operators do it: a
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
	k, err := aead.OpenKeyring(t.Context(), aead.FileSource(f.path), f.kek)
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

// oneOf fails unless errors.Is reports true for one of the targets.
func oneOf(t testing.TB, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if errors.Is(err, target) {
			return
		}
	}
	require.Failf(t, "an undocumented error", "%v (%T)", err, err)
}

func countLines(text string) int { return strings.Count(strings.TrimSpace(text), "\n") + 1 }
