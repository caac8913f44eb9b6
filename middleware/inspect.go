package middleware

import (
	"fmt"
	"time"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Info describes the header of a stored value. Reading it needs no key. The
// header is authenticated when the value is opened, but Inspect cannot verify
// it without a key. So do not trust it.
type Info struct {
	// Version is the version of the format.
	Version int `json:"version"`
	// Kind is the kind of the sealed value: "cache value", "job payload", "job result",
	// "job failure", "schedule" or "key check".
	Kind string `json:"kind"`
	// Type is the Go type or the encoding of the value: "string", "int64",
	// "json".
	Type string `json:"type"`
	// Compressed reports whether the value was compressed before sealing.
	Compressed bool `json:"compressed"`
	// Padded reports whether the value was padded before sealing.
	Padded bool `json:"padded"`
	// Hidden reports whether the entry's name is a pseudonym.
	Hidden bool `json:"hidden"`
	// PRFKey is the id of the PRF key that made the pseudonym, if Hidden.
	PRFKey uint32 `json:"prf_key_id,omitempty"`
	// Named reports whether the key is sealed with the value.
	Named bool `json:"sealed_name"`
	// Tagged reports whether the tags are sealed with the value.
	Tagged bool `json:"tagged"`
	// Expires reports whether an expiry is sealed with the value.
	Expires bool `json:"expires"`
	// End is the sealed expiry. It is zero unless Expires.
	End time.Time `json:"end,omitzero"`
	// Key is the key that the value names.
	Key KeyReference `json:"key"`
	// StoredBytes is the size of the stored value.
	StoredBytes int `json:"stored_bytes"`
	// HeaderBytes is the size of its header.
	HeaderBytes int `json:"header_bytes"`
	// CiphertextBytes is the size of the AEAD's ciphertext after the header.
	CiphertextBytes int `json:"ciphertext_bytes"`
}

// KeyReference is the key that a sealed value names. Inspect reads it from the
// ciphertext and cannot verify it. A ciphertext of an AEAD that is not Tink's may
// look like one of Tink's by chance.
type KeyReference struct {
	// ID is the id of the key in a Tink keyset if HasID. In an envelope it is
	// the key that wrapped the data key. Key services do not show ids.
	ID    uint32 `json:"key_id"`
	HasID bool   `json:"has_key_id"`
	// Version is the version of a Vault transit key, such as "v3", or empty.
	Version string `json:"version"`
	// Envelope reports whether the value was sealed under a data key, which is
	// stored wrapped in the value.
	Envelope bool `json:"envelope"`
	// DataKey is the fingerprint of the wrapped data key of an envelope: the
	// first 8 bytes of its SHA-256, in hexadecimal. Values under one data key
	// have the same fingerprint.
	DataKey string `json:"data_key"`
	// Passphrase is the fingerprint of the derived key if a passphrase wraps the data key.
	Passphrase string `json:"passphrase"`
}

// Inspect reads the header of a stored value. It needs no key. Errors are
// ErrNotSealed and ErrUnsupportedFormat.
func Inspect(stored []byte) (Info, error) {
	h, n, err := wire.Parse(stored)
	if err != nil {
		return Info{}, fmt.Errorf("middleware: inspect: %w", err)
	}
	k := wire.KeyOf(stored[n:])
	return Info{
		Version:    int(wire.Version),
		Kind:       h.Kind.String(),
		Type:       h.Type.String(),
		Compressed: h.Flags&wire.Compressed != 0,
		Padded:     h.Flags&wire.Padded != 0,
		Hidden:     h.Flags&wire.Hidden != 0,
		PRFKey:     h.PRFKey,
		Named:      h.Flags&wire.Named != 0,
		Tagged:     h.Flags&wire.Tagged != 0,
		Expires:    h.Flags&wire.Expires != 0,
		End:        endIn(h),
		Key: KeyReference{
			ID: k.ID, HasID: k.HasID, Version: k.Version,
			Envelope: k.Envelope(), DataKey: k.DataKey(), Passphrase: k.Passphrase(),
		},
		StoredBytes:     len(stored),
		HeaderBytes:     n,
		CiphertextBytes: len(stored) - n,
	}, nil
}
