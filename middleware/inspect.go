package middleware

import (
	"fmt"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Info is what a stored value's header shows to who has no key. The header is
// authenticated, but Inspect has no key to check that: do not decide on it
// whether to trust a value.
type Info struct {
	// Version is the version of the format.
	Version int
	// Kind says what was sealed: "cache value", "job payload", "job result",
	// "job failure" or "schedule".
	Kind string
	// Type is the Go type or the encoding of the value: "string", "int64",
	// "json".
	Type string
	// Compressed tells whether the value was compressed before sealing.
	// Expires tells whether an expiry is sealed with it. No release writes
	// either yet.
	Compressed, Expires bool

	// Envelope is set when the value was sealed under a data key, which stands
	// wrapped in the value. DataKey is then that wrapped key's fingerprint, the
	// first 8 bytes of its SHA-256 in hexadecimal: equal for all values under
	// one data key.
	Envelope bool
	DataKey  string
	// KeyID is the id of the key that sealed the value, or in an envelope of
	// the key that wrapped the data key, where that key is one of a Tink keyset
	// (HasKeyID). Key services do not show theirs.
	KeyID    uint32
	HasKeyID bool
	// Salt is the fingerprint of the salt, if the data key was wrapped under a passphrase. Every process that seals has
	// one of its own.
	Salt string

	// StoredBytes is the size of the stored value, HeaderBytes that of the
	// header before the AEAD's ciphertext, CiphertextBytes the rest.
	StoredBytes, HeaderBytes, CiphertextBytes int
}

// Inspect reads a stored value's header without any key. Errors are
// ErrNotSealed and ErrUnsupportedFormat. What it says of keys is read off the
// ciphertext's form: other AEADs than Tink's may look like one by chance.
func Inspect(stored []byte) (Info, error) {
	h, n, err := wire.Parse(stored)
	if err != nil {
		return Info{}, fmt.Errorf("middleware: inspect: %w", err)
	}
	c := wire.Peek(stored[n:])
	return Info{
		Version:         int(wire.Version),
		Kind:            h.Kind.String(),
		Type:            h.Type.String(),
		Compressed:      h.Flags&wire.Compressed != 0,
		Expires:         h.Flags&wire.Expires != 0,
		Envelope:        c.Envelope,
		DataKey:         c.DataKey,
		KeyID:           c.KeyID,
		HasKeyID:        c.HasKeyID,
		Salt:            c.Salt,
		StoredBytes:     len(stored),
		HeaderBytes:     n,
		CiphertextBytes: len(stored) - n,
	}, nil
}
