package aead

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// A key that does not encrypt, or does not decrypt what it encrypted, fails its test.
func TestSelfTest(t *testing.T) {
	t.Parallel()
	var probe []byte
	reverse := func(in, _ []byte) ([]byte, error) {
		out := append([]byte("head"), in...)
		for i := range out {
			out[i] ^= 0xff
		}
		return out, nil
	}
	back := func(in, ad []byte) ([]byte, error) {
		out, err := reverse(in, ad)
		return out[8:], err
	}
	remember := func(in, ad []byte) ([]byte, error) {
		probe = bytes.Clone(in)
		return reverse(in, ad)
	}
	fail := func([]byte, []byte) ([]byte, error) { return nil, errors.New("aead: broken") }
	if n, err := selfTest("a key", remember, back); n != 4 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	same := func(in, _ []byte) ([]byte, error) { return in, nil }
	for want, f := range map[string][2]func(in, ad []byte) ([]byte, error){
		"aead: test of a key: the key cannot encrypt: broken": {fail, back},
		"contains the plaintext":                              {same, same},
		"it cannot decrypt its own ciphertext":                {reverse, fail},
		"cannot decrypt its own ciphertext (":                 {reverse, same},
	} {
		if _, err := selfTest("a key", f[0], f[1]); err == nil || !strings.Contains(err.Error(), want) || bytes.Contains([]byte(err.Error()), probe) {
			t.Errorf("%v, want %q", err, want)
		}
		if _, err := selfTest("key 4294967295 in the keyset", f[0], f[1]); len(err.Error()) >= 100 {
			t.Errorf("%d characters: %v", len(err.Error()), err)
		}
	}
}
