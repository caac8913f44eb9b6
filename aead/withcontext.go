package aead

import (
	"context"
	"errors"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/nilcheck"
)

// WithContext adapts a plain Tink AEAD, such as aead.New of Tink returns, to the interface with a context.
//
// It is for local primitives, which compute and call no service. Each failure to decrypt counts as a refusal and is
// ErrUnauthentic, even if the ciphertext names a key that the keyset lacks. If processes load keys at different times, use a
// Keyring, which returns ErrUnknownKey for such a ciphertext. Do not adapt the AEAD of a key service: an outage would look like
// an altered value. The context is checked before each call; it cannot interrupt one.
//
// A *Keyring is returned as it is. A nil AEAD gives an adapter that fails every call.
func WithContext(a tink.AEAD) tink.AEADWithContext {
	if k, ok := a.(*Keyring); ok {
		return k
	}
	if nilcheck.IsNil(a) {
		a = nil
	}
	return localAEAD{"aead.WithContext(...)", a}
}

type localAEAD struct {
	described
	aead tink.AEAD
}

var errNilAEAD = errors.New("aead: WithContext: the given AEAD is nil")

func (l localAEAD) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: seal: %w", ended(ctx))
	}
	if l.aead == nil {
		return nil, errNilAEAD
	}
	sealed, err := l.aead.Encrypt(plaintext, associatedData)
	if err != nil {
		return nil, fmt.Errorf("aead: seal: the AEAD given to WithContext failed: %w", errtext.Guard(err))
	}
	return sealed, nil
}

func (l localAEAD) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("aead: open: %w", ended(ctx))
	}
	if l.aead == nil {
		return nil, errNilAEAD
	}
	opened, err := l.aead.Decrypt(ciphertext, associatedData)
	if err = errtext.Guard(err); err != nil {
		if errors.Is(err, ErrUnauthentic) || errors.Is(err, ErrUnknownKey) || errors.Is(err, ErrKeyServiceUnavailable) {
			return nil, err
		}
		return nil, fmt.Errorf("%w (cause: %w)", ErrUnauthentic, err)
	}
	return present(opened, nil)
}
