package aead_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"testing"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	tinkcleartext "github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/signature"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

func TestKeyringIsTinksAEAD(t *testing.T) {
	t.Parallel()
	for name, template := range keyringTemplates() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, err := keyset.NewHandle(template)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := aead.NewKeyring(h)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := tinkaead.New(h)
			if err != nil {
				t.Fatal(err)
			}
			ad := []byte("associated data")
			for _, n := range []int{0, 1, 16, 1000, 70000} {
				want := bytes.Repeat([]byte{7}, n)
				a, err := ours.Encrypt(want, ad)
				if err != nil {
					t.Fatal(err)
				}
				b, err := theirs.Encrypt(want, ad)
				if err != nil {
					t.Fatal(err)
				}
				if len(a) != len(b) || len(a) != n+ours.Overhead() {
					t.Errorf("%d bytes: ours %d, Tink's %d, Overhead %d", n, len(a), len(b), ours.Overhead())
				}
				if got, err := theirs.Decrypt(a, ad); err != nil || !bytes.Equal(got, want) {
					t.Errorf("Tink opens ours: %v", err)
				}
				if got, err := ours.Decrypt(b, ad); err != nil || !bytes.Equal(got, want) {
					t.Errorf("we open Tink's: %v", err)
				}
			}
		})
	}
}

// rotated returns a manager of two keys, and what was sealed under the first, which is not primary any more.
func rotated(t *testing.T) (m *keyset.Manager, old uint32, sealed []byte) {
	t.Helper()
	m = keyset.NewManager()
	old = addPrimary(t, m)
	sealed, err := keyringOf(t, m).Encrypt([]byte("message"), nil)
	if err != nil {
		t.Fatal(err)
	}
	addPrimary(t, m)
	return m, old, sealed
}

func addPrimary(t *testing.T, m *keyset.Manager) uint32 {
	t.Helper()
	id, err := m.Add(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetPrimary(id); err != nil {
		t.Fatal(err)
	}
	return id
}

func keyringOf(t *testing.T, m *keyset.Manager) *aead.Keyring {
	t.Helper()
	h, err := m.Handle()
	if err != nil {
		t.Fatal(err)
	}
	k, err := aead.NewKeyring(h, aead.WithLogger(silent()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func TestKeyErrorTellsWhy(t *testing.T) {
	t.Parallel()
	check := func(k *aead.Keyring, id uint32, sealed []byte, status keyset.KeyStatus, text string) {
		t.Helper()
		_, err := k.Decrypt(sealed, nil)
		var e *aead.KeyError
		if !errors.Is(err, aead.ErrUnknownKey) || errors.Is(err, aead.ErrUnauthentic) || !errors.As(err, &e) {
			t.Fatalf("%s: %v", text, err)
		}
		if e.KeyID != id || e.Status != status || len(e.Present) != 1 || e.Present[0] != k.Keys()[len(k.Keys())-1].ID {
			t.Errorf("%s: %+v", text, e)
		}
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the text does not say %q: %v", text, err)
		}
	}

	m, old, sealed := rotated(t)
	if got, err := keyringOf(t, m).Decrypt(sealed, nil); err != nil || string(got) != "message" {
		t.Fatalf("after a rotation: %v", err)
	}
	if err := m.Disable(old); err != nil {
		t.Fatal(err)
	}
	check(keyringOf(t, m), old, sealed, keyset.Disabled, "is disabled in the keyset")

	h, err := m.Handle()
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(&buf, h); err != nil {
		t.Fatal(err)
	}
	destroyed := strings.Replace(buf.String(), "DISABLED", "DESTROYED", 1)
	k, err := insecurecleartextkeyset.OpenKeyring(t.Context(), aead.BytesSource([]byte(destroyed)))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	check(k, old, sealed, keyset.Destroyed, "is destroyed in the keyset")

	if err := m.Delete(old); err != nil {
		t.Fatal(err)
	}
	check(keyringOf(t, m), old, sealed, keyset.Unknown, "is not in the keyset")
}

func TestKeysListsNoMaterial(t *testing.T) {
	t.Parallel()
	m, old, _ := rotated(t)
	if err := m.Disable(old); err != nil {
		t.Fatal(err)
	}
	k := keyringOf(t, m)
	for range 5 {
		if _, err := k.Encrypt(nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	keys := k.Keys()
	want := aead.KeyInfo{ID: old, Type: "AesGcmKey", Prefix: "TINK", Status: keyset.Disabled}
	if len(keys) != 2 || keys[0] != want {
		t.Errorf("%+v", keys)
	}
	if p := keys[1]; !p.Primary || p.Status != keyset.Enabled || p.Messages != 6 {
		t.Errorf("the primary key, after the self test and five messages: %+v", p)
	}
}

func TestKeyringCountsItsMessages(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	k, err := aead.NewKeyring(h, aead.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	k.SetMessages(aead.WarnRandomNonces - 2)
	if _, err := k.Encrypt(nil, nil); err != nil || log.Len() != 0 {
		t.Fatalf("below the warning: %v %s", err, log.String())
	}
	for range 3 {
		if _, err := k.Encrypt(nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "WARN") {
		t.Errorf("%d lines, want one warning: %s", n, log.String())
	}
	k.SetMessages(aead.MaxRandomNonces - 1)
	sealed, err := k.Encrypt(nil, nil)
	if err != nil {
		t.Fatalf("the last message that is safe: %v", err)
	}
	for range 2 {
		if _, err := k.Encrypt(nil, nil); !errors.Is(err, aead.ErrKeyExhausted) {
			t.Errorf("message 2^32 + 1: %v", err)
		}
	}
	if _, err := k.Decrypt(sealed, nil); err != nil {
		t.Errorf("an exhausted key must still open: %v", err)
	}
}

func TestLongNoncesAreNotCounted(t *testing.T) {
	t.Parallel()
	for name, template := range keyringTemplates() {
		k := newKeyringOf(t, template)
		if _, err := k.Encrypt(nil, nil); err != nil {
			t.Fatal(err)
		}
		bound := strings.Contains(name, "AES128-GCM") || strings.Contains(name, "AES256-GCM") || name == "ChaCha20-Poly1305"
		bound = bound && !strings.Contains(name, "SIV") && !strings.HasPrefix(name, "XAES")
		if got := k.Keys()[0].Messages > 0; got != bound {
			t.Errorf("%s: counted %v, want %v", name, got, bound)
		}
	}
}

func TestOpenKeyring(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	kek := newKeyring(t)
	var jsonForm bytes.Buffer
	if err := aead.CreateKeyset(ctx, &jsonForm, kek, tinkaead.AES256GCMKeyTemplate(), aead.WithAssociatedData([]byte("billing"))); err != nil {
		t.Fatal(err)
	}
	h, err := keyset.ReadWithContext(ctx, keyset.NewJSONReader(bytes.NewReader(jsonForm.Bytes())), kek, []byte("billing"))
	if err != nil {
		t.Fatalf("Tink does not read our keyset: %v", err)
	}
	var binaryForm bytes.Buffer
	if err := h.WriteWithContext(ctx, keyset.NewBinaryWriter(&binaryForm), kek, []byte("billing")); err != nil {
		t.Fatal(err)
	}
	var sealed []byte
	for name, data := range map[string][]byte{
		"JSON": jsonForm.Bytes(), "JSON with spaces": append([]byte(" \n\t"), jsonForm.Bytes()...),
		"JSON with a byte order mark": append([]byte("\ufeff"), jsonForm.Bytes()...), "binary": binaryForm.Bytes(),
	} {
		k, err := aead.OpenKeyring(ctx, aead.BytesSource(data), kek, aead.WithAssociatedData([]byte("billing")))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if sealed == nil {
			if sealed, err = k.Encrypt([]byte("message"), nil); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := k.Decrypt(sealed, nil); err != nil || string(got) != "message" {
			t.Errorf("%s: %v", name, err)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}

	otherKEK := newKeyring(t)
	service := aeadtest.NewKeyService(t)
	service.Fail(aeadtest.ErrOutage)
	for name, c := range map[string]struct {
		open func() (*aead.Keyring, error)
		want error
	}{
		"other associated data": {func() (*aead.Keyring, error) {
			return aead.OpenKeyring(ctx, aead.BytesSource(jsonForm.Bytes()), kek, aead.WithAssociatedData([]byte("payroll")))
		}, aead.ErrUnauthentic},
		"no associated data": {func() (*aead.Keyring, error) {
			return aead.OpenKeyring(ctx, aead.BytesSource(jsonForm.Bytes()), kek)
		}, aead.ErrUnauthentic},
		"another KEK": {func() (*aead.Keyring, error) {
			return aead.OpenKeyring(ctx, aead.BytesSource(jsonForm.Bytes()), otherKEK)
		}, aead.ErrUnknownKey},
		"KEK down": {func() (*aead.Keyring, error) {
			return aead.OpenKeyring(ctx, aead.BytesSource(jsonForm.Bytes()), service)
		}, aeadtest.ErrOutage},
		"KEK down, as an outage": {func() (*aead.Keyring, error) {
			return aead.OpenKeyring(ctx, aead.BytesSource(jsonForm.Bytes()), service)
		}, aead.ErrKeyServiceUnavailable},
		"context ended": {func() (*aead.Keyring, error) {
			ended, cancel := context.WithCancel(ctx)
			cancel()
			return aead.OpenKeyring(ended, aead.BytesSource(jsonForm.Bytes()), kek)
		}, context.Canceled},
	} {
		if k, err := c.open(); !errors.Is(err, c.want) || k != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestOpenKeyringRefuses(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	kek := newKeyring(t)
	var good, clearJSON bytes.Buffer
	if err := aead.CreateKeyset(ctx, &good, kek, tinkaead.AES256GCMKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	if err := insecurecleartextkeyset.Write(&clearJSON, h); err != nil {
		t.Fatal(err)
	}
	clearBinary := cleartextBinary(t, h)
	sealedGarbage, err := kek.Encrypt([]byte("not a keyset"), nil)
	if err != nil {
		t.Fatal(err)
	}
	signing, err := keyset.NewHandle(signature.ED25519KeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	var wrongKind bytes.Buffer
	if err := signing.WriteWithContext(ctx, keyset.NewJSONWriter(&wrongKind), kek, nil); err != nil {
		t.Fatal(err)
	}
	service := aeadtest.NewKeyService(t)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":              {nil, "empty"},
		"text":                 {[]byte("hello, world"), "not an encrypted Tink keyset"},
		"JSON of another kind": {[]byte(`{"a":1}`), "not an encrypted Tink keyset"},
		"truncated":            {good.Bytes()[:good.Len()/2], "not an encrypted Tink keyset"},
		"plaintext, JSON":      {clearJSON.Bytes(), "is in plaintext"},
		"plaintext, binary":    {clearBinary, "is in plaintext"},
		"too large":            {append(bytes.Repeat([]byte(" "), aead.MaxKeysetBytes), good.Bytes()...), "more than 1048576 bytes"},
	} {
		_, err := aead.OpenKeyring(ctx, aead.BytesSource(c.data), service)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if service.Decrypts() != 0 {
		t.Error("the key service was sent something that is not a sealed keyset")
	}
	garbageJSON := `{"encryptedKeyset":"` + base64.StdEncoding.EncodeToString(sealedGarbage) + `"}`
	if _, err := aead.OpenKeyring(ctx, aead.BytesSource([]byte(garbageJSON)), kek); err == nil || !strings.Contains(err.Error(), "valid Tink keyset") {
		t.Errorf("a sealed text: %v", err)
	}
	if _, err := aead.OpenKeyring(ctx, aead.BytesSource(wrongKind.Bytes()), kek); err == nil {
		t.Error("a keyset for signatures was accepted")
	}
	if _, err := aead.OpenKeyring(ctx, aead.BytesSource(good.Bytes()), nil); err == nil || !strings.Contains(err.Error(), "insecurecleartextkeyset") {
		t.Errorf("a nil KEK: %v", err)
	}
	if _, err := aead.OpenKeyring(ctx, nil, kek); err == nil {
		t.Error("a nil source was accepted")
	}
	if _, err := aead.OpenKeyring(ctx, aead.BytesSource(good.Bytes()), kek, aead.WithReload(0)); err == nil {
		t.Error("WithReload(0) was accepted")
	}
	if _, err := aead.NewKeyring(nil); err == nil {
		t.Error("a nil handle was accepted")
	}
	if _, err := aead.NewKeyring(h, aead.WithReload(1)); err == nil {
		t.Error("NewKeyring accepted WithReload")
	}
	if _, err := aead.NewKeyring(h, aead.WithoutReload()); err == nil || !strings.Contains(err.Error(), "WithoutReload") {
		t.Errorf("NewKeyring with WithoutReload: %v", err)
	}
}

func TestKeyringAfterClose(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	sealed, err := k.Encrypt(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Encrypt(nil, nil); !errors.Is(err, aead.ErrClosed) {
		t.Errorf("seal: %v", err)
	}
	if _, err := k.Decrypt(sealed, nil); !errors.Is(err, aead.ErrClosed) {
		t.Errorf("open: %v", err)
	}
	if len(k.Keys()) != 0 || k.Overhead() != 0 {
		t.Error("a closed Keyring lists keys")
	}
}

func cleartextBinary(t *testing.T, h *keyset.Handle) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := tinkcleartext.Write(h, keyset.NewBinaryWriter(&buf)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
