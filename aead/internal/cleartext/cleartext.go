// Package cleartext marks a keyset as one that is read in clear.
//
// It is internal, so that only aead/insecurecleartextkeyset, whose name says what it does, can hand the mark to
// aead.OpenKeyring.
package cleartext

import (
	"context"
	"errors"
)

// KEK stands where a key-encryption key is expected and says that there is none. It encrypts nothing: both methods
// fail, so that it can never pass for a key by accident.
type KEK struct{}

var errNoKEK = errors.New("aead: the keyset is in clear, there is no key-encryption key")

// EncryptWithContext always fails.
func (KEK) EncryptWithContext(context.Context, []byte, []byte) ([]byte, error) { return nil, errNoKEK }

// DecryptWithContext always fails.
func (KEK) DecryptWithContext(context.Context, []byte, []byte) ([]byte, error) { return nil, errNoKEK }
