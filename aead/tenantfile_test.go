package aead_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

// A tenant's file is in memory. Deleting it, or the key in it, must destroy the tenant's values without a restart.
func TestTenantFileIsDestroyed(t *testing.T) {
	t.Parallel()
	for _, reload := range []string{"", "?reload=off"} {
		for name, c := range map[string]struct {
			destroy func(path string) error
			wants   []error
		}{
			"deleted":     {os.Remove, []error{aead.ErrKeyServiceUnavailable, os.ErrNotExist}},
			"another key": {writeKEK, []error{aead.ErrUnknownKey}},
		} {
			t.Run(name+reload, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				for _, id := range []string{"a", "b"} {
					if err := writeKEK(filepath.Join(dir, id+".json")); err != nil {
						t.Fatal(err)
					}
				}
				e := newEnvelope(t, newKeyring(t), aead.WithTenantKEKs("file://"+filepath.ToSlash(dir)+"/{tenant}.json"+reload), aead.WithDataKeyTTL(100*time.Millisecond))
				defer e.Close()
				a, b := newTenant(t, e, "a"), newTenant(t, e, "b")
				ofA, ofB := sealFor(t, a, "value"), sealFor(t, b, "value")
				if err := c.destroy(filepath.Join(dir, "a.json")); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the destroyed tenant opens no more", func() bool {
					if got, err := openFor(b, ofB); err != nil || got != "value" {
						t.Fatalf("the other tenant noticed: %v", err)
					}
					_, err := openFor(a, ofA)
					for _, want := range c.wants {
						if !errors.Is(err, want) {
							return false
						}
					}
					return true
				})
			})
		}
	}
}

// writeKEK writes a keyset with one new key to path. A reader finds the old file or the new one.
func writeKEK(path string) error {
	var b bytes.Buffer
	if err := insecurecleartextkeyset.CreateKeyset(&b, tinkaead.AES256GCMKeyTemplate()); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// A process that only writes wraps its next data key under the key that is in the tenant's file then.
func TestTenantFileIsReadBeforeAWrap(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.json")
	template := "file://" + filepath.ToSlash(filepath.Dir(path)) + "/{tenant}.json?reload=off"
	kek := newKeyring(t)
	process := func() (*aead.Envelope, tink.AEADWithContext) {
		e := newEnvelope(t, kek, aead.WithTenantKEKs(template))
		t.Cleanup(func() { _ = e.Close() })
		return e, newTenant(t, e, "a")
	}
	if err := writeKEK(path); err != nil {
		t.Fatal(err)
	}
	e, writer := process()
	_, other := process()
	if got, err := openFor(writer, sealFor(t, other, "value")); err != nil || got != "value" {
		t.Fatalf("the writer has its KEK: %v", err)
	}
	if err := writeKEK(path); err != nil {
		t.Fatal(err)
	}
	_, reader := process()
	if got, err := openFor(reader, sealFor(t, writer, "value")); err != nil || got != "value" {
		t.Errorf("under the new KEK: %v", err)
	}
	if n := e.Stats().Refusals; n != 0 {
		t.Errorf("the KEK refused %d data keys: they were wrapped under the old one", n)
	}
}
