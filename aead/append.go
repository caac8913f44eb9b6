package aead

import "context"

// AppendAEAD is what Envelope and Keyring offer beyond Tink's two calls: sealing behind a header that is already in a
// buffer, and opening into a buffer that the caller has. At a kilobyte and more, allocating and copying cost more than
// AES does; on the AES-GCM path neither call allocates if the buffer has room.
//
// The bytes are the same as those of EncryptWithContext and DecryptWithContext. Both methods are safe for concurrent
// use.
type AppendAEAD interface {
	// SealTo appends the ciphertext of plaintext to dst and returns the extended slice. It does not modify plaintext
	// or what dst holds. Neither plaintext nor associatedData may overlap dst's spare capacity. On an error the
	// returned slice is nil; dst's spare capacity may have been written to.
	SealTo(ctx context.Context, dst, plaintext, associatedData []byte) ([]byte, error)

	// OpenTo appends the plaintext of ciphertext to dst and returns the extended slice. It does not modify ciphertext,
	// which must not overlap dst's spare capacity, with one exception: if dst is ciphertext[:0], the value is opened in
	// place. The result is then a subslice of ciphertext, at whatever offset, and ciphertext's bytes are destroyed,
	// also on failure. On an error the returned slice is nil.
	OpenTo(ctx context.Context, dst, ciphertext, associatedData []byte) ([]byte, error)
}

// inPlace tells whether dst asks for ciphertext to be opened in its own memory.
func inPlace(dst, ciphertext []byte) bool {
	return len(dst) == 0 && cap(dst) > 0 && len(ciphertext) > 0 && &dst[:1][0] == &ciphertext[0]
}

// grow returns dst with room for n more bytes, in one allocation of exactly that size if it has not.
func grow(dst []byte, n int) []byte {
	if cap(dst)-len(dst) >= n {
		return dst
	}
	grown := make([]byte, len(dst), len(dst)+n)
	copy(grown, dst)
	return grown
}

// present makes an empty plaintext a non-nil slice, as Tink does.
func present(plaintext []byte, err error) ([]byte, error) {
	if err == nil && plaintext == nil {
		plaintext = []byte{}
	}
	return plaintext, err
}
