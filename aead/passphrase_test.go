package aead_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

const passphrase = "correct horse battery staple"

func cheapKEK(t testing.TB) tink.AEADWithContext {
	t.Helper()
	kek, err := aead.NewCheapPassphraseKEK(t.Context(), passphrase, "a salt of 16 byt")
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

func TestPassphraseConformance(t *testing.T) {
	t.Parallel()
	kek := cheapKEK(t)
	aeadtest.Run(t, func(*testing.T) tink.AEADWithContext { return kek })
}

// Every process derives the same key, and a ciphertext names it by its commitment.
func TestPassphraseAcrossProcesses(t *testing.T) {
	t.Parallel()
	sealed, err := cheapKEK(t).EncryptWithContext(t.Context(), []byte("message"), []byte("ad"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cheapKEK(t).DecryptWithContext(t.Context(), sealed, []byte("ad")); err != nil || string(got) != "message" {
		t.Errorf("another process: %q, %v", got, err)
	}
	for name, other := range map[string][2]string{
		"another passphrase": {passphrase + "!", "a salt of 16 byt"},
		"another salt":       {passphrase, "a salt of 16 byT"},
	} {
		kek, err := aead.NewCheapPassphraseKEK(t.Context(), other[0], other[1])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kek.DecryptWithContext(t.Context(), sealed, []byte("ad")); !errors.Is(err, aead.ErrUnknownKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An attacker who makes up ciphertexts makes no process derive a key: a derivation takes 64 MiB and all processors.
func TestMadeUpCiphertextsCostNoDerivation(t *testing.T) {
	t.Setenv("SEALCACHE_TEST_PASSPHRASE", passphrase)
	kek, err := aead.OpenKEK(t.Context(), "passphrase:env:SEALCACHE_TEST_PASSPHRASE")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("message"), nil)
	if err != nil {
		t.Fatal(err)
	}
	// At a third of a second each, the derivations for these would outlast the time limit of the tests.
	for i := range 50_000 {
		c := bytes.Clone(sealed)
		binary.BigEndian.PutUint32(c[aead.PassphraseHeader-4:], uint32(i))
		if _, err := kek.DecryptWithContext(t.Context(), c, nil); !errors.Is(err, aead.ErrUnknownKey) {
			t.Fatalf("another commitment: %v", err)
		}
	}
	for name, c := range map[string]struct {
		sealed []byte
		want   error
	}{
		"another magic": {append([]byte{3}, sealed[1:]...), aead.ErrUnknownKey},
		"a keyset's":    {append([]byte{1, 3, 4, 0, 1, 0, 0}, sealed[7:]...), aead.ErrUnknownKey},
		"cut":           {sealed[:aead.PassphraseHeader+27], aead.ErrUnauthentic},
		"empty":         {nil, aead.ErrUnauthentic},
	} {
		if _, err := kek.DecryptWithContext(t.Context(), c.sealed, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPassphraseSources(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passphrase")
	const salt = "?salt=00112233445566778899aabbccddeeff"
	var sealed []byte
	// One line end is removed, wherever the passphrase comes from: the same secret makes the same key.
	for _, end := range []string{"", "\n", "\r\n"} {
		if err := os.WriteFile(path, []byte(passphrase+end), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("SEALCACHE_TEST_PASSPHRASE", passphrase+end)
		for _, uri := range []string{"passphrase:file:" + path + salt, "passphrase:env:SEALCACHE_TEST_PASSPHRASE" + salt} {
			kek, err := aead.OpenKEK(t.Context(), uri)
			if err != nil {
				t.Fatal(err)
			}
			e := newEnvelope(t, kek)
			if sealed == nil {
				sealed = seal(t, e, "message")
			}
			open(t, e, sealed)
		}
	}
	if len(sealed)-len("message") != 4+34+65+28 {
		t.Errorf("an envelope under a passphrase adds %d bytes", len(sealed)-len("message"))
	}
	t.Setenv("SEALCACHE_TEST_PASSPHRASE", passphrase+"\n\n")
	if kek, err := aead.OpenKEK(t.Context(), "passphrase:env:SEALCACHE_TEST_PASSPHRASE"+salt); err != nil {
		t.Fatal(err)
	} else if _, err := newEnvelope(t, kek).DecryptWithContext(t.Context(), sealed, nil); err == nil {
		t.Error("two line ends were removed")
	}

	// The salt of the URI counts: one passphrase makes other keys elsewhere.
	for _, uri := range []string{"passphrase:file:" + path + "?salt=00112233445566778899aabbccddeefe", "passphrase:file:" + path} {
		kek, err := aead.OpenKEK(t.Context(), uri)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newEnvelope(t, kek).DecryptWithContext(t.Context(), sealed, nil); !errors.Is(err, aead.ErrUnknownKey) {
			t.Errorf("under another salt: %v", err)
		}
	}

	for name, content := range map[string]string{"empty": "", "short": "eleven byte", "long": strings.Repeat("x", 4097)} {
		t.Setenv("SEALCACHE_TEST_PASSPHRASE", content)
		if _, err := aead.OpenKEK(t.Context(), "passphrase:env:SEALCACHE_TEST_PASSPHRASE"); err == nil || content != "" && strings.Contains(err.Error(), content) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := aead.OpenKEK(t.Context(), "passphrase:file:"+path+".missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// The constant salt and the derivation are part of the format.
func TestPassphraseVector(t *testing.T) {
	t.Setenv("SEALCACHE_TEST_PASSPHRASE", passphrase)
	kek, err := aead.OpenKEK(t.Context(), "passphrase:env:SEALCACHE_TEST_PASSPHRASE")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := kek.EncryptWithContext(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = "\x02pass"
	if !bytes.HasPrefix(sealed, []byte(want)) {
		t.Errorf("starts with %x", sealed[:5])
	}
	if got := aead.PassphraseCommitment(sealed); got != passphraseCommitmentVector {
		t.Errorf("commitment %s", got)
	}
}

// passphraseCommitmentVector was computed with the argon2 command of the reference implementation and HKDF of Python's hmac.
const passphraseCommitmentVector = "303bbc6f96a76662816f76fb50979d6da4869ba80899b6dab722467c0b387a46"
