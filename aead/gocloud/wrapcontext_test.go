package gocloud_test

import (
	"errors"
	"testing"

	"github.com/sealcache/sealcache/aead"
)

// A Keeper takes no associated data, so a hash inside the ciphertext binds the context.
func TestWrapContext(t *testing.T) {
	t.Parallel()
	kek := open(t, newVault(t))
	envelope := func(opts ...aead.EnvelopeOption) *aead.Envelope {
		t.Helper()
		e, err := aead.NewEnvelope(t.Context(), kek, opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		return e
	}
	bound := envelope(aead.WithWrapContext(map[string]string{"namespace": "shop"}))
	sealed, err := bound.EncryptWithContext(t.Context(), []byte("value"), nil)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := envelope(aead.WithWrapContext(map[string]string{"namespace": "shop"})).DecryptWithContext(t.Context(), sealed, nil)
	if err != nil || string(opened) != "value" {
		t.Errorf("%q, %v", opened, err)
	}
	for what, opts := range map[string][]aead.EnvelopeOption{
		"without context": nil,
		"another context": {aead.WithWrapContext(map[string]string{"namespace": "Shop"})},
	} {
		_, err := envelope(opts...).DecryptWithContext(t.Context(), sealed, nil)
		if !errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrKeyServiceUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
