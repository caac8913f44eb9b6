package aead

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/tink"
)

const (
	gcmNonceSize = 12
	gcmTagSize   = 16
	gcmOverhead  = gcmNonceSize + gcmTagSize

	// maxGCMPlaintext is the longest message of AES-GCM, 2^36 - 32 bytes (NIST SP 800-38D, section 5.2.1.1). crypto/cipher
	// panics on a longer one.
	maxGCMPlaintext = (1<<32 - 2) * 16
)

// primitive seals and opens under one key.
//
// AES-GCM uses crypto/cipher, whose Seal and Open append to a given buffer. The bytes (nonce, ciphertext, tag) are those of Tink's
// primitive. Other keys use Tink's primitive, whose result is copied.
type primitive struct {
	seal     cipher.AEAD // AES-GCM that draws its own nonce; nil for other keys
	open     cipher.AEAD // AES-GCM that takes the nonce, so that it opens in place without moving bytes; may be nil
	tink     tink.AEAD   // other keys
	overhead int         // bytes that sealing adds; 0 if not known
}

// newGCMPrimitive returns the primitive of an AES-GCM key of 16 or 32 bytes, the sizes that Tink allows. It does not keep key. A
// primitive that only opens takes half the memory.
func newGCMPrimitive(key []byte, sealing bool) (*primitive, error) {
	if len(key) != 16 && len(key) != 32 {
		return nil, fmt.Errorf("aead: the AES-GCM key has %d bytes (16 or 32 are allowed)", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, errors.New("aead: Go's package crypto/aes refused an AES key of an allowed length (report this bug)")
	}
	p := &primitive{overhead: gcmOverhead}
	if p.open, err = cipher.NewGCM(block); err != nil {
		p.open = nil
	}
	if !sealing && p.open != nil {
		return p, nil
	}
	// The random nonce comes from the same generator as crypto/rand and at the same cost. This form is also
	// approved in FIPS 140-only mode, where NewGCM fails.
	if p.seal, err = cipher.NewGCMWithRandomNonce(block); err != nil {
		return nil, fmt.Errorf("aead: Go's package crypto/cipher refused an AES-GCM key of an allowed length (report this bug): %w", err)
	}
	return p, nil
}

// newTinkPrimitive returns a primitive that uses Tink's. It seals once to find out how many bytes that adds.
func newTinkPrimitive(a tink.AEAD) (*primitive, error) {
	sealed, err := a.Encrypt(nil, nil)
	if err != nil {
		if fips140.Enforced() {
			return nil, fmt.Errorf("aead: the mode fips140=only refuses this type (use AES-256-GCM keys): %w", err)
		}
		return nil, fmt.Errorf("aead: Tink cannot encrypt with such a key (use AES-256-GCM keys): %w", err)
	}
	return &primitive{tink: a, overhead: len(sealed)}, nil
}

// sealTo appends to dst, which the caller has grown.
func (p *primitive) sealTo(dst, plaintext, associatedData []byte) ([]byte, error) {
	if p.seal != nil {
		if uint64(len(plaintext)) > maxGCMPlaintext {
			return nil, fmt.Errorf("aead: seal: the message of %d bytes is too long for AES-GCM", len(plaintext))
		}
		return p.seal.Seal(dst, nil, plaintext, associatedData), nil
	}
	sealed, err := p.tink.Encrypt(plaintext, associatedData)
	if err != nil {
		return nil, fmt.Errorf("aead: seal: Tink failed to encrypt the message: %w", err)
	}
	return append(dst, sealed...), nil
}

// openTo appends the plaintext of body to dst. With inPlace it ignores dst and decrypts within the memory of body.
func (p *primitive) openTo(dst, body, associatedData []byte, inPlace bool) ([]byte, error) {
	switch {
	case p.tink == nil && len(body) < gcmOverhead:
		return nil, errNotOpened
	case p.open != nil:
		nonce, sealed := body[:gcmNonceSize], body[gcmNonceSize:]
		if inPlace {
			dst = sealed[:0]
		}
		opened, err := p.open.Open(dst, nonce, sealed, associatedData)
		if err != nil {
			return nil, errNotOpened
		}
		return opened, nil
	case p.seal != nil:
		if inPlace {
			dst = body[:0]
		}
		opened, err := p.seal.Open(dst, nil, body, associatedData)
		if err != nil {
			return nil, errNotOpened
		}
		return opened, nil
	}
	opened, err := p.tink.Decrypt(body, associatedData)
	if err != nil {
		return nil, errNotOpened
	}
	if inPlace {
		dst = body[:0]
	}
	return append(dst, opened...), nil
}
