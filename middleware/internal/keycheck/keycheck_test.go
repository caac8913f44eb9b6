package keycheck_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

func newCheck(t *testing.T, a tink.AEADWithContext, ns string) *keycheck.Check {
	t.Helper()
	c, err := keycheck.New(a, ns)
	require.NoError(t, err)
	return c
}

func TestEntryOpensUnderItsKeysAlone(t *testing.T) {
	t.Parallel()
	ring := sealtest.Keyring(t)
	for size, a := range map[int]tink.AEADWithContext{40: ring, 106: sealtest.EnvelopeOf(t, ring)} {
		c := newCheck(t, a, "shop")
		entry, err := c.Seal(t.Context())
		require.NoError(t, err)
		require.Len(t, entry, size)
		before := bytes.Clone(entry)
		require.NoError(t, c.Open(t.Context(), entry))
		require.Equal(t, before, entry)

		err = newCheck(t, sealtest.Envelope(t), "shop").Open(t.Context(), entry)
		require.True(t, box.Refused(err), err)
		err = newCheck(t, a, "other").Open(t.Context(), entry)
		require.True(t, box.Final(err), err)
		for i := range entry {
			bad := bytes.Clone(entry)
			bad[i] ^= 1
			require.Error(t, c.Open(t.Context(), bad), "byte %d", i)
		}
		require.ErrorIs(t, c.Open(t.Context(), []byte("plaintext")), wire.ErrNotSealed)

		// A cache value of the same name is not an entry.
		b, err := box.New(a, wire.CacheValue, "shop")
		require.NoError(t, err)
		value, err := b.Seal(t.Context(), nil, wire.Header{Type: wire.Bytes}, []byte{1}, keycheck.Name)
		require.NoError(t, err)
		require.True(t, box.Final(c.Open(t.Context(), value)))

		// A value of a later release is not an entry of this one.
		b, err = box.New(a, wire.KeyCheck, "shop")
		require.NoError(t, err)
		for _, later := range []struct {
			t wire.Type
			p string
		}{{wire.Bytes, "\x02"}, {wire.Bytes, ""}, {wire.String, "\x01"}} {
			value, err := b.Seal(t.Context(), nil, wire.Header{Type: later.t}, []byte(later.p), keycheck.Name)
			require.NoError(t, err)
			require.ErrorIs(t, c.Open(t.Context(), value), wire.ErrUnsupportedFormat)
		}
	}
	_, err := keycheck.New(nil, "")
	require.Error(t, err)
}

func TestOutdated(t *testing.T) {
	t.Parallel()
	h := sealtest.Handle(t)
	both, _, _ := sealtest.Rotated(t, h)
	old, now := newCheck(t, sealtest.KeyringOf(t, h), ""), newCheck(t, sealtest.KeyringOf(t, both), "")
	seal := func(c *keycheck.Check) []byte {
		b, err := c.Seal(t.Context())
		require.NoError(t, err)
		return b
	}
	require.NoError(t, now.Open(t.Context(), seal(old)))
	require.True(t, keycheck.Outdated(seal(old), seal(now)))
	require.False(t, keycheck.Outdated(seal(now), seal(now)))
	require.False(t, keycheck.Outdated(nil, seal(now)))

	// The processes of one envelope differ in their data keys, and agree in the key that wraps them.
	kek := sealtest.Keyring(t)
	one, two := newCheck(t, sealtest.EnvelopeOf(t, kek), ""), newCheck(t, sealtest.EnvelopeOf(t, kek), "")
	require.False(t, keycheck.Outdated(seal(one), seal(two)))
	// If a key service shows no key ids, there are no ids to compare.
	one, two = newCheck(t, sealtest.EnvelopeOf(t, nameless{kek}), ""), newCheck(t, sealtest.EnvelopeOf(t, nameless{kek}), "")
	require.False(t, keycheck.Outdated(seal(one), seal(two)))
}

// nameless is a key-encryption key whose ciphertexts do not begin with the id of a key.
type nameless struct{ kek tink.AEADWithContext }

func (n nameless) EncryptWithContext(ctx context.Context, p, ad []byte) ([]byte, error) {
	ct, err := n.kek.EncryptWithContext(ctx, p, ad)
	return append([]byte("service:"), ct...), err
}

func (n nameless) DecryptWithContext(ctx context.Context, ct, ad []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(ct, []byte("service:"))
	if !ok {
		return nil, aead.ErrUnauthentic
	}
	return n.kek.DecryptWithContext(ctx, rest, ad)
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, ns := range []string{"", "shop", "a.b-C_9"} {
		got, ok := keycheck.Namespace(keycheck.StoredName(ns))
		require.True(t, ok)
		require.Equal(t, ns, got)
	}
	for _, name := range []string{"", "sealcache", ":" + keycheck.Name, "a:b:" + keycheck.Name, keycheck.Name + "2"} {
		_, ok := keycheck.Namespace(name)
		require.False(t, ok, name)
	}
}
