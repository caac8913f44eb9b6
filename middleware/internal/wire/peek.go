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
}

const (
	lenSize         = 4
	tinkPrefixSize  = 5
	tinkStart       = 0x01 // cryptofmt.TinkStartByte
	maxWrappedBytes = 4096 // Tink's bound on a wrapped data key
	minPayload      = 16   // an authentication tag, at least
)

// The ciphertexts of AWS KMS begin as Tink's prefix with a key id would, but are
// longer than anything that a Tink AEAD makes of a data key of Tink's: prefix,
// nonce, a key proto of at most 80 bytes, tag.
const maxTinkWrapped = 5 + 24 + 80 + 32

var awsFirst, awsSecond = []byte{1, 1, 2, 0}, []byte{1, 2, 2, 0} //nolint:gochecknoglobals // constants

// Peek looks at the form of an AEAD's ciphertext.
func Peek(ct []byte) Ciphertext {
	if len(ct) > lenSize {
		n := int(binary.BigEndian.Uint32(ct))
		if n > 0 && n <= maxWrappedBytes && len(ct) >= lenSize+n+minPayload {
			wrapped := ct[lenSize : lenSize+n]
			sum := sha256.Sum256(wrapped)
			c := Ciphertext{Envelope: true, WrappedBytes: n, DataKey: hex.EncodeToString(sum[:8])}
			if n <= maxTinkWrapped || !bytes.HasPrefix(wrapped, awsFirst) && !bytes.HasPrefix(wrapped, awsSecond) {
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
