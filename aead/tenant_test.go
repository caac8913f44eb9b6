package aead_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

// directory is where the application finds the KEKs of its tenants.
type directory struct {
	mu    sync.Mutex
	keks  map[string]tink.AEADWithContext
	asked int
	err   error
}

func (d *directory) open(_ context.Context, id string) (tink.AEADWithContext, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if d.err != nil {
		return nil, d.err
	}
	if kek, ok := d.keks[id]; ok {
		return kek, nil
	}
	return nil, fmt.Errorf("directory: %w", aead.ErrUnknownTenant)
}

func (d *directory) asks() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

func (d *directory) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
}

func newTenant(t testing.TB, e *aead.Envelope, id string) tink.AEADWithContext {
	t.Helper()
	tenant, err := e.Tenant(id)
	if err != nil {
		t.Fatal(err)
	}
	return tenant
}

func sealFor(t testing.TB, a tink.AEADWithContext, text string) []byte {
	t.Helper()
	sealed, err := a.EncryptWithContext(t.Context(), []byte(text), []byte("ad"))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func openFor(a tink.AEADWithContext, sealed []byte) (string, error) {
	opened, err := a.DecryptWithContext(context.Background(), sealed, []byte("ad"))
	return string(opened), err
}

func TestTenantConformance(t *testing.T) {
	t.Parallel()
	for name, template := range dataKeyTemplates() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext {
				d := &directory{keks: map[string]tink.AEADWithContext{"acme": newKeyring(t)}}
				return newTenant(t, newEnvelope(t, newKeyring(t), aead.WithDataKeyTemplate(template), aead.WithTenants(d.open)), "acme")
			})
		})
	}
}

// A value opens for its own tenant only, whether or not tenants have the same KEK.
func TestTenantIsolation(t *testing.T) {
	t.Parallel()
	shared := aeadtest.NewKeyService(t)
	d := &directory{keks: map[string]tink.AEADWithContext{"a": shared, "b": shared, "c": aeadtest.NewKeyService(t)}}
	e := newEnvelope(t, shared, aead.WithTenants(d.open))
	readers := map[string]tink.AEADWithContext{"": e, "a": newTenant(t, e, "a"), "b": newTenant(t, e, "b"), "c": newTenant(t, e, "c")}
	other := newEnvelope(t, shared, aead.WithTenants(d.open)) // another process
	for from, writer := range readers {
		sealed := sealFor(t, writer, "value")
		for to, reader := range readers {
			got, err := openFor(reader, sealed)
			if from == to && (err != nil || got != "value") {
				t.Errorf("%q: %v", from, err)
			}
			if from != to && (!errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrKeyServiceUnavailable)) {
				t.Errorf("a value of %q for %q: %v", from, to, err)
			}
		}
		reader := tink.AEADWithContext(other)
		if from != "" {
			reader = newTenant(t, other, from)
		}
		if got, err := openFor(reader, sealed); err != nil || got != "value" {
			t.Errorf("%q in another process: %v", from, err)
		}
	}
	if newTenant(t, e, "a") != readers["a"] {
		t.Error("a tenant is not the same the second time")
	}
	if a, b := readers["a"].(interface{ Overhead() int }).Overhead(), e.Overhead(); a != b+33 || a+6 > 145 { //nolint:forcetypeassert // fails the test
		t.Errorf("a tenant's values grow by %d bytes, others by %d", a, b)
	}
}

// wrapping replaces the wrapped data key of a sealed value by one that the KEK itself wrapped around other bytes.
func wrapping(t *testing.T, kek tink.AEADWithContext, sealed []byte, edit func(inner []byte) []byte) []byte {
	t.Helper()
	header, payload, ok := aead.SplitEnvelope(sealed)
	if !ok {
		t.Fatal("not an envelope")
	}
	inner, err := kek.DecryptWithContext(t.Context(), header[4:], nil)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := kek.EncryptWithContext(t.Context(), edit(inner), nil)
	if err != nil {
		t.Fatal(err)
	}
	return append(append([]byte{0, 0, 0, byte(len(wrapped))}, wrapped...), payload...)
}

// The holder of a tenant's KEK cannot have a data key accepted without its commitment. A ciphertext that opens under two KEKs
// cannot have the commitment of both.
func TestTenantCommitment(t *testing.T) {
	t.Parallel()
	kek := aeadtest.NewKeyService(t)
	d := &directory{keks: map[string]tink.AEADWithContext{"a": kek}}
	e := newEnvelope(t, kek, aead.WithTenants(d.open))
	a := newTenant(t, e, "a")
	sealed := sealFor(t, a, "value")
	if got, err := openFor(a, wrapping(t, kek, sealed, func(inner []byte) []byte { return inner })); err != nil || got != "value" {
		t.Fatalf("wrapped again: %v", err)
	}
	for i := 1; i < 33; i++ {
		if _, err := openFor(a, wrapping(t, kek, sealed, func(inner []byte) []byte { inner[i] ^= 1; return inner })); !errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("byte %d of the commitment altered: %v", i, err)
		}
	}
	if _, err := openFor(a, wrapping(t, kek, sealed, func(inner []byte) []byte { return inner[33:] })); !errors.Is(err, aead.ErrUnauthentic) {
		t.Errorf("without commitment: %v", err)
	}
	for name, inner := range map[string][]byte{"empty": {}, "version alone": {1}, "no data key": bytes.Repeat([]byte{1}, 33), "html": []byte("<html>")} {
		_, err := openFor(a, wrapping(t, kek, sealed, func([]byte) []byte { return inner }))
		if !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTenantCommitmentBytes(t *testing.T) {
	t.Parallel()
	// HKDF-SHA256 (RFC 5869) without salt; computed with Python's hmac.
	const want = "300747a27aeb9f2850f841efad5d304bd72f83248766086686fcbdc9ae6c4c49"
	got := hex.EncodeToString(aead.TenantCommitment("acme", []byte("\x1a\x20"+strings.Repeat("k", 32))))
	if got != want {
		t.Errorf("commitment %s", got)
	}
}

func TestUnknownTenant(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &directory{keks: map[string]tink.AEADWithContext{}}
		kek := newKeyring(t)
		e := newEnvelope(t, kek, aead.WithTenants(d.open))
		a := newTenant(t, e, "a")
		planted := sealFor(t, e, "value")
		for range 100 {
			_, err := a.EncryptWithContext(t.Context(), []byte("x"), nil)
			if !errors.Is(err, aead.ErrUnknownTenant) || errors.Is(err, aead.ErrKeyServiceUnavailable) {
				t.Fatalf("seal: %v", err)
			}
			if _, err = openFor(a, planted); !errors.Is(err, aead.ErrUnknownTenant) || errors.Is(err, aead.ErrKeyServiceUnavailable) {
				t.Fatalf("open: %v", err)
			}
		}
		if n := d.asks(); n != 1 {
			t.Errorf("an unknown tenant was looked up %d times", n)
		}
		d.mu.Lock()
		d.keks["a"] = kek
		d.mu.Unlock()
		time.Sleep(16 * time.Second)
		if got, err := openFor(a, sealFor(t, a, "value")); err != nil || got != "value" {
			t.Errorf("a tenant that was made since: %v", err)
		}
		d.fail(errors.New("directory: down"))
		b := newTenant(t, e, "b")
		if _, err := b.EncryptWithContext(t.Context(), []byte("x"), nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) || !strings.Contains(err.Error(), "directory: down") {
			t.Errorf("an outage of the directory: %v", err)
		}
		_ = e.Close()
	})
}

// Destroying the KEK of one tenant ends its values within the TTL, and nothing else.
func TestTenantShredding(t *testing.T) {
	t.Parallel()
	for name, destroy := range map[string]func(*aeadtest.KeyService){
		"refuses": func(s *aeadtest.KeyService) { s.Refuse(true) },
		"gone":    func(s *aeadtest.KeyService) { s.Fail(errors.New("key not found")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				keks := map[string]*aeadtest.KeyService{"a": aeadtest.NewKeyService(t), "b": aeadtest.NewKeyService(t)}
				d := &directory{keks: map[string]tink.AEADWithContext{"a": keks["a"], "b": keks["b"]}}
				e := newEnvelope(t, newKeyring(t), aead.WithTenants(d.open), aead.WithDataKeyTTL(time.Minute))
				a, b := newTenant(t, e, "a"), newTenant(t, e, "b")
				ofA, ofB := sealFor(t, a, "value"), sealFor(t, b, "value")
				destroy(keks["a"])
				for range 120 {
					time.Sleep(time.Second)
					if got, err := openFor(b, ofB); err != nil || got != "value" {
						t.Fatalf("the other tenant noticed: %v", err)
					}
				}
				if got, err := openFor(a, ofA); err == nil {
					t.Errorf("%q opens after the TTL", got)
				}
				_ = e.Close()
			})
		})
	}
}

func TestTenantReload(t *testing.T) {
	t.Parallel()
	var kept, other bytes.Buffer
	for _, b := range []*bytes.Buffer{&kept, &other} {
		if err := insecurecleartextkeyset.CreateKeyset(b, tinkaead.AES256GCMKeyTemplate()); err != nil {
			t.Fatal(err)
		}
	}
	source := &changingSource{data: kept.Bytes()}
	ring, err := insecurecleartextkeyset.OpenKeyring(t.Context(), source, aead.WithLogger(silent()))
	if err != nil {
		t.Fatal(err)
	}
	defer ring.Close()
	d := &directory{keks: map[string]tink.AEADWithContext{"a": ring}}
	e := newEnvelope(t, newKeyring(t), aead.WithTenants(d.open))
	a := newTenant(t, e, "a")
	sealed := sealFor(t, a, "value")
	source.data = other.Bytes()
	if err := ring.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := openFor(a, sealed); !errors.Is(err, aead.ErrUnknownKey) {
		t.Errorf("a value opens under a key that the reload removed: %v", err)
	}
	if got, err := openFor(a, sealFor(t, a, "value")); err != nil || got != "value" {
		t.Errorf("after the reload: %v", err)
	}
}

func TestTenantKEKs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, id := range []string{"a", "b"} {
		var b bytes.Buffer
		if err := insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, id+".json"), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := newEnvelope(t, newKeyring(t), aead.WithTenantKEKs("file://"+filepath.ToSlash(dir)+"/{tenant}.json?reload=off"))
	a, b := newTenant(t, e, "a"), newTenant(t, e, "b")
	sealed := sealFor(t, a, "value")
	if got, err := openFor(a, sealed); err != nil || got != "value" {
		t.Error(err)
	}
	if _, err := openFor(b, sealed); !errors.Is(err, aead.ErrUnknownKey) {
		t.Errorf("another tenant: %v", err)
	}
	if _, err := newTenant(t, e, "c").EncryptWithContext(t.Context(), nil, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if n := e.Stats().DataKeys; n != 0 {
		t.Errorf("after Close, %d data keys are held", n)
	}
	if _, err := e.Tenant("a"); !errors.Is(err, aead.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	for name, a := range map[string]tink.AEADWithContext{"used": a, "closed": newTenantOfClosed(t)} {
		if _, err := a.EncryptWithContext(t.Context(), nil, nil); !errors.Is(err, aead.ErrClosed) {
			t.Errorf("%s: seal: %v", name, err)
		}
		if _, err := openFor(a, sealed); !errors.Is(err, aead.ErrClosed) {
			t.Errorf("%s: open: %v", name, err)
		}
	}
}

// newTenantOfClosed returns a tenant whose Envelope was closed before its first message.
func newTenantOfClosed(t *testing.T) tink.AEADWithContext {
	t.Helper()
	e := newEnvelope(t, newKeyring(t), aead.WithTenants(new(directory).open))
	a := newTenant(t, e, "a")
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	return a
}

func TestTenantRefuses(t *testing.T) {
	t.Parallel()
	e := newEnvelope(t, newKeyring(t), aead.WithTenants(new(directory).open))
	for _, id := range []string{"", ".", "..", "../x", "-a", "_", "a/b", "a b", "a\x00", "ä", strings.Repeat("a", 65)} {
		if _, err := e.Tenant(id); err == nil {
			t.Errorf("%q is taken for an id", id)
		}
	}
	if _, err := newEnvelope(t, newKeyring(t)).Tenant("a"); err == nil {
		t.Error("a tenant without WithTenants")
	}
	for name, opts := range map[string][]aead.EnvelopeOption{
		"nil":            {aead.WithTenants(nil)},
		"no placeholder": {aead.WithTenantKEKs("file:///kek.json")},
		"both":           {aead.WithTenants(new(directory).open), aead.WithTenantKEKs("file:///{tenant}")},
	} {
		if _, err := aead.NewEnvelope(t.Context(), newKeyring(t), opts...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x"} {
		if got := fmt.Sprintf(verb, newTenant(t, e, "acme")); got != "aead.Envelope tenant(AesGcmKey)" {
			t.Errorf("%s: %s", verb, got)
		}
	}
}

// closingKEK counts the calls of Close, which wait.
type closingKEK struct {
	*aead.Keyring
	opener *closingOpener
}

func (k closingKEK) Close() error {
	k.opener.closing.Add(1)
	<-k.opener.proceed
	return k.Keyring.Close()
}

type closingOpener struct {
	t       *testing.T
	closing atomic.Int32
	proceed chan struct{}
}

func (*closingOpener) Schemes() []string { return []string{"closing"} }

func (o *closingOpener) OpenKEK(context.Context, string) (tink.AEADWithContext, error) {
	return closingKEK{newKeyring(o.t), o}, nil
}

// The key-encryption keys of tenants are closed at once. Each may wait a moment for a file that hangs, and there may be thousands.
func TestKEKsOfTenantsAreClosedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := &closingOpener{t: t, proceed: make(chan struct{})}
		e := newEnvelope(t, newKeyring(t), aead.WithTenantKEKs("closing:{tenant}", o))
		for _, id := range []string{"acme", "bank", "shop"} {
			sealFor(t, newTenant(t, e, id), "value")
		}
		go func() { _ = e.Close() }()
		synctest.Wait()
		if n := o.closing.Load(); n != 3 {
			t.Errorf("%d of 3 are being closed", n)
		}
		close(o.proceed)
	})
}
