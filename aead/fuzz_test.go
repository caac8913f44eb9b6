package aead_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

// FuzzEnvelopeOpen: nothing that was not sealed opens, nothing panics, and Tink's own parser agrees.
func FuzzEnvelopeOpen(f *testing.F) {
	kek := newKeyring(f)
	e := newEnvelope(f, kek)
	tinks := tinkaead.NewKMSEnvelopeAEAD2(tinkaead.AES256GCMKeyTemplate(), kek)
	sealed, err := e.EncryptWithContext(f.Context(), []byte("message"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add(garbage(1))
	f.Fuzz(func(t *testing.T, data []byte) {
		if header, payload, ok := aead.SplitEnvelope(data); ok && !bytes.Equal(slices.Concat(header, payload), data) {
			t.Fatal("taken apart, the ciphertext has other bytes")
		}
		was := bytes.Clone(data)
		got, err := e.DecryptWithContext(t.Context(), data, nil)
		if !bytes.Equal(was, data) {
			t.Fatal("the ciphertext was modified")
		}
		want, tinkErr := tinks.Decrypt(data, nil)
		if (err == nil) != (tinkErr == nil) || !bytes.Equal(got, want) {
			t.Fatalf("ours: %v, Tink's: %v", err, tinkErr)
		}
		if err != nil && !errors.Is(err, aead.ErrUnauthentic) && !errors.Is(err, aead.ErrUnknownKey) {
			t.Fatal(err)
		}
		inPlace, err2 := e.OpenTo(t.Context(), data[:0], data, nil)
		if (err == nil) != (err2 == nil) || !bytes.Equal(inPlace, got) {
			t.Fatalf("in place: %v, otherwise: %v", err2, err)
		}
	})
}

// FuzzKeyringOpen: as above, over a keyset with keys of all types.
func FuzzKeyringOpen(f *testing.F) {
	k := newKeyring(f)
	sealed, err := k.Encrypt([]byte("message"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := k.Decrypt(data, nil)
		if bytes.Equal(data, sealed) {
			if err != nil || string(got) != "message" {
				t.Fatal(err)
			}
			return
		}
		if !errors.Is(err, aead.ErrUnauthentic) && !errors.Is(err, aead.ErrUnknownKey) {
			t.Fatalf("%d bytes: %v", len(data), err)
		}
	})
}

// FuzzPassphraseOpen: arbitrary bytes are refused, and never taken for an outage.
func FuzzPassphraseOpen(f *testing.F) {
	kek := cheapKEK(f)
	// The workers of a fuzz run are separate processes: each must know the one ciphertext that opens.
	sealed, err := hex.DecodeString("0270617373c590f2ab450d75b709bb8afebbfb25e3ae1030eed7c1cf7ced1e96be6a133b" +
		"3c9ae1ec24d4eef68b8b7852236042aba78d9b7ba7063b993b925fa66b198c8e2aa83f4b")
	if err != nil {
		f.Fatal(err)
	}
	if opened, err := kek.DecryptWithContext(f.Context(), sealed, nil); err != nil || string(opened) != "message" {
		f.Fatalf("%q, %v", opened, err)
	}
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := kek.DecryptWithContext(t.Context(), data, nil)
		if bytes.Equal(data, sealed) {
			return
		}
		if !errors.Is(err, aead.ErrUnauthentic) && !errors.Is(err, aead.ErrUnknownKey) {
			t.Fatal(err)
		}
	})
}

// FuzzKeyset: reading any source ends in a working Keyring or an error.
func FuzzKeyset(f *testing.F) {
	kek := newKeyring(f)
	var sealed, plaintext bytes.Buffer
	if err := aead.CreateKeyset(f.Context(), &sealed, kek, tinkaead.AES256GCMKeyTemplate()); err != nil {
		f.Fatal(err)
	}
	if err := insecurecleartextkeyset.CreateKeyset(&plaintext, tinkaead.AES256GCMKeyTemplate()); err != nil {
		f.Fatal(err)
	}
	f.Add(sealed.Bytes())
	f.Add(plaintext.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := aead.OpenKeyring(t.Context(), aead.BytesSource(data), kek)
		if err == nil {
			if err := k.Close(); err != nil {
				t.Error(err)
			}
		}
		k, err = insecurecleartextkeyset.OpenKeyring(t.Context(), aead.BytesSource(data))
		if err != nil {
			return
		}
		defer k.Close()
		ciphertext, err := k.Encrypt([]byte("message"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Decrypt(ciphertext, nil); err != nil {
			t.Fatal(err)
		}
	})
}

// A corpus that went missing would make the targets above test their seeds only, unseen.
func TestFuzzCorporaAreThere(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("fuzz_test.go")
	if err != nil {
		t.Fatal(err)
	}
	targets := 0
	for line := range strings.Lines(string(source)) {
		name, ok := strings.CutPrefix(line, "func Fuzz")
		if !ok {
			continue
		}
		targets++
		name = "Fuzz" + name[:strings.IndexByte(name, '(')]
		files, err := filepath.Glob(filepath.Join("testdata", "fuzz", name, "*"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s has no corpus in testdata/fuzz", name)
		}
	}
	if targets != 4 {
		t.Errorf("%d targets found, want 4", targets)
	}
}
