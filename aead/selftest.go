package aead

import (
	"bytes"
	"fmt"
)

// selfTest seals a probe and opens it again. It returns how many bytes sealing adds. key names the key in errors.
func selfTest(key string, seal, open func(in, associatedData []byte) ([]byte, error)) (overhead int, err error) {
	probe := []byte("sealcache self test: this text must not be found in what is sealed")
	ad := []byte("sealcache self test")
	sealed, err := seal(probe, ad)
	if err != nil {
		return 0, fmt.Errorf("aead: test of %s: the key cannot encrypt: %w", key, withoutPrefix(err))
	}
	if bytes.Contains(sealed, probe) {
		return 0, fmt.Errorf("aead: test of %s: the ciphertext contains the plaintext (use another key)", key)
	}
	opened, err := open(sealed, ad)
	if err != nil || !bytes.Equal(opened, probe) {
		return 0, fmt.Errorf("aead: test of %s: it cannot decrypt its own ciphertext (faulty hardware?)", key)
	}
	return len(sealed) - len(probe), nil
}
