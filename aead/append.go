package aead

import "context"

// AppendAEAD is an AEAD that appends its results to a buffer of the caller. Envelope and Keyring implement it. For messages
// over a kilobyte, allocating and copying cost more than AES does. With AES-GCM neither method allocates if the buffer has the
// capacity.
//
// The bytes are those of EncryptWithContext and DecryptWithContext. Both methods are safe for concurrent use.
type AppendAEAD interface {
	// SealTo appends the ciphertext of plaintext to dst and returns the extended slice. It does not modify plaintext or the bytes
	// in dst. Neither plaintext nor associatedData may overlap dst's spare capacity. On an error the result is nil, and dst's
	// spare capacity may have been written to.
	SealTo(ctx context.Context, dst, plaintext, associatedData []byte) ([]byte, error)

	// OpenTo appends the plaintext of ciphertext to dst and returns the extended slice. It does not modify ciphertext, which
	// must not overlap dst's spare capacity. There is one exception: if dst is ciphertext[:0], OpenTo decrypts in place. The
	// result is then a subslice of ciphertext at some offset, and the bytes of ciphertext are destroyed, also on failure. On
	// an error the result is nil.
	OpenTo(ctx context.Context, dst, ciphertext, associatedData []byte) ([]byte, error)
}

// inPlace reports whether dst asks for ciphertext to be opened in its own memory.
func inPlace(dst, ciphertext []byte) bool {
	return len(dst) == 0 && cap(dst) > 0 && len(ciphertext) > 0 && &dst[:1][0] == &ciphertext[0]
}

// grow returns dst with the capacity for n more bytes. If it must allocate, it allocates exactly that size.
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
