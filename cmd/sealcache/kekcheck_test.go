package main

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
)

// refusingKEK answers a wrong associated data with err.
type refusingKEK struct {
	tink.AEADWithContext
	err error
}

func (k refusingKEK) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	out, err := k.AEADWithContext.DecryptWithContext(ctx, ciphertext, associatedData)
	if err != nil {
		return nil, k.err
	}
	return out, nil
}

// An error that joins a refusal and an outage is an outage: nothing shows that the KEK authenticates associated data.
func TestKEKCheckOutageWins(t *testing.T) {
	t.Parallel()
	_, uri := kekFile(t)
	kek, err := aead.OpenKEK(t.Context(), uri)
	require.NoError(t, err)
	t.Cleanup(func() { _ = kek.Close() })
	require.NoError(t, new(kekReport).use(t.Context(), refusingKEK{kek, aead.ErrUnauthentic}))
	err = new(kekReport).use(t.Context(), refusingKEK{kek, errors.Join(aead.ErrUnauthentic, aead.ErrKeyServiceUnavailable)})
	require.ErrorIs(t, err, aead.ErrKeyServiceUnavailable)
	require.Equal(t, exitFailed, statusOf(err))
}
