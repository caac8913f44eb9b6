package gocloud

import (
	"bytes"
	"encoding/hex"
	"testing"

	"gocloud.dev/secrets/localsecrets"
)

// The vectors of FORMAT.md, "Ciphertext". Their Keeper is localsecrets under a key of 32 bytes 07.
func TestVectors(t *testing.T) {
	t.Parallel()
	keeperOf := localsecrets.NewKeeper([32]byte(bytes.Repeat([]byte{7}, 32)))
	defer keeperOf.Close()
	kek, err := NewKEK(t.Context(), keeperOf, "vectors")
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range vectors() {
		sealed, err := hex.DecodeString(v.sealed)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := kek.DecryptWithContext(t.Context(), sealed, []byte("ad"))
		if err != nil || !bytes.Equal(opened, v.plaintext) {
			t.Errorf("%s: %q, %v", name, opened, err)
		}
		if _, err := kek.DecryptWithContext(t.Context(), sealed, nil); err == nil {
			t.Errorf("%s: opened without associated data", name)
		}
		if kind, _, _, err := split(sealed); err != nil || kind != v.kind {
			t.Errorf("%s: kind %d, %v", name, kind, err)
		}
	}
}

// FuzzSplit checks that no ciphertext of an attacker panics, and that an accepted one has one form only.
func FuzzSplit(f *testing.F) {
	for _, v := range vectors() {
		b, err := hex.DecodeString(v.sealed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, kept, rest, err := split(b)
		if err != nil {
			return
		}
		again := joinDirect(kept)
		if kind == kindEnvelope {
			if again, err = joinEnvelope(kept); err != nil {
				t.Fatal(err)
			}
			again = append(again, rest...)
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x splits as %x", b, again)
		}
	})
}

type vector struct {
	kind      byte
	plaintext []byte
	sealed    string // in hexadecimal, with the associated data "ad"
}

func vectors() map[string]vector {
	return map[string]vector{
		"direct": {
			kindDirect, []byte("a data key"),
			"03676301e50c43af3690180cea1c04a3f20e0c178663bb999e52e0a4957050e8aee931a1933568bbf52a09819381d579841ea32a09259a6c" +
				"b7294b3d88083ad494bb419e9c9c78a3ca923e428af37740de1716c534e248",
		},
		"envelope": {
			kindEnvelope, bytes.Repeat([]byte("keyset "), 16),
			"036763020069075e3119c0374557ae327923b6fe5d30c692620123c8f04c20d4dd5f51dc9eff4ea1e5a5a52fb9a635973be1ee2c5cf54a9a" +
				"cf4e7967c1b55e2b5766c24ea2238329659d9f2bfcb6d1836371365e1d391ab88f8c8cfbf77020ebdaa8743d7e6c76b054082f5d05617cf4" +
				"c17861a4c02bddfb3ea84ac62c15116343c1e85ece5dd2af467894cb476d74b556bd79b315adcd7aa908c691aa3b0d05dfb74d0a7af2771c" +
				"1fd543fd7383ab438899e8f8c8533aca25fdcd9cbb69c34f9e5f4d592f2271c297843d37944668f1d114507d12b81cc1fb4b5a3cc519cb3a" +
				"e0ec4173fc7ccc8bdf44c909a5e2bf152333f54e7e549ad0026a5f",
		},
	}
}
