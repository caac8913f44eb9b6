package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Ciphertext is what an AEAD's ciphertext shows of the key that made it, to
// who has no key. It is a guess by form: Tink's keysets write a prefix of five
// bytes, its KMS envelopes a length of four, and other AEADs anything.
type Ciphertext struct {
	// Envelope is set when the ciphertext has the form of Tink's KMS envelope.
	Envelope bool
	// WrappedBytes is the length of the wrapped data key of an envelope.
	WrappedBytes int
	// DataKey is the fingerprint of the wrapped data key: the first 8 bytes of
	// its SHA-256, in hexadecimal.
	DataKey string
	// HasKeyID tells whether KeyID is known. In an envelope it is the id of
	// the key that wrapped the data key, where that was one of a Tink keyset.
	HasKeyID bool
	KeyID    uint32
	// Salt is set when the data key of an envelope has the form in which package aead wraps one under a passphrase: the
	// salt's fingerprint, in hexadecimal. Each process that seals has a salt of its own.
	Salt string
}

const (
	lenSize         = 4
	tinkPrefixSize  = 5
	tinkStart       = 0x01 // cryptofmt.TinkStartByte
	maxWrappedBytes = 4096 // Tink's bound on a wrapped data key
	minPayload      = 16   // an authentication tag, at least
)

// maxTinkWrapped bounds what a Tink AEAD makes of a data key of Tink's: prefix, nonce, a key proto of at most 80 bytes,
// tag. Key services return more than that (AWS KMS, whose ciphertexts begin as Tink's prefix would, about 180 bytes;
// those of RSA keys 256 and more), of which the first byte may be any.
const maxTinkWrapped = tinkPrefixSize + 24 + 80 + 32

// What package aead puts in front of a key that it wraps under a passphrase: version 1, the cost of Argon2id as the only
// one there is (3 passes, 4 lanes, 64 MiB), and a salt. By its first bytes alone it would be taken for Tink's prefix with
// the key id 0x03040001; of one such key, one ciphertext in 65536 would be taken for this.
const (
	passphraseStart   = "\x01\x03\x04\x00\x01\x00\x00"
	passphraseSalt    = 16
	passphraseWrapped = len(passphraseStart) + passphraseSalt + 12 + minPayload // and the key
)

// Peek looks at the form of an AEAD's ciphertext.
func Peek(ct []byte) Ciphertext {
	if len(ct) > lenSize {
		n := int(binary.BigEndian.Uint32(ct))
		if n > 0 && n <= maxWrappedBytes && len(ct) >= lenSize+n+minPayload {
			wrapped := ct[lenSize : lenSize+n]
			sum := sha256.Sum256(wrapped)
			c := Ciphertext{Envelope: true, WrappedBytes: n, DataKey: hex.EncodeToString(sum[:8])}
			switch {
			case n > maxTinkWrapped:
			case n > passphraseWrapped && bytes.HasPrefix(wrapped, []byte(passphraseStart)):
				sum := sha256.Sum256(wrapped[len(passphraseStart):][:passphraseSalt])
				c.Salt = hex.EncodeToString(sum[:8])
			default:
				c.KeyID, c.HasKeyID = tinkKeyID(wrapped)
			}
			return c
		}
	}
	id, ok := tinkKeyID(ct)
	return Ciphertext{KeyID: id, HasKeyID: ok}
}

func tinkKeyID(ct []byte) (uint32, bool) {
	if len(ct) < tinkPrefixSize+minPayload || ct[0] != tinkStart {
		return 0, false
	}
	return binary.BigEndian.Uint32(ct[1:]), true
}
