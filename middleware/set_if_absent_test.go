package middleware_test

import (
	"context"
	"errors"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
)

// switching is a keyset that changes when it is reloaded.
type switching struct {
	*aead.Keyring
	next    *aead.Keyring
	err     error
	reloads int
}

func (s *switching) Reload(context.Context) error {
	s.reloads++
	if s.err == nil {
		s.Keyring = s.next
	}
	return s.err
}

// A lock under a key that this process has not loaded yet is a lock: two processes must not hold it.
func TestLocksUnderUnknownKeysStay(t *testing.T) {
	t.Parallel()
	h := sealtest.Handle(t)
	both, before, _ := sealtest.Rotated(t, h)
	m := memory(t)
	require.NoError(t, sealed(t, m, sealtest.KeyringOf(t, both)).Set(t.Context(), "lock", "first"))
	held := raw(t, m, "lock")
	old := sealed(t, m, sealtest.KeyringOf(t, h), middleware.WithMissOnOpenFailure())
	_, err := old.Get(t.Context(), "lock")
	require.ErrorIs(t, err, store.NotFound{})
	written, err := old.SetIfNotExists(t.Context(), "lock", "second")
	require.ErrorIs(t, err, middleware.ErrUnknownKey)
	require.False(t, written)
	require.Equal(t, held, raw(t, m, "lock"))

	// One reload finds the key.
	ring := &switching{Keyring: sealtest.KeyringOf(t, h), next: sealtest.KeyringOf(t, both)}
	s := sealed(t, m, ring, middleware.WithMissOnOpenFailure())
	for range 3 {
		written, err = s.SetIfNotExists(t.Context(), "lock", "second")
		require.NoError(t, err)
		require.False(t, written)
	}
	require.Equal(t, 1, ring.reloads)

	// A reload that fails leaves the question open, even for a value that does not authenticate.
	raws := func() *keyset.Handle { // no key ids: what is unknown does not authenticate
		h, err := keyset.NewHandle(tinkaead.AES256GCMNoPrefixKeyTemplate())
		require.NoError(t, err)
		return h
	}
	rawHandle := raws()
	require.NoError(t, sealed(t, m, sealtest.KeyringOf(t, rawHandle)).Set(t.Context(), "lock", "first"))
	ring = &switching{Keyring: sealtest.KeyringOf(t, raws()), next: sealtest.KeyringOf(t, rawHandle), err: errors.New("no file")}
	s = sealed(t, m, ring, middleware.WithMissOnOpenFailure())
	written, err = s.SetIfNotExists(t.Context(), "lock", "second")
	require.ErrorIs(t, err, middleware.ErrUnauthentic)
	require.False(t, written)
	ring.err = nil
	s = sealed(t, m, ring, middleware.WithMissOnOpenFailure())
	written, err = s.SetIfNotExists(t.Context(), "lock", "second")
	require.NoError(t, err)
	require.False(t, written, "after the reload it opens")

	// WithReload serves AEADs that cannot reload themselves.
	calls := 0
	env := sealtest.Envelope(t)
	s = sealed(t, m, env, middleware.WithMissOnOpenFailure(), middleware.WithReload(func(context.Context) error { calls++; return nil }))
	require.NoError(t, sealed(t, m, env).Set(t.Context(), "other", "v"))
	require.NoError(t, m.SetBytes(t.Context(), "lock", raw(t, m, "other")))
	written, err = s.SetIfNotExists(t.Context(), "lock", "second")
	require.NoError(t, err)
	require.True(t, written, "it was moved here, which no reload changes")
	require.Equal(t, 1, calls)

	// A key that was taken away is a decision.
	mgr := keyset.NewManagerFromHandle(both)
	require.NoError(t, mgr.Disable(before))
	disabled, err := mgr.Handle()
	require.NoError(t, err)
	require.NoError(t, sealed(t, m, sealtest.KeyringOf(t, h)).Set(t.Context(), "lock", "first"))
	written, err = sealed(t, m, sealtest.KeyringOf(t, disabled), middleware.WithMissOnOpenFailure()).SetIfNotExists(t.Context(), "lock", "second")
	require.NoError(t, err)
	require.True(t, written)

	// A value that opens and that this process cannot decode is there.
	a := keyring(t)
	require.NoError(t, sealed(t, m, a, middleware.WithCodec(middleware.JSON[user]())).Set(t.Context(), "lock", user{}))
	written, err = sealed(t, m, a, middleware.WithMissOnOpenFailure()).SetIfNotExists(t.Context(), "lock", "second")
	require.ErrorIs(t, err, middleware.ErrUnsupportedType)
	require.False(t, written)
	later := raw(t, m, "lock")
	later[2] = 2
	require.NoError(t, m.SetBytes(t.Context(), "lock", later))
	written, err = sealed(t, m, a, middleware.WithMissOnOpenFailure()).SetIfNotExists(t.Context(), "lock", "second")
	require.ErrorIs(t, err, middleware.ErrUnsupportedFormat, "a later release may hold it")
	require.False(t, written)
}
