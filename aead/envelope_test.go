package aead_test

import (
	"bytes"
	"testing"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/sealtest"
)

// newKeyring returns a Keyring of one AES256-GCM key.
func newKeyring(t testing.TB) *aead.Keyring {
	t.Helper()
	return newKeyringOf(t, tinkaead.AES256GCMKeyTemplate())
}

func newKeyringOf(t testing.TB, template *tinkpb.KeyTemplate) *aead.Keyring {
	t.Helper()
	h, err := keyset.NewHandle(template)
	if err != nil {
		t.Fatal(err)
	}
	return sealtest.KeyringOf(t, h)
}

// dataKeyTemplates are the types that Tink's KMS envelope allows.
func dataKeyTemplates() map[string]*tinkpb.KeyTemplate {
	return map[string]*tinkpb.KeyTemplate{
		"AES128-GCM":         tinkaead.AES128GCMKeyTemplate(),
		"AES256-GCM":         tinkaead.AES256GCMKeyTemplate(),
		"AES256-CTR-HMAC":    tinkaead.AES256CTRHMACSHA256KeyTemplate(),
		"AES256-GCM-SIV":     tinkaead.AES256GCMSIVKeyTemplate(),
		"ChaCha20-Poly1305":  tinkaead.ChaCha20Poly1305KeyTemplate(),
		"XChaCha20-Poly1305": tinkaead.XChaCha20Poly1305KeyTemplate(),
	}
}

func TestEnvelopeIsTinksEnvelope(t *testing.T) {
	t.Parallel()
	for name, template := range dataKeyTemplates() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			kek := newKeyring(t)
			ours, err := aead.NewEnvelope(ctx, kek, aead.WithDataKeyTemplate(template))
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close()
			plain := tinkaead.NewKMSEnvelopeAEAD2(template, kek)
			withContext, err := tinkaead.NewKMSEnvelopeAEADWithContext(template, kek)
			if err != nil {
				t.Fatal(err)
			}
			ad := []byte("associated data")
			for _, n := range []int{0, 1, 15, 16, 17, 1000, 70000} {
				want := bytes.Repeat([]byte{0xa5}, n)
				sealed, err := ours.EncryptWithContext(ctx, want, ad)
				if err != nil {
					t.Fatal(err)
				}
				if len(sealed) != n+ours.Overhead() {
					t.Errorf("%d bytes became %d, and Overhead is %d", n, len(sealed), ours.Overhead())
				}
				if got, err := plain.Decrypt(sealed, ad); err != nil || !bytes.Equal(got, want) {
					t.Errorf("NewKMSEnvelopeAEAD2 opens %d bytes of ours: %v", n, err)
				}
				if got, err := withContext.DecryptWithContext(ctx, sealed, ad); err != nil || !bytes.Equal(got, want) {
					t.Errorf("NewKMSEnvelopeAEADWithContext opens %d bytes of ours: %v", n, err)
				}
				theirs, err := plain.Encrypt(want, ad)
				if err != nil {
					t.Fatal(err)
				}
				if len(theirs) != len(sealed) {
					t.Errorf("Tink makes %d bytes of %d, we make %d", len(theirs), n, len(sealed))
				}
				if got, err := ours.DecryptWithContext(ctx, theirs, ad); err != nil || !bytes.Equal(got, want) {
					t.Errorf("we open %d bytes of NewKMSEnvelopeAEAD2: %v", n, err)
				}
				if theirs, err = withContext.EncryptWithContext(ctx, want, ad); err != nil {
					t.Fatal(err)
				}
				if got, err := ours.DecryptWithContext(ctx, theirs, ad); err != nil || !bytes.Equal(got, want) {
					t.Errorf("we open %d bytes of NewKMSEnvelopeAEADWithContext: %v", n, err)
				}
			}
		})
	}
}

func TestEnvelopeAdds99Bytes(t *testing.T) {
	t.Parallel()
	kek := newKeyring(t)
	if got := kek.Overhead(); got != 33 {
		t.Errorf("a Keyring adds %d bytes, want 33", got)
	}
	e, err := aead.NewEnvelope(t.Context(), kek)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	sealed, err := e.EncryptWithContext(t.Context(), []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(sealed)-1 != 99 || e.Overhead() != 99 {
		t.Errorf("an Envelope adds %d bytes (Overhead %d), want 99", len(sealed)-1, e.Overhead())
	}
}
