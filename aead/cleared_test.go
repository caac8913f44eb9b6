package aead_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	cleartext "github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

// keeping keeps the memory in which data keys come and go.
type keeping struct {
	tink.AEADWithContext
	dataKeys [][]byte
}

func (k *keeping) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	k.dataKeys = append(k.dataKeys, plaintext)
	if isZero(plaintext) {
		return nil, errors.New("cleared too early")
	}
	return k.AEADWithContext.EncryptWithContext(ctx, plaintext, ad)
}

func (k *keeping) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	plaintext, err := k.AEADWithContext.DecryptWithContext(ctx, ciphertext, ad)
	k.dataKeys = append(k.dataKeys, plaintext)
	return plaintext, err
}

// A serialized data key is in memory only while it is wrapped or unwrapped.
func TestDataKeysAreCleared(t *testing.T) {
	t.Parallel()
	service := aeadtest.NewKeyService(t)
	kek := &keeping{AEADWithContext: service}
	open(t, newEnvelope(t, kek), seal(t, newEnvelope(t, service), "of another process"))
	if len(kek.dataKeys) != 3 { // wrapped, proved, and that of the other process
		t.Fatalf("%d data keys came and went", len(kek.dataKeys))
	}
	for i, b := range kek.dataKeys {
		if len(b) == 0 || !isZero(b) {
			t.Errorf("data key %d is still in memory", i)
		}
	}
}

// keepingSource keeps the memory of the keysets that it returns.
type keepingSource struct {
	keyset []byte
	loaded [][]byte
}

func (s *keepingSource) Load(context.Context) ([]byte, error) {
	b := bytes.Clone(s.keyset)
	s.loaded = append(s.loaded, b)
	return b, nil
}

// A serialized keyset may be in plaintext. It is cleared when the next one or none takes its place.
func TestSerializedKeysetsAreCleared(t *testing.T) {
	t.Parallel()
	plaintext := func() []byte {
		h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&b)); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	src := &keepingSource{keyset: plaintext()}
	k, err := cleartext.OpenKeyring(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(next []byte, fails bool) {
		src.keyset = next
		if err := k.Reload(t.Context()); (err != nil) != fails {
			t.Fatal(err)
		}
	}
	reload(src.keyset, false) // as before
	reload(plaintext(), false)
	reload([]byte("{not a keyset"), true)
	for i, b := range src.loaded {
		if inService := i == 2; isZero(b) == inService {
			t.Errorf("keyset %d is in memory: %v", i, inService != isZero(b))
		}
	}
	if _, err := k.Encrypt([]byte("message"), nil); err != nil {
		t.Errorf("after the reloads: %v", err)
	}
	if err := k.Close(); err != nil || !isZero(src.loaded[2]) {
		t.Errorf("after Close: %v, or the keyset is in memory", err)
	}
}

func TestPassphrasesAreCleared(t *testing.T) {
	t.Parallel()
	for _, passphrase := range [][]byte{[]byte("correct horse battery staple"), []byte("short")} {
		err := aead.DerivePassphraseKEK(t.Context(), passphrase)
		if !isZero(passphrase) {
			t.Errorf("%d bytes of passphrase are in memory (%v)", len(passphrase), err)
		}
	}
}
