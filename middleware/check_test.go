package middleware_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
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
		"does not open": {aeadFuncs{k.Encrypt, func([]byte, []byte) ([]byte, error) { return nil, broken }}, "did not open"},
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

// pinged is a store that counts its pings.
type pinged struct {
	*memorystore.Store
	pings int
	err   error
}

func (p *pinged) Capabilities() (owner any, names []string) { return p, []string{"Pinger"} }

func (p *pinged) Ping(context.Context) error {
	p.pings++
	return p.err
}

// An error of the backing store whose text panics is returned as any other, without the value of the panic.
func TestErrorOfTheStoreThatPanics(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"redis", "bigcache", "memcache"} {
		down := newPlain(kind)
		down.err = sealtest.PanickingError{}
		err := sealed(t, down, keyring(t)).Check(t.Context())
		require.ErrorIs(t, err, sealtest.PanickingError{}, kind)
		require.NotContains(t, err.Error(), sealtest.PanicSecret, kind)
	}
}

// Ping and Check of a sealed store ask the backing store in the same way, and an error of Redis that quotes a value is cut.
func TestPing(t *testing.T) {
	t.Parallel()
	k := keyring(t)
	quoting := errors.New("ERR unknown command 'ping', with args beginning with: '" + canary + "'")
	bigcache := newPlain("bigcache")
	bigcache.missErr = errors.New("Entry not found")
	down := newPlain("redis")
	down.err = quoting
	for name, c := range map[string]struct {
		backing store.StoreInterface
		is      error
		text    string
	}{
		"a miss":               {backing: newPlain("redis")},
		"a miss of bigcache":   {backing: bigcache},
		"memory":               {backing: memory(t)},
		"pinged":               {backing: &pinged{Store: memory(t)}},
		"a read is refused":    {down, quoting, "sealcache: the backing store cannot be used: redis store: ERR unknown command"},
		"the ping is refused":  {&pinged{Store: memory(t), err: quoting}, quoting, "sealcache: the backing store cannot be used: memory store: ERR unknown command"},
		"the context is ended": {&pinged{Store: memory(t), err: context.DeadlineExceeded}, context.DeadlineExceeded, "cannot be used"},
	} {
		for way, err := range map[string]error{
			"Ping":  middleware.Ping(t.Context(), c.backing, "shop"),
			"Check": sealed(t, c.backing, k, middleware.WithNamespace("shop")).Check(t.Context()),
		} {
			if c.is == nil {
				require.NoError(t, err, "%s: %s", name, way)
				continue
			}
			require.ErrorIs(t, err, middleware.ErrStoreUnavailable, "%s: %s", name, way)
			require.ErrorIs(t, err, c.is, "%s: %s", name, way)
			require.ErrorContains(t, err, c.text, "%s: %s", name, way)
			require.NotContains(t, err.Error(), canary, "%s: %s", name, way)
			require.False(t, middleware.KeysFailed(err), "%s: %s", name, way)
		}
		if p, ok := c.backing.(*pinged); ok {
			require.Equal(t, 2, p.pings, name)
		}
	}
	require.ErrorContains(t, middleware.Ping(t.Context(), (*memorystore.Store)(nil), ""), "the store is nil")
}

// KeysFailed distinguishes keys that cannot be used from an AEAD that does not encrypt.
func TestKeysFailed(t *testing.T) {
	t.Parallel()
	require.False(t, middleware.KeysFailed(nil))
	k := keyring(t)
	for _, failure := range []error{
		aead.ErrKeyServiceUnavailable, aead.ErrTooManyDataKeys, aead.ErrKeyExhausted, aead.ErrClosed, aead.ErrUnknownKey,
		aead.ErrUnauthentic, context.DeadlineExceeded, errors.New("no route to host"),
	} {
		fail := func(_, _ []byte) ([]byte, error) { return nil, failure }
		for _, a := range []aeadFuncs{{fail, k.Decrypt}, {k.Encrypt, fail}} {
			require.True(t, middleware.KeysFailed(sealed(t, memory(t), a).Check(t.Context())), failure)
			require.True(t, middleware.KeysFailed(sealtest.Encryptor(t, a).Check(t.Context())), failure)
		}
	}
	err := sealed(t, memory(t), aeadFuncs{same, same}).Check(t.Context())
	require.ErrorContains(t, err, "does not encrypt")
	require.False(t, middleware.KeysFailed(err))
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
