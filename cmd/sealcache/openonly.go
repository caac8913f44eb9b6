package main

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
)

// openOnly is a key-encryption key for an operator who may decrypt and not encrypt. An aead.Envelope makes a data key when
// it opens, and proves it. This type keeps that data key instead of asking the key service to wrap it. Nothing that is
// sealed under it can be opened elsewhere.
type openOnly struct {
	tink.AEADWithContext

	mu   sync.Mutex
	kept map[string]keptKey
}

// keptKey is a data key that no key service has wrapped.
type keptKey struct {
	plaintext      []byte
	associatedData string
}

// Close leaves the KEK to its owner.
func (k *openOnly) Close() error { return nil }

func (k *openOnly) EncryptWithContext(_ context.Context, plaintext, associatedData []byte) ([]byte, error) {
	name := rand.Text() + rand.Text()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept == nil {
		k.kept = map[string]keptKey{}
	}
	k.kept[name] = keptKey{append([]byte(nil), plaintext...), string(associatedData)}
	return []byte(name), nil
}

func (k *openOnly) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	k.mu.Lock()
	kept, ok := k.kept[string(ciphertext)]
	k.mu.Unlock()
	if ok && kept.associatedData != string(associatedData) {
		return nil, aead.ErrUnauthentic
	}
	if ok {
		return append([]byte(nil), kept.plaintext...), nil
	}
	return k.AEADWithContext.DecryptWithContext(ctx, ciphertext, associatedData)
}

// opensOnly is an AEAD over an openOnly that does not seal. A checkpoint would hold a proof of these keys that no process
// that resumes the run could open.
type opensOnly struct{ tink.AEADWithContext }

var errOpensOnly = errors.New("the old keys (--old-kek) are only used to decrypt, and never to encrypt")

func (opensOnly) EncryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, errOpensOnly
}
