package gocloud

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// A ciphertext is one of
//
//	"\x03gc" || 0x01 || Keeper(0x01 || SHA-256(domain || associated data) || plaintext)
//	"\x03gc" || 0x02 || length (2, big endian) || Keeper(0x02 || SHA-256(domain || associated data) || key (32))
//	     || AES-256-GCM(key; nonce (12), ciphertext, tag (16))
//
// The first is for plaintexts of up to maxDirect bytes. The kind inside is authenticated by the Keeper. The
// associated data of AES-256-GCM is everything before its nonce.
const (
	magic = "\x03gc" // no other AEAD of this project begins so

	kindDirect   = 1
	kindEnvelope = 2

	domain    = "sealcache Go Cloud KEK\x00"
	keySize   = 32
	maxDirect = 96
)

var errForm = errors.New("the ciphertext does not have the format of package gocloud")

// inner returns the plaintext that the Keeper encrypts.
func inner(kind byte, associatedData, secret []byte) []byte {
	sum := digest(associatedData)
	out := make([]byte, 0, 1+len(sum)+len(secret))
	out = append(out, kind)
	out = append(out, sum[:]...)
	return append(out, secret...)
}

func digest(associatedData []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write([]byte(domain))
	h.Write(associatedData)
	return [sha256.Size]byte(h.Sum(nil))
}

// isInner reports whether the Keeper's plaintext has the form of inner.
func isInner(opened []byte) bool {
	return len(opened) > sha256.Size && (opened[0] == kindDirect || opened[0] == kindEnvelope)
}

// secretOf returns the secret in the Keeper's plaintext, if its kind and its associated data are right.
func secretOf(kind byte, associatedData, opened []byte) ([]byte, error) {
	sum := digest(associatedData)
	want := append([]byte{kind}, sum[:]...)
	if len(opened) < len(want) || subtle.ConstantTimeCompare(opened[:len(want)], want) != 1 {
		return nil, errForm
	}
	return opened[len(want):], nil
}

// split returns the kind of a ciphertext, the Keeper's ciphertext, and the rest. A ciphertext that it accepts is not
// empty in any part.
func split(ciphertext []byte) (kind byte, kept, rest []byte, err error) {
	body, ok := bytes.CutPrefix(ciphertext, []byte(magic))
	switch {
	case !ok:
	case len(body) > 1 && body[0] == kindDirect:
		return kindDirect, body[1:], nil, nil
	case len(body) > 3 && body[0] == kindEnvelope:
		n := int(binary.BigEndian.Uint16(body[1:]))
		if n > 0 && len(body)-3 > n {
			return kindEnvelope, body[3 : 3+n], body[3+n:], nil
		}
	}
	return 0, nil, nil, errForm
}

// joinDirect returns a ciphertext of the first kind.
func joinDirect(kept []byte) []byte {
	return append(append([]byte(magic), kindDirect), kept...)
}

// joinEnvelope returns the bytes before the nonce of an envelope.
func joinEnvelope(kept []byte) ([]byte, error) {
	if len(kept) == 0 || len(kept) > 1<<16-1 {
		return nil, errForm
	}
	out := append([]byte(magic), kindEnvelope)
	return append(binary.BigEndian.AppendUint16(out, uint16(len(kept))), kept...), nil
}

func newKey() []byte {
	key := make([]byte, keySize)
	rand.Read(key)
	return key
}

// gcm is allowed in FIPS 140-only mode, unlike cipher.NewGCM.
func gcm(key []byte) (cipher.AEAD, error) {
	if len(key) != keySize {
		return nil, errForm
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
