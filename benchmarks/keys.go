package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
)

// keys are one keyset in the forms that are compared.
type keys struct {
	tink     tink.AEAD     // Tink's primitive
	keyring  *aead.Keyring // the same keyset
	envelope *aead.Envelope
}

// newKeys makes AES-256-GCM keys: a keyset, and an envelope under it as a local KEK. The caller closes them.
func newKeys(ctx context.Context) (*keys, error) {
	handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make a Tink keyset: %w", err)
	}
	k := new(keys)
	if k.tink, err = tinkaead.New(handle); err != nil {
		return nil, fmt.Errorf("make a Tink AEAD from the keyset: %w", err)
	}
	if k.keyring, err = aead.NewKeyring(handle); err != nil {
		return nil, err
	}
	if k.envelope, err = aead.NewEnvelope(ctx, k.keyring); err != nil {
		_ = k.keyring.Close()
		return nil, err
	}
	return k, nil
}

func (k *keys) close() {
	_ = k.envelope.Close()
	_ = k.keyring.Close()
}

// names returns a set of one new PRF key, opened as an application opens it.
func (b *bench) names(ctx context.Context, k *keys) *prf.Set {
	var file bytes.Buffer
	b.Check(aead.CreateKeyset(ctx, &file, k.keyring, prf.HMACSHA256PRFKeyTemplate()))
	set, err := aead.OpenPRF(ctx, aead.BytesSource(file.Bytes()), k.keyring)
	b.Check(err)
	return set
}

// payload returns n random bytes, which cannot be compressed.
func payload(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, since Go 1.24
	return b
}

// sizes returns the sizes of values, in bytes.
func sizes() []int { return []int{64, 1 << 10, 16 << 10, 256 << 10} }
