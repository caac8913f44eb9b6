package middleware_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// switching is a keyset that changes when it is reloaded.
type switching struct {
	present atomic.Pointer[aead.Keyring]
	next    *aead.Keyring
	err     error
	reloads int
	during  func() // runs between the read of the keyset and its use
}

func newSwitching(first, next *aead.Keyring) *switching {
	s := &switching{next: next}
	s.present.Store(first)
	return s
}

func (s *switching) Overhead() int { return s.present.Load().Overhead() }

func (s *switching) SealTo(ctx context.Context, dst, plaintext, ad []byte) ([]byte, error) {
	return s.present.Load().SealTo(ctx, dst, plaintext, ad)
}

func (s *switching) OpenTo(ctx context.Context, dst, ciphertext, ad []byte) ([]byte, error) {
	return s.present.Load().OpenTo(ctx, dst, ciphertext, ad)
}

func (s *switching) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	return s.present.Load().EncryptWithContext(ctx, plaintext, ad)
}

func (s *switching) DecryptWithContext(ctx context.Context, ciphertext, ad []byte) ([]byte, error) {
	return s.present.Load().DecryptWithContext(ctx, ciphertext, ad)
}

func (s *switching) Reload(context.Context) error {
	s.reloads++
	next := s.next
	if s.during != nil {
		s.during()
	}
	if s.err == nil {
		s.present.Store(next)
	}
	return s.err
}

// rawHandle returns a keyset without key ids: its keyrings call a value under an
// unknown key ErrUnauthentic.
func rawHandle(t testing.TB) *keyset.Handle {
	t.Helper()
	h, err := keyset.NewHandle(tinkaead.AES256GCMNoPrefixKeyTemplate())
	require.NoError(t, err)
	return h
}

// sealRaw stores a value that the keyrings of rawHandle call unauthentic. About one
// random nonce in 128 looks like the id of a key: it is drawn again.
func sealRaw(t *testing.T, m *memorystore.Store, h *keyset.Handle, name string) {
	t.Helper()
	writer, reader := sealed(t, m, sealtest.KeyringOf(t, h)), sealed(t, m, sealtest.KeyringOf(t, rawHandle(t)))
	for {
		require.NoError(t, writer.Set(t.Context(), name, "first"))
		if _, err := reader.Get(t.Context(), name); errors.Is(err, middleware.ErrUnauthentic) {
			return
		}
	}
}

// A refusal decides only if the keyset was reloaded after the lock was read.
// Another process may have loaded the key of the lock since the last reload.
func TestLocksStayUntilAReloadAfterTheirRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := memory(t)
		newer := rawHandle(t)
		lock := func(h *keyset.Handle) { sealRaw(t, m, h, "lock") }
		ring := newSwitching(sealtest.KeyringOf(t, rawHandle(t)), sealtest.KeyringOf(t, rawHandle(t)))
		s := sealed(t, m, ring, middleware.WithMissOnOpenFailure())

		lock(rawHandle(t))
		written, err := s.SetIfNotExists(t.Context(), "lock", "second")
		require.NoError(t, err)
		require.True(t, written, "no key of the reloaded keyset opens it")
		require.Equal(t, 1, ring.reloads)

		// Within ten seconds there is no second reload, so the question stays open.
		ring.next = sealtest.KeyringOf(t, newer)
		lock(newer)
		held := raw(t, m, "lock")
		time.Sleep(9 * time.Second)
		written, err = s.SetIfNotExists(t.Context(), "lock", "third")
		require.ErrorIs(t, err, middleware.ErrUnauthentic)
		require.ErrorContains(t, err, "this process may lack the key of the stored entry")
		require.False(t, written)
		require.Equal(t, held, raw(t, m, "lock"))
		require.Equal(t, 1, ring.reloads)
		time.Sleep(time.Second)
		written, err = s.SetIfNotExists(t.Context(), "lock", "third")
		require.NoError(t, err)
		require.False(t, written, "the second reload finds the key")
		require.Equal(t, 2, ring.reloads)
	})
}

// A reload that began before the lock was read may have read an older keyset.
func TestReloadsThatBeganBeforeTheReadDecideNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := memory(t)
		ring := newSwitching(sealtest.KeyringOf(t, rawHandle(t)), sealtest.KeyringOf(t, rawHandle(t)))
		ring.during = func() { time.Sleep(5 * time.Second) }
		s := sealed(t, m, ring, middleware.WithMissOnOpenFailure())
		sealRaw(t, m, rawHandle(t), "other")
		sealRaw(t, m, rawHandle(t), "lock")
		held := raw(t, m, "lock")

		var wg sync.WaitGroup
		wg.Go(func() {
			if written, err := s.SetIfNotExists(t.Context(), "other", "v"); err != nil || !written {
				t.Errorf("written %v, %v", written, err)
			}
		})
		time.Sleep(time.Second)
		written, err := s.SetIfNotExists(t.Context(), "lock", "second") // joins that reload
		require.ErrorIs(t, err, middleware.ErrUnauthentic)
		require.False(t, written)
		require.Equal(t, held, raw(t, m, "lock"))
		wg.Wait()
	})
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
	ring := newSwitching(sealtest.KeyringOf(t, h), sealtest.KeyringOf(t, both))
	s := sealed(t, m, ring, middleware.WithMissOnOpenFailure())
	for range 3 {
		written, err = s.SetIfNotExists(t.Context(), "lock", "second")
		require.NoError(t, err)
		require.False(t, written)
	}
	require.Equal(t, 1, ring.reloads)

	// A reload that fails leaves the question open, even for a value that does not authenticate.
	handle := rawHandle(t)
	sealRaw(t, m, handle, "lock")
	ring = newSwitching(sealtest.KeyringOf(t, rawHandle(t)), sealtest.KeyringOf(t, handle))
	ring.err = errors.New("no file")
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

	// A removed key is a definite answer.
	mgr := keyset.NewManagerFromHandle(both)
	require.NoError(t, mgr.Disable(before))
	disabled, err := mgr.Handle()
	require.NoError(t, err)
	require.NoError(t, sealed(t, m, sealtest.KeyringOf(t, h)).Set(t.Context(), "lock", "first"))
	written, err = sealed(t, m, sealtest.KeyringOf(t, disabled), middleware.WithMissOnOpenFailure()).SetIfNotExists(t.Context(), "lock", "second")
	require.NoError(t, err)
	require.True(t, written)

	// A value that opens and cannot be decoded here exists.
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

// During a move between two AEADs, processes of the new kind find locks of the old kind, and the reverse.
func TestLocksOfAnotherAEADStay(t *testing.T) {
	t.Parallel()
	ring, env := keyring(t), envelope(t)
	for name, c := range map[string]struct{ holder, other tink.AEADWithContext }{
		"to an envelope":         {ring, env},
		"back to a keyring":      {env, ring},
		"to another KEK":         {envelope(t), env},
		"to an adapted envelope": {ring, struct{ tink.AEADWithContext }{env}},
	} {
		m := memory(t)
		require.NoError(t, sealed(t, m, c.holder).Set(t.Context(), "lock", "first"))
		held := raw(t, m, "lock")
		reloads := 0
		s := sealed(t, m, c.other, middleware.WithMissOnOpenFailure(), middleware.WithReload(func(context.Context) error { reloads++; return nil }))
		_, err := s.Get(t.Context(), "lock")
		require.ErrorIs(t, err, store.NotFound{}, name)
		written, err := s.SetIfNotExists(t.Context(), "lock", "second")
		require.ErrorIs(t, err, middleware.ErrUnknownKey, name)
		require.False(t, written, name)
		require.Equal(t, held, raw(t, m, "lock"), name)
		require.Equal(t, 1, reloads, name)
	}
}
