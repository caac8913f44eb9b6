package main

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
)

// mayOpen is a key service for a user without the permission to encrypt.
type mayOpen struct{ tink.AEADWithContext }

func (mayOpen) EncryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, errors.New("permission denied")
}

func TestOpenOnly(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	service := aeadtest.NewKeyService(t)
	application, err := aead.NewEnvelope(ctx, service)
	require.NoError(t, err)
	t.Cleanup(func() { _ = application.Close() })
	sealed, err := application.EncryptWithContext(ctx, []byte("alice"), []byte("ad"))
	require.NoError(t, err)

	_, err = aead.NewEnvelope(ctx, mayOpen{service})
	require.Error(t, err)
	auditor, err := aead.NewEnvelope(ctx, &openOnly{AEADWithContext: mayOpen{service}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = auditor.Close() })
	value, err := auditor.DecryptWithContext(ctx, sealed, []byte("ad"))
	require.NoError(t, err)
	require.Equal(t, "alice", string(value))
	_, err = auditor.DecryptWithContext(ctx, sealed, []byte("another"))
	require.ErrorIs(t, err, aead.ErrUnauthentic)

	// No other process could open what it would seal.
	useless, err := auditor.EncryptWithContext(ctx, []byte("bob"), nil)
	require.NoError(t, err)
	_, err = application.DecryptWithContext(ctx, useless, nil)
	require.Error(t, err)
}
