package aead_test

import (
	"testing"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

// keyringTemplates are those of all key types and prefixes that a Keyring takes.
func keyringTemplates() map[string]*tinkpb.KeyTemplate {
	crunchy := tinkaead.AES256GCMKeyTemplate()
	crunchy.OutputPrefixType = tinkpb.OutputPrefixType_CRUNCHY
	templates := dataKeyTemplates()
	templates["AES256-GCM-CRUNCHY"] = crunchy
	templates["AES256-GCM-RAW"] = tinkaead.AES256GCMNoPrefixKeyTemplate()
	templates["AES128-GCM-RAW"] = tinkaead.AES128GCMNoPrefixKeyTemplate()
	templates["AES256-GCM-SIV-RAW"] = tinkaead.AES256GCMSIVNoPrefixKeyTemplate()
	templates["XAES256-GCM"] = tinkaead.XAES256GCM192BitNonceKeyTemplate()
	templates["XAES256-GCM-RAW"] = tinkaead.XAES256GCM192BitNonceNoPrefixKeyTemplate()
	return templates
}

func TestKeyringConformance(t *testing.T) {
	t.Parallel()
	for name, template := range keyringTemplates() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext { return newKeyringOf(t, template) })
		})
	}
}

func TestKeyringOfManyKeysConformance(t *testing.T) {
	t.Parallel()
	aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext {
		m := keyset.NewManager()
		var id uint32
		for _, template := range keyringTemplates() {
			var err error
			if id, err = m.Add(template); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.SetPrimary(id); err != nil {
			t.Fatal(err)
		}
		h, err := m.Handle()
		if err != nil {
			t.Fatal(err)
		}
		k, err := aead.NewKeyring(h)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { k.Close() })
		return k
	})
}

func TestEnvelopeConformance(t *testing.T) {
	t.Parallel()
	for name, template := range dataKeyTemplates() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext {
				return newEnvelope(t, newKeyring(t), aead.WithDataKeyTemplate(template))
			})
		})
	}
	t.Run("key service", func(t *testing.T) {
		t.Parallel()
		aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext { return newEnvelope(t, aeadtest.NewKeyService(t)) })
	})
}

func TestKeyServiceConformance(t *testing.T) {
	t.Parallel()
	aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext { return aeadtest.NewKeyService(t) })
}

func TestWithContextConformance(t *testing.T) {
	t.Parallel()
	aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext {
		h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
		if err != nil {
			t.Fatal(err)
		}
		a, err := tinkaead.New(h)
		if err != nil {
			t.Fatal(err)
		}
		return aead.WithContext(a)
	})
}

func newEnvelope(t testing.TB, kek tink.AEADWithContext, opts ...aead.EnvelopeOption) *aead.Envelope {
	t.Helper()
	e, err := aead.NewEnvelope(t.Context(), kek, append([]aead.EnvelopeOption{aead.WithLogger(silent())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}
