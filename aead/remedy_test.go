package aead_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

// A file or URI of the wrong kind is the usual mistake of a first start. The error says what the file is, or what makes
// the right one.
func TestErrorsOfMistakenKeysNameTheRemedy(t *testing.T) {
	t.Parallel()
	kek := newKeyring(t)
	sealed := func(template *tinkpb.KeyTemplate) aead.Source {
		var b bytes.Buffer
		if err := aead.CreateKeyset(t.Context(), &b, kek, template); err != nil {
			t.Fatal(err)
		}
		return aead.BytesSource(b.Bytes())
	}
	aeadKeys, prfKeys := sealed(tinkaead.AES256GCMKeyTemplate()), sealed(prf.HMACSHA256PRFKeyTemplate())
	var plaintext bytes.Buffer
	if err := insecurecleartextkeyset.CreateKeyset(&plaintext, tinkaead.AES256GCMKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	passphrase, keyset := filepath.Join(dir, "passphrase"), filepath.Join(dir, "keyset.json")
	data, err := aeadKeys.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{passphrase: []byte("correct horse battery staple"), keyset: data} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other, err := aead.OpenKEK(t.Context(), "passphrase:file:"+passphrase+"?salt=8d409ed7dc743bc598f1e10b8ddb5a67")
	if err != nil {
		t.Fatal(err)
	}
	set, err := aead.NewKEKSet(newKeyring(t), newKeyring(t))
	if err != nil {
		t.Fatal(err)
	}
	openKEK := func(uri string) func() error {
		return func() error { _, err := aead.OpenKEK(t.Context(), uri); return err }
	}
	openKeyring := func(src aead.Source, kek aead.KEK) func() error {
		return func() error { _, err := aead.OpenKeyring(t.Context(), src, kek); return err }
	}
	for name, c := range map[string]struct {
		open func() error
		want string
	}{
		"a path as the URI":          {openKEK("/run/secrets/kek.json"), "file:///path"},
		"a file that does not exist": {openKEK("file://" + filepath.Join(dir, "none.json")), "sealcache kek create"},
		"a sealed keyset as the KEK": {openKEK("file://" + keyset), "the keyset is encrypted"},
		"a KEK as the sealed keyset": {openKeyring(aead.BytesSource(plaintext.Bytes()), kek), "sealcache keys create"},
		"a KEK of another kind":      {openKeyring(aeadKeys, other), "another kind of key"},
		"the KEK of another keyset":  {openKeyring(aeadKeys, newKeyring(t)), "which is not in the given KEK (enabled keys: "},
		"a KEKSet of other keysets":  {openKeyring(aeadKeys, set), "cannot decrypt the keyset: KEKSet: all 2 key-encryption keys refuse"},
		"an unset variable":          {openKEK(""), "the URI of the KEK is empty (if an environment variable holds it, set that variable)"},
		"an unset path": {func() error {
			_, err := aead.OpenPRF(t.Context(), aead.FileSource(""), kek)
			return err
		}, "the path is empty (if an environment variable holds it, set that variable)"},
		"PRF keys instead of AEAD's": {openKeyring(prfKeys, kek), "the keyset holds PRF keys"},
		"AEAD keys instead of PRF's": {func() error { _, err := aead.OpenPRF(t.Context(), aeadKeys, kek); return err }, "keys create --type prf"},
		"a KEK as the PRF keyset": {func() error {
			_, err := aead.OpenPRF(t.Context(), aead.BytesSource(plaintext.Bytes()), kek)
			return err
		}, "sealcache keys create"},
	} {
		if err := c.open(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the error does not say %q: %v", name, c.want, err)
		}
	}
}

// An error of one function of this package in another has its prefix once.
func TestErrorsHaveOnePrefix(t *testing.T) {
	t.Parallel()
	local := func() *failingUnwrap { return &failingUnwrap{KeyService: aeadtest.NewKeyService(t)} }
	failing := func(err error) *failingUnwrap { return &failingUnwrap{aeadtest.NewKeyService(t), err} }
	decrypt := func(a tink.AEADWithContext) error {
		_, err := a.DecryptWithContext(t.Context(), garbage(1), nil)
		return err
	}
	envelope := func(err error) error {
		kek := local()
		e := newEnvelope(t, kek)
		kek.err = err
		return decrypt(e)
	}
	outage := errors.New("aead: open: broken")
	for name, f := range map[string]func() error{
		"a file that does not exist": func() error { _, err := aead.OpenKEK(t.Context(), "file:///does/not/exist"); return err },
		"a KEK fails":                func() error { return envelope(outage) },
		"a KEK is unavailable":       func() error { return envelope(aead.ErrKeyServiceUnavailable) },
		"a KEK fails at start":       func() error { _, err := aead.NewEnvelope(t.Context(), failing(outage)); return err },
		"a KEK refuses at start":     func() error { _, err := aead.NewEnvelope(t.Context(), failing(aead.ErrUnknownKey)); return err },
		"a member fails":             func() error { return decrypt(newKEKSet(t, failing(outage))) },
		"all members refuse":         func() error { return decrypt(newKEKSet(t, newKeyring(t), newKeyring(t))) },
		"a tenant's KEK fails": func() error {
			e := newEnvelope(t, local(), aead.WithTenants(func(context.Context, string) (tink.AEADWithContext, error) {
				return nil, outage
			}))
			return decrypt(newTenant(t, e, "acme"))
		},
	} {
		if err := f(); err == nil || strings.Count(err.Error(), "aead: ") != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An answer that is not a data key may come from a proxy, or be a data key of another type. The text fits both.
func TestErrorOfAnUnusableAnswerNamesTheSetting(t *testing.T) {
	t.Parallel()
	kek := newKeyring(t)
	sealed := seal(t, newEnvelope(t, kek), "message")
	_, err := newEnvelope(t, kek, aead.WithDataKeyTemplate(tinkaead.ChaCha20Poly1305KeyTemplate())).DecryptWithContext(t.Context(), sealed, nil)
	const want = "aead: the key cannot be used now: the decrypted bytes are not a data key of the expected type " +
		"(set the writer's WithDataKeyTemplate)"
	if !errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, aead.ErrUnauthentic) || err.Error() != want {
		t.Errorf("%v", err)
	}
}
