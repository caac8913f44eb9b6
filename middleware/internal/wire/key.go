package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Key describes how a ciphertext names the key that sealed it. Reading it needs no key, and it is not authenticated. It
// is derived from the form of the bytes. A Tink keyset writes a prefix of five bytes. A Tink KMS envelope writes a
// length of four and a wrapped data key. The ciphertext of another AEAD may have one of these forms by chance.
type Key struct {
	// Wrapped is the wrapped data key of an envelope, as part of the ciphertext. It is nil without an envelope.
	Wrapped []byte
	// ID is the id of the key if HasID. In an envelope it is the key that wrapped the data key.
	ID    uint32
	HasID bool
	// Version is the version of a Vault transit key, such as "v3".
	Version string
	// commitment names the passphrase under which the data key was wrapped, if one was.
	commitment []byte
}

const (
	// MaxWrappedBytes is Tink's bound on a wrapped data key.
	MaxWrappedBytes = 4096
	// MaxKeyBytes is the largest result of KeyBytes.
	MaxKeyBytes = lenSize + MaxWrappedBytes + minPayload

	lenSize        = 4
	tinkPrefixSize = 5
	tinkStart      = 0x01 // cryptofmt.TinkStartByte
	minPayload     = 16   // an authentication tag, at least
)

// maxTinkWrapped bounds the length of a data key that a Tink AEAD wrapped: prefix, nonce, a key proto of at most 80 bytes,
// tag. Ciphertexts of key services are longer (AWS KMS about 180 bytes, RSA keys from 256), and may begin with the same
// byte.
const maxTinkWrapped = tinkPrefixSize + 24 + 80 + 32

// Package aead begins a key that it wraps under a passphrase with these bytes and a commitment to the derived key.
const (
	passphraseStart      = "\x02pass"
	passphraseCommitment = 32
	passphraseWrapped    = len(passphraseStart) + passphraseCommitment + 12 + minPayload // and the key
)

// StoredKey returns the Key of a stored value. It is empty if the value is not sealed in a format that this release knows.
func StoredKey(stored []byte) Key {
	_, n, err := Parse(stored)
	if err != nil {
		return Key{}
	}
	return KeyOf(stored[n:])
}

// KeyBytes returns how many bytes of a ciphertext KeyOf needs. It looks only at the start, and returns 0 if the start shows
// no wrapped data key.
func KeyBytes(start []byte) int {
	if len(start) < lenSize {
		return 0
	}
	n := binary.BigEndian.Uint32(start)
	if n == 0 || n > MaxWrappedBytes {
		return 0
	}
	return lenSize + int(n) + minPayload
}

// KeyOf returns the Key of an AEAD's ciphertext.
func KeyOf(ct []byte) Key {
	id, named := KeyID(ct)
	wrapped := wrappedIn(ct)
	if wrapped == nil {
		return Key{ID: id, HasID: named}
	}
	k := Key{ID: id, HasID: named, Wrapped: wrapped, Version: vaultVersion(wrapped)}
	if isPassphrase(wrapped) {
		k.commitment = wrapped[len(passphraseStart):][:passphraseCommitment]
	}
	return k
}

// KeyID returns the id in KeyOf, and reports whether there is one. Each read needs it.
func KeyID(ct []byte) (id uint32, ok bool) {
	wrapped := wrappedIn(ct)
	switch {
	case wrapped == nil:
		return tinkKeyID(ct)
	case len(wrapped) > maxTinkWrapped, isPassphrase(wrapped):
		return 0, false
	default:
		return tinkKeyID(wrapped)
	}
}

// wrappedIn returns the wrapped data key in the ciphertext of an envelope, or nil.
func wrappedIn(ct []byte) []byte {
	n := KeyBytes(ct)
	if n == 0 || n > len(ct) {
		return nil
	}
	return ct[lenSize : n-minPayload]
}

// isPassphrase reports whether a data key was wrapped under a passphrase.
func isPassphrase(wrapped []byte) bool {
	return len(wrapped) <= maxTinkWrapped && len(wrapped) > passphraseWrapped && bytes.HasPrefix(wrapped, []byte(passphraseStart))
}

func tinkKeyID(ct []byte) (uint32, bool) {
	if len(ct) < tinkPrefixSize+minPayload || ct[0] != tinkStart {
		return 0, false
	}
	return binary.BigEndian.Uint32(ct[1:]), true
}

// vaultVersion returns the version in "vault:v3:...", the form of Vault's transit engine.
func vaultVersion(wrapped []byte) string {
	rest, ok := bytes.CutPrefix(wrapped, []byte("vault:v"))
	digits, _, ok2 := bytes.Cut(rest, []byte(":"))
	if !ok || !ok2 || len(digits) == 0 || len(digits) > 9 || len(bytes.Trim(digits, "0123456789")) > 0 {
		return ""
	}
	return "v" + string(digits)
}

// Envelope reports whether the value was sealed under a data key, whose wrapped form it contains.
func (k Key) Envelope() bool { return k.Wrapped != nil }

// DataKey is the fingerprint of the wrapped data key: the first 8 bytes of its SHA-256, in hexadecimal. It is empty
// without an envelope.
func (k Key) DataKey() string { return fingerprint(k.Wrapped) }

// Passphrase is the fingerprint of the key that was derived from a passphrase and its salt, or empty.
func (k Key) Passphrase() string { return fingerprint(k.commitment) }

func fingerprint(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// String names the key for reports: "key 17", "key 17 of a KEK", "KEK vault:v3", "KEK passphrase 0123456789abcdef", "data key 0123456789abcdef", "unnamed".
func (k Key) String() string {
	switch {
	case k.HasID && k.Envelope():
		return fmt.Sprintf("key %d of a KEK", k.ID)
	case k.HasID:
		return fmt.Sprintf("key %d", k.ID)
	case !k.Envelope():
		return "unnamed"
	case k.Version != "":
		return "KEK vault:" + k.Version
	case k.commitment != nil:
		return "KEK passphrase " + k.Passphrase()
	default:
		return "data key " + k.DataKey()
	}
}
