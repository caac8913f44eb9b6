package aead_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/internal/sealtest"
)

// A KEK that refuses the keyset takes it out of service, without a reload: in the Keyring and in what stands on it.
func TestRefusedKeysetStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := aeadtest.NewKeyService(t)
		var data bytes.Buffer
		if err := aead.CreateKeyset(t.Context(), &data, service, tinkaead.AES256GCMKeyTemplate()); err != nil {
			t.Fatal(err)
		}
		var log sealtest.Logs
		k, err := aead.OpenKeyring(t.Context(), aead.BytesSource(data.Bytes()), service, aead.WithKEKCheck(10*time.Minute),
			aead.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		e := newEnvelope(t, k)
		direct, err := k.Encrypt([]byte("message"), nil)
		if err != nil {
			t.Fatal(err)
		}
		value := seal(t, e, "message")

		service.Fail(aeadtest.ErrOutage)
		time.Sleep(time.Hour)
		if _, err := k.Decrypt(direct, nil); err != nil {
			t.Errorf("an outage stopped the keyring: %v", err)
		}
		service.Fail(nil)
		service.Refuse(true)
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		for name, err := range map[string]error{
			"open":            second(k.Decrypt(direct, nil)),
			"seal":            second(k.Encrypt(nil, nil)),
			"open a value":    second(e.DecryptWithContext(t.Context(), value, nil)),
			"the check":       k.Check(),
			"seal a value":    second(e.EncryptWithContext(t.Context(), []byte("x"), nil)),
			"open in service": second(k.OpenTo(t.Context(), nil, direct, nil)),
		} {
			if !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) {
				t.Errorf("%s under a refused keyset: %v", name, err)
			}
		}
		if n := k.Stats().KEKRefusals; n != 1 {
			t.Errorf("%d refusals counted", n)
		}
		if len(k.Keys()) != 0 || k.Overhead() != 0 || k.String() == "" {
			t.Error("a refused keyset lists keys")
		}

		if err := k.Reload(t.Context()); err == nil {
			t.Error("a refused keyset was reloaded")
		}
		if !strings.Contains(log.String(), "the KEK refuses the old one") || strings.Contains(log.String(), "the old keyset stays in use") {
			t.Errorf("the log names a keyset in service:\n%s", log.String())
		}

		service.Refuse(false)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if _, err := e.DecryptWithContext(t.Context(), seal(t, e, "again"), nil); err != nil {
			t.Errorf("the envelope does not seal again: %v", err)
		}
		if _, err := k.Decrypt(direct, nil); err != nil || k.Check() != nil {
			t.Errorf("after the KEK opens the keyset again: %v, %v", err, k.Check())
		}
	})
}

// A keyset of other keys goes into service, since it may be meant. It is an error in the log and the check until one of
// the former keys is back.
func TestUnrelatedKeysetIsReported(t *testing.T) {
	t.Parallel()
	var log sealtest.Logs
	r := newReloadable(t, aead.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	right := sealedKeyset(t, r.manager, r.kek)
	wrong := func() []byte {
		m := keyset.NewManager()
		addPrimary(t, m)
		return sealedKeyset(t, m, r.kek)
	}
	for i := range 2 {
		r.src.set(wrong(), nil)
		r.reload(t)
		if n := r.Stats().UnrelatedKeysets; n != uint64(i+1) {
			t.Errorf("%d unrelated keysets counted, want %d", n, i+1)
		}
		if err := r.Check(); err == nil {
			t.Error("the check passes with an unrelated keyset in service")
		}
	}
	if !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("log: %s", log.String())
	}
	r.src.set(right, nil)
	r.reload(t)
	if err := r.Check(); err != nil {
		t.Errorf("after the right keyset came back: %v", err)
	}
	r.rotate(t) // a key is added: one is shared
	r.write(t)
	r.reload(t)
	if err := r.Check(); err != nil || r.Stats().UnrelatedKeysets != 2 {
		t.Errorf("after a rotation: %v, %d", err, r.Stats().UnrelatedKeysets)
	}
}

// hungSource ignores its context, as a file on a hung mount does.
type hungSource struct {
	memorySource
	hang chan struct{} // nil: answers
}

func (s *hungSource) Load(ctx context.Context) ([]byte, error) {
	s.mu.Lock()
	hang := s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return s.memorySource.Load(ctx)
}

func (s *hungSource) setHang(hang chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hang = hang
}

func TestHungSourceIsAbandoned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kek := aeadtest.NewKeyService(t)
		m := keyset.NewManager()
		addPrimary(t, m)
		src := &hungSource{}
		src.set(sealedKeyset(t, m, kek), nil)
		k, err := aead.OpenKeyring(t.Context(), src, kek, aead.WithReload(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		hang := make(chan struct{})
		defer close(hang)
		src.setHang(hang)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := k.Reload(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 2*time.Second {
			t.Errorf("reload of a hung source: %v after %v", err, time.Since(began))
		}
		if err := k.Reload(t.Context()); err == nil || time.Since(began) > 30*time.Second {
			t.Errorf("reload without a deadline: %v after %v", err, time.Since(began))
		}
		if _, err := k.Encrypt(nil, nil); err != nil {
			t.Errorf("the old keyset is out of service: %v", err)
		}
		// The source answers again, while the abandoned readings still hang.
		src.setHang(nil)
		addPrimary(t, m)
		src.set(sealedKeyset(t, m, kek), nil)
		if err := k.Reload(t.Context()); err != nil || len(k.Keys()) != 2 {
			t.Errorf("after the source answers again: %v, %d keys", err, len(k.Keys()))
		}
		src.setHang(hang)
		reloading := make(chan error)
		go func() { reloading <- k.Reload(context.Background()) }()
		synctest.Wait()
		began = time.Now()
		if err := k.Close(); err != nil || time.Since(began) > time.Second {
			t.Errorf("close behind a hung source: %v after %v", err, time.Since(began))
		}
		if err := <-reloading; err == nil {
			t.Error("the reload that Close ended reports success")
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := aead.OpenKeyring(ctx, src, kek); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("open a hung source: %v", err)
		}
	})
}

func TestKeysetName(t *testing.T) {
	t.Parallel()
	kek := aeadtest.NewKeyService(t)
	create := func(opts ...aead.KeyringOption) aead.Source {
		var b bytes.Buffer
		if err := aead.CreateKeyset(t.Context(), &b, kek, tinkaead.AES256GCMKeyTemplate(), opts...); err != nil {
			t.Fatal(err)
		}
		return aead.BytesSource(b.Bytes())
	}
	openWith := func(src aead.Source, opts ...aead.KeyringOption) (string, error) {
		var log sealtest.Logs
		k, err := aead.OpenKeyring(t.Context(), src, kek, append(opts, aead.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))...)
		if err == nil {
			err = errors.Join(k.Reload(t.Context()), k.Close())
		}
		return log.String(), err
	}
	shop, plain := create(aead.WithKeysetName("shop")), create()
	if log, err := openWith(shop, aead.WithKeysetName("shop")); err != nil || strings.Contains(log, "WARN") {
		t.Errorf("the right name: %v, %s", err, log)
	}
	for name, opts := range map[string][]aead.KeyringOption{"another name": {aead.WithKeysetName("bank")}, "no name": nil} {
		if _, err := openWith(shop, opts...); !errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if log, err := openWith(plain, aead.WithKeysetName("shop")); err != nil || !strings.Contains(log, "not bound to its name") {
		t.Errorf("a keyset without a name: %v, %s", err, log)
	}
	for _, name := range []string{"", "a b", strings.Repeat("x", 65), "a\x00"} {
		if err := aead.CreateKeyset(t.Context(), &bytes.Buffer{}, kek, tinkaead.AES256GCMKeyTemplate(), aead.WithKeysetName(name)); err == nil {
			t.Errorf("name %q was accepted", name)
		}
	}
	prfs := func() aead.Source {
		var b bytes.Buffer
		if err := aead.CreateKeyset(t.Context(), &b, kek, prf.HMACSHA256PRFKeyTemplate(), aead.WithKeysetName("shop")); err != nil {
			t.Fatal(err)
		}
		return aead.BytesSource(b.Bytes())
	}()
	if _, err := aead.OpenPRF(t.Context(), prfs, kek, aead.WithKeysetName("bank")); !errors.Is(err, aead.ErrUnauthentic) {
		t.Errorf("PRF keys of another name: %v", err)
	}
}

// A key file in plaintext that others can read or change is opened with a warning, as ssh gives one.
func TestModeOfPlaintextKeyFiles(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		return // its modes do not say who may read a file
	}
	path := filepath.Join(t.TempDir(), "kek.json")
	var b bytes.Buffer
	if err := insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	for mode, warns := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: false, 0o644: true, 0o666: true, 0o660: true, 0o604: true} {
		writeFile(t, path, b.Bytes())
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var log sealtest.Logs
		k, err := insecurecleartextkeyset.OpenKeyring(t.Context(), aead.FileSource(path), aead.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "0600)\" path="+path); got != warns {
			t.Errorf("mode %o: warned %v", mode, got)
		}
	}
}

// The file that replaces a key file at a reload is checked as the first one was.
func TestModeOfReloadedKeyFile(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		return
	}
	path := filepath.Join(t.TempDir(), "kek.json")
	create := func(mode os.FileMode) {
		t.Helper()
		var b bytes.Buffer
		if err := insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, b.Bytes())
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	create(0o600)
	var log sealtest.Logs
	k, err := insecurecleartextkeyset.OpenKeyring(t.Context(), aead.FileSource(path), aead.WithoutReload(), aead.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	create(0o644)
	if err := k.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "other users") {
		t.Errorf("no warning: %s", log.String())
	}
}

// A byte order mark before JSON is skipped, and a disabled primary key is named. Neither is a broken file.
func TestPlaintextKeysetForms(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"a byte order mark":           append([]byte("\ufeff"), b.Bytes()...),
		"a byte order mark and space": append([]byte("\ufeff \r\n"), b.Bytes()...),
		"a space and byte order mark": append([]byte("\n\ufeff"), b.Bytes()...),
	} {
		src := aead.BytesSource(data)
		if k, err := insecurecleartextkeyset.OpenKeyring(t.Context(), src); err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			_ = k.Close()
		}
		if _, err := insecurecleartextkeyset.Handle(t.Context(), src); err != nil {
			t.Errorf("%s: Handle: %v", name, err)
		}
	}
	disabled := aead.BytesSource(bytes.ReplaceAll(b.Bytes(), []byte("ENABLED"), []byte("DISABLED")))
	for name, err := range map[string]error{
		"OpenKeyring": second(insecurecleartextkeyset.OpenKeyring(t.Context(), disabled)),
		"Handle":      second(insecurecleartextkeyset.Handle(t.Context(), disabled)),
	} {
		if err == nil || !strings.Contains(err.Error(), "is not enabled") {
			t.Errorf("%s of a keyset whose only key is disabled: %v", name, err)
		}
	}
}

// A keyset that is mounted while the former one is refused is compared with it, too.
func TestUnrelatedKeysetAfterARefusalIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newReloadable(t, aead.WithKEKCheck(time.Minute))
		r.kek.Refuse(true)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		r.kek.Refuse(false)
		m := keyset.NewManager()
		addPrimary(t, m)
		r.src.set(sealedKeyset(t, m, r.kek), nil)
		r.reload(t)
		if err := r.Check(); err == nil || r.Stats().UnrelatedKeysets != 1 {
			t.Errorf("an unrelated keyset after a refusal: %v, %d counted", err, r.Stats().UnrelatedKeysets)
		}
	})
}

// A member of a KEKSet that is a refused Keyring decides nothing while another member does not answer. Once that one refuses, too,
// the keyset goes out of service.
func TestOutageOfOneMemberBesideARefusedKeyring(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inner := newReloadable(t, aead.WithKEKCheck(time.Minute))
		service := aeadtest.NewKeyService(t)
		var data bytes.Buffer
		if err := aead.CreateKeyset(t.Context(), &data, service, tinkaead.AES256GCMKeyTemplate()); err != nil {
			t.Fatal(err)
		}
		k, err := aead.OpenKeyring(t.Context(), aead.BytesSource(data.Bytes()), newKEKSet(t, inner, newKEKSet(t, service)),
			aead.WithKEKCheck(time.Minute), aead.WithLogger(silent()))
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		e := newEnvelope(t, newKEKSet(t, k))
		value := seal(t, e, "message")

		service.Fail(aeadtest.ErrOutage)
		inner.kek.Refuse(true)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if inner.Check() == nil {
			t.Fatal("the inner keyring is in service")
		}
		if err := k.Check(); err != nil || k.Stats().KEKRefusals != 0 {
			t.Errorf("an outage counts as a refusal: %v", err)
		}
		open(t, e, value)

		service.Fail(nil)
		service.Refuse(true)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if k.Check() == nil || k.Stats().KEKRefusals != 1 {
			t.Errorf("no member opens the keyset, and it is in service: %d refusals", k.Stats().KEKRefusals)
		}
	})
}

// flappingService is down while it is asked with a name, and back when it is asked without one.
type flappingService struct {
	*aeadtest.KeyService
	down atomic.Bool
}

func (f *flappingService) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if f.down.Load() && len(associatedData) > 0 {
		return nil, aeadtest.ErrOutage
	}
	return f.KeyService.DecryptWithContext(ctx, ciphertext, associatedData)
}

// Members that refuse a keyset without its name say nothing about the keyset with its name. A member may have been down for the first
// question only.
func TestRefusalWithoutNameAfterAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inner := newReloadable(t, aead.WithKEKCheck(time.Minute))
		service := &flappingService{KeyService: aeadtest.NewKeyService(t)}
		var data bytes.Buffer
		if err := aead.CreateKeyset(t.Context(), &data, service, tinkaead.AES256GCMKeyTemplate(), aead.WithKeysetName("shop")); err != nil {
			t.Fatal(err)
		}
		k, err := aead.OpenKeyring(t.Context(), aead.BytesSource(data.Bytes()), newKEKSet(t, inner, service),
			aead.WithKeysetName("shop"), aead.WithKEKCheck(time.Minute), aead.WithLogger(silent()))
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		inner.kek.Refuse(true)
		service.down.Store(true)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if inner.Check() == nil {
			t.Fatal("the inner keyring is in service")
		}
		if err := k.Check(); err != nil {
			t.Errorf("an outage counts as a refusal: %v", err)
		}
	})
}

// A refused primary retires the data key that it wrapped, also while another member does not answer. Otherwise the Envelope would
// seal values that no process can open.
func TestRefusedPrimaryOfAKEKSetStopsSealing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		primary := newReloadable(t, aead.WithKEKCheck(time.Minute))
		other := aeadtest.NewKeyService(t)
		e := newEnvelope(t, newKEKSet(t, primary.Keyring, other))
		seal(t, e, "message")

		other.Fail(aeadtest.ErrOutage)
		primary.kek.Refuse(true)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if _, err := e.EncryptWithContext(t.Context(), nil, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) {
			t.Errorf("while the other member is down: %v", err)
		}
		other.Fail(nil)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if _, err := e.EncryptWithContext(t.Context(), nil, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) {
			t.Errorf("while the other member refuses: %v", err)
		}
		primary.kek.Refuse(false)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		open(t, e, seal(t, e, "message"))
	})
}
