package middleware_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware"
)

type aeadFuncs struct {
	seal, open func(b, ad []byte) ([]byte, error)
}

func (a aeadFuncs) EncryptWithContext(_ context.Context, b, ad []byte) ([]byte, error) {
	return a.seal(b, ad)
}

func (a aeadFuncs) DecryptWithContext(_ context.Context, b, ad []byte) ([]byte, error) {
	return a.open(b, ad)
}

func same(b, _ []byte) ([]byte, error) { return b, nil }

// Check detects an AEAD that does not encrypt.
func TestCheckFindsAEADsThatDoNotSeal(t *testing.T) {
	t.Parallel()
	k := keyring(t)
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		a    aeadFuncs
		want string
	}{
		"does nothing":  {aeadFuncs{same, same}, "does not encrypt"},
		"appends only":  {aeadFuncs{func(b, _ []byte) ([]byte, error) { return append(bytes.Clone(b), 1), nil }, same}, "does not encrypt"},
		"seals nothing": {aeadFuncs{func([]byte, []byte) ([]byte, error) { return nil, nil }, same}, "neither a ciphertext"},
		"does not open": {aeadFuncs{k.Encrypt, func([]byte, []byte) ([]byte, error) { return nil, broken }}, "does not open"},
		"opens other":   {aeadFuncs{k.Encrypt, func([]byte, []byte) ([]byte, error) { return []byte("other"), nil }}, "decryption did not return the bytes"},
		"cannot seal":   {aeadFuncs{func([]byte, []byte) ([]byte, error) { return nil, broken }, same}, "broken"},
		"no authentication": {aeadFuncs{
			func(b, _ []byte) ([]byte, error) { return k.Encrypt(b, nil) },
			func(b, _ []byte) ([]byte, error) { return k.Decrypt(b, nil) },
		}, "does not authenticate associated data"},
	} {
		err := sealed(t, memory(t), c.a).Check(t.Context())
		require.ErrorContains(t, err, c.want, name)
		require.ErrorContains(t, err, "the AEAD failed the test", name)
	}
	require.NoError(t, sealed(t, memory(t), k).Check(t.Context()))
	require.NoError(t, sealed(t, newPlain("redis"), k).Check(t.Context()), "a miss is an answer")
	down := newPlain("redis")
	down.err = broken
	require.ErrorIs(t, sealed(t, down, k).Check(t.Context()), broken)
}

func TestInspect(t *testing.T) {
	t.Parallel()
	m, k := memory(t), keyring(t)
	id := k.Keys()[0].ID
	require.NoError(t, sealed(t, m, k).Set(t.Context(), "k", int64(7)))
	stored := raw(t, m, "k")
	info, err := middleware.Inspect(stored)
	require.NoError(t, err)
	require.Equal(t, middleware.Info{
		Version: 1, Kind: "cache value", Type: "int64", Key: middleware.KeyReference{ID: id, HasID: true},
		StoredBytes: len(stored), HeaderBytes: 6, CiphertextBytes: len(stored) - 6,
	}, info)

	require.NoError(t, sealed(t, m, envelope(t), middleware.WithCodec(middleware.JSON[user]())).Set(t.Context(), "k", user{}))
	info, err = middleware.Inspect(raw(t, m, "k"))
	require.NoError(t, err)
	require.True(t, info.Key.Envelope)
	require.True(t, info.Key.HasID)
	require.Len(t, info.Key.DataKey, 16)
	_, err = hex.DecodeString(info.Key.DataKey)
	require.NoError(t, err)
	require.Equal(t, "json", info.Type)

	for _, b := range [][]byte{nil, []byte("clear"), stored[:1]} {
		_, err = middleware.Inspect(b)
		require.ErrorIs(t, err, middleware.ErrNotSealed)
	}
	_, err = middleware.Inspect(stored[:4])
	require.ErrorIs(t, err, middleware.ErrUnsupportedFormat)
}
