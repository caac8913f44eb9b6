package aead_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/internal/sealtest"
)

// memorySource is a Source whose content changes.
type memorySource struct {
	mu    sync.Mutex
	data  []byte
	err   error
	loads int
}

func (s *memorySource) Load(context.Context) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	return bytes.Clone(s.data), s.err
}

func (s *memorySource) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loads
}

func (s *memorySource) set(data []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data, s.err = data, err
}

// sealedKeyset is the keyset of a manager, sealed under kek.
func sealedKeyset(t testing.TB, m *keyset.Manager, kek tink.AEADWithContext) []byte {
	t.Helper()
	h, err := m.Handle()
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := h.WriteWithContext(context.Background(), keyset.NewJSONWriter(&buf), kek, nil); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// reloadable is a Keyring whose keyset the test changes.
type reloadable struct {
	*aead.Keyring
	manager *keyset.Manager
	src     *memorySource
	kek     *aeadtest.KeyService
}

func newReloadable(t *testing.T, opts ...aead.KeyringOption) *reloadable {
	t.Helper()
	r := &reloadable{manager: keyset.NewManager(), src: &memorySource{}, kek: aeadtest.NewKeyService(t)}
	r.rotate(t)
	var err error
	r.Keyring, err = aead.OpenKeyring(t.Context(), r.src, r.kek, append([]aead.KeyringOption{aead.WithLogger(silent())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func (r *reloadable) write(t *testing.T) { r.src.set(sealedKeyset(t, r.manager, r.kek), nil) }

func (r *reloadable) rotate(t *testing.T) uint32 {
	id := addPrimary(t, r.manager)
	r.write(t)
	return id
}

func (r *reloadable) reload(t *testing.T) {
	t.Helper()
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	r := newReloadable(t)
	first := r.Keys()[0].ID
	old, err := r.Encrypt([]byte("old"), nil)
	if err != nil {
		t.Fatal(err)
	}
	second := r.rotate(t)
	r.reload(t)
	fresh, err := r.Encrypt([]byte("new"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, sealed := range [][]byte{old, fresh} {
		if _, err := r.Decrypt(sealed, nil); err != nil {
			t.Errorf("after the reload: %v", err)
		}
	}
	if keys := r.Keys(); len(keys) != 2 || !keys[1].Primary || keys[1].ID != second {
		t.Errorf("%+v", keys)
	}
	if err := r.manager.Delete(first); err != nil {
		t.Fatal(err)
	}
	r.write(t)
	r.reload(t)
	if _, err := r.Decrypt(old, nil); !errors.Is(err, aead.ErrUnknownKey) {
		t.Errorf("under a deleted key: %v", err)
	}
}

func TestReloadKeepsCounting(t *testing.T) {
	t.Parallel()
	r := newReloadable(t)
	for range 10 {
		if _, err := r.Encrypt(nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	before := r.Keys()[0].Messages
	r.rotate(t)
	r.reload(t)
	r.reload(t)
	if after := r.Keys()[0].Messages; after < before {
		t.Errorf("%d messages counted before the reload, %d after", before, after)
	}
}

func TestBrokenKeysetLeavesTheOldInService(t *testing.T) {
	t.Parallel()
	r := newReloadable(t)
	sealed, err := r.Encrypt([]byte("message"), nil)
	if err != nil {
		t.Fatal(err)
	}
	good := bytes.Clone(r.src.data)
	for name, c := range map[string]struct {
		data    []byte
		err     error
		breakIt func()
		want    error
	}{
		"source fails":    {err: os.ErrPermission, want: os.ErrPermission},
		"empty":           {},
		"truncated":       {data: good[:len(good)/2]},
		"of another KEK":  {data: sealedKeyset(t, r.manager, aeadtest.NewKeyService(t)), want: aead.ErrUnauthentic},
		"KEK unavailable": {data: good, breakIt: func() { r.kek.Fail(aeadtest.ErrOutage) }, want: aeadtest.ErrOutage},
	} {
		r.src.set(c.data, c.err)
		if c.breakIt != nil {
			c.breakIt()
		}
		err := r.Reload(t.Context())
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		r.kek.Fail(nil)
		if _, err := r.Decrypt(sealed, nil); err != nil {
			t.Errorf("%s: the old keyset is out of service: %v", name, err)
		}
	}
	r.src.set(good, nil)
	r.reload(t)
	if err := newKeyring(t).Reload(t.Context()); err == nil {
		t.Error("a Keyring without a source says that it was reloaded")
	}
}

func TestReloadHonoursItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReloadable(t)
		r.kek.Gone(true)
		var wg sync.WaitGroup
		for range 3 { // one calls the KEK, the others wait for their turn
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := r.Reload(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
			})
		}
		began := time.Now()
		wg.Wait()
		if time.Since(began) != time.Second {
			t.Errorf("returned after %v", time.Since(began))
		}
	})
}

// A KEK that ignores its context holds up neither a reload nor Close, and its calls do not pile up.
func TestReloadWithDeafKeyService(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := newHangingService(t)
		m := keyset.NewManager()
		addPrimary(t, m)
		src := &memorySource{}
		src.set(sealedKeyset(t, m, service), nil)
		k, err := aead.OpenKeyring(t.Context(), src, service, aead.WithReload(time.Second), aead.WithLogger(silent()))
		if err != nil {
			t.Fatal(err)
		}
		addPrimary(t, m)
		changed := sealedKeyset(t, m, service)
		service.hangs.Store(true)
		src.set(changed, nil)
		time.Sleep(time.Hour)
		if n := service.unwraps.Load(); n < 2 || n > aead.WrapParallel {
			t.Errorf("%d calls are stuck after an hour, want at most %d", n, aead.WrapParallel)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := k.Reload(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 21*time.Second {
			t.Errorf("Reload: %v after %v", err, time.Since(began))
		}
		began = time.Now()
		if err := k.Close(); err != nil || time.Since(began) > time.Second {
			t.Errorf("Close: %v after %v", err, time.Since(began))
		}
		close(service.letGo)
	})
}

func TestWithReloadPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReloadable(t, aead.WithReload(time.Minute), aead.WithKEKCheck(1000*time.Hour))
		time.Sleep(time.Hour)
		if n := r.kek.Decrypts(); n != 1 {
			t.Errorf("%d calls to the KEK for a keyset that did not change", n-1)
		}
		r.src.set(nil, os.ErrNotExist) // the volume is remounted
		time.Sleep(90 * time.Second)
		r.rotate(t)
		time.Sleep(time.Minute)
		if n := len(r.Keys()); n != 2 {
			t.Errorf("%d keys: the change was not noticed within the interval", n)
		}
		loads := r.src.count()
		time.Sleep(time.Hour)
		if n := r.src.count() - loads; n < 58 || n > 62 {
			t.Errorf("the source was read %d times in an hour, every minute was asked for", n)
		}
	})
}

// writeFile replaces a file as it should be done.
func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	sealtest.Within(t, time.Minute, what, condition)
}

func TestWatchedFile(t *testing.T) {
	t.Parallel()
	// Each way of changing the file returns how to change it.
	for name, prepare := range map[string]func(t *testing.T, dir string, first []byte) (path string, change func([]byte)){
		"renamed over": func(t *testing.T, dir string, first []byte) (string, func([]byte)) {
			path := filepath.Join(dir, "keyset.json")
			writeFile(t, path, first)
			return path, func(data []byte) { writeFile(t, path, data) }
		},
		"rewritten": func(t *testing.T, dir string, first []byte) (string, func([]byte)) {
			path := filepath.Join(dir, "keyset.json")
			write := func(data []byte) {
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(first)
			return path, write
		},
		"Kubernetes volume": func(t *testing.T, dir string, first []byte) (string, func([]byte)) {
			// keyset.json -> ..data/keyset.json, ..data -> ..1; a change swaps ..data for a link to ..2.
			version := 0
			write := func(data []byte) {
				version++
				sub := fmt.Sprintf("..%d", version)
				if err := errors.Join(
					os.Mkdir(filepath.Join(dir, sub), 0o700),
					os.WriteFile(filepath.Join(dir, sub, "keyset.json"), data, 0o600),
					os.Symlink(sub, filepath.Join(dir, "..tmp")),
					os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")),
				); err != nil {
					t.Fatal(err)
				}
			}
			write(first)
			path := filepath.Join(dir, "keyset.json")
			if err := os.Symlink(filepath.Join("..data", "keyset.json"), path); err != nil {
				t.Fatal(err)
			}
			return path, write
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kek := newKeyring(t)
			m := keyset.NewManager()
			addPrimary(t, m)
			path, change := prepare(t, t.TempDir(), sealedKeyset(t, m, kek))
			// An hour: only the watch can notice.
			k, err := aead.OpenKeyring(t.Context(), aead.FileSource(path), kek, aead.WithReload(time.Hour), aead.WithLogger(silent()))
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			for n := 2; n <= 4; n++ {
				id := addPrimary(t, m)
				change(sealedKeyset(t, m, kek))
				eventually(t, fmt.Sprintf("key %d of the keyset", n), func() bool {
					keys := k.Keys()
					return len(keys) == n && keys[n-1].ID == id && keys[n-1].Primary
				})
			}
		})
	}
}

// A file is read again without an option, and WithoutReload turns that off.
func TestFileSourceReloadsByDefault(t *testing.T) {
	t.Parallel()
	kek := newKeyring(t)
	m := keyset.NewManager()
	addPrimary(t, m)
	path := filepath.Join(t.TempDir(), "keyset.json")
	writeFile(t, path, sealedKeyset(t, m, kek))
	open := func(opts ...aead.KeyringOption) *aead.Keyring {
		t.Helper()
		k, err := aead.OpenKeyring(t.Context(), aead.FileSource(path), kek, append(opts, aead.WithLogger(silent()))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { k.Close() })
		return k
	}
	reader, frozen := open(), open(aead.WithoutReload())
	addPrimary(t, m)
	writeFile(t, path, sealedKeyset(t, m, kek))
	sealed, err := open().Encrypt([]byte("message"), nil) // as another process that has the new key already
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new key", func() bool {
		_, err := reader.Decrypt(sealed, nil)
		return err == nil
	})
	if _, err := frozen.Decrypt(sealed, nil); !errors.Is(err, aead.ErrUnknownKey) {
		t.Errorf("WithoutReload: %v", err)
	}
	if err := frozen.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := frozen.Decrypt(sealed, nil); err != nil {
		t.Errorf("after Reload: %v", err)
	}
}

// Ten thousand goroutines seal and open while the keyset is rotated, broken and mended.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyset.json")
	kek := newKeyring(t)
	m := keyset.NewManager()
	addPrimary(t, m)
	writeFile(t, path, sealedKeyset(t, m, kek))
	ring, err := aead.OpenKeyring(t.Context(), aead.FileSource(path), kek, aead.WithReload(time.Hour), aead.WithLogger(silent()))
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	e := newEnvelope(t, ring)
	before := seal(t, e, "before")

	var ended atomic.Bool
	var wg, started sync.WaitGroup
	started.Add(10_000)
	for i := range 10_000 {
		wg.Go(func() {
			plaintext := fmt.Appendf(nil, "message %d", i)
			for first := true; first || i < 8 && !ended.Load(); first = false {
				for _, a := range []tink.AEADWithContext{e, ring} {
					sealed, err := a.EncryptWithContext(t.Context(), plaintext, nil)
					if err != nil {
						t.Errorf("seal: %v", err)
						break
					}
					if got, err := a.DecryptWithContext(t.Context(), sealed, nil); err != nil || !bytes.Equal(got, plaintext) {
						t.Errorf("open: %v", err)
					}
				}
				if first {
					started.Done()
				}
			}
		})
	}
	for i := range 20 {
		addPrimary(t, m)
		data := sealedKeyset(t, m, kek)
		if err := os.WriteFile(path, data[:len(data)/(i%5+2)], 0o600); err != nil { // truncated
			t.Fatal(err)
		}
		if err := ring.Reload(t.Context()); err == nil {
			t.Error("a truncated keyset was accepted")
		}
		writeFile(t, path, data)
		if err := ring.Reload(t.Context()); err != nil {
			t.Errorf("reload: %v", err)
		}
	}
	started.Wait()
	ended.Store(true)
	wg.Wait()
	open(t, e, before)
	sealed := seal(t, e, "after")
	if !bytes.Contains([]byte(header(t, sealed)), prefixOf(ring)) {
		t.Error("new messages do not use the new primary key")
	}
}

// prefixOf is how a ciphertext under the primary key begins.
func prefixOf(k *aead.Keyring) []byte {
	for _, info := range k.Keys() {
		if info.Primary {
			return []byte{1, byte(info.ID >> 24), byte(info.ID >> 16), byte(info.ID >> 8), byte(info.ID)}
		}
	}
	return nil
}
