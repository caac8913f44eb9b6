// Package sealtest makes encryption keys, and objects that use them, for the tests of this module. For example,
// [Envelope] returns an aead.Envelope, and [Encryptor] returns a jobs.Encryptor. The objects close when the test ends.
package sealtest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// Handle returns a keyset with one AES-256-GCM key.
func Handle(t testing.TB) *keyset.Handle {
	t.Helper()
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	return h
}

// Rotated returns h with one more key, which is primary, and the ids of the old and the new primary key.
func Rotated(t testing.TB, h *keyset.Handle) (both *keyset.Handle, before, now uint32) {
	t.Helper()
	m := keyset.NewManagerFromHandle(h)
	now, err := m.Add(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	require.NoError(t, m.SetPrimary(now))
	both, err = m.Handle()
	require.NoError(t, err)
	return both, h.KeysetInfo().GetPrimaryKeyId(), now
}

// Keyring returns a Keyring over a new keyset.
func Keyring(t testing.TB) *aead.Keyring {
	t.Helper()
	return KeyringOf(t, Handle(t))
}

// KeyringOf returns a Keyring over h.
func KeyringOf(t testing.TB, h *keyset.Handle, opts ...aead.KeyringOption) *aead.Keyring {
	t.Helper()
	k, err := aead.NewKeyring(h, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, k.Close()) })
	return k
}

// Envelope returns an Envelope under a new Keyring.
func Envelope(t testing.TB, opts ...aead.EnvelopeOption) *aead.Envelope {
	t.Helper()
	return EnvelopeOf(t, Keyring(t), opts...)
}

// EnvelopeOf returns an Envelope under kek.
func EnvelopeOf(t testing.TB, kek tink.AEADWithContext, opts ...aead.EnvelopeOption) *aead.Envelope {
	t.Helper()
	e, err := aead.NewEnvelope(t.Context(), kek, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// PRF returns a set of n HMAC-SHA256 keys, the last of which is primary.
func PRF(t testing.TB, n int) *prf.Set {
	t.Helper()
	m := keyset.NewManager()
	for range n {
		id, err := m.Add(prf.HMACSHA256PRFKeyTemplate())
		require.NoError(t, err)
		require.NoError(t, m.SetPrimary(id))
	}
	h, err := m.Handle()
	require.NoError(t, err)
	set, err := prf.NewPRFSet(h)
	require.NoError(t, err)
	return set
}

// Encryptor returns an Encryptor with a new PRF key and no logger, unless opts say otherwise. A nil a means a new Keyring.
func Encryptor(t testing.TB, a tink.AEADWithContext, opts ...jobs.Option) *jobs.Encryptor {
	t.Helper()
	if a == nil {
		a = Keyring(t)
	}
	defaults := []jobs.Option{jobs.WithPRF(PRF(t, 1)), jobs.WithLogger(Quiet())}
	e, err := jobs.NewEncryptor(a, append(defaults, opts...)...)
	require.NoError(t, err)
	return e
}

// Quiet returns a logger that drops everything.
func Quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Eventually waits until condition holds. It allows a minute, because a machine that runs many tests may be slow.
func Eventually(t testing.TB, condition func() bool, msgAndArgs ...any) {
	t.Helper()
	require.Eventually(t, condition, time.Minute, 2*time.Millisecond, msgAndArgs...)
}

// EarlyDeadline returns a context that names a deadline after d, but ends only after some minutes. A function that must
// return shortly before its deadline is not too late then, although the machine stops for some seconds at that moment.
func EarlyDeadline(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return earlyDeadline{ctx, time.Now().Add(d)}
}

type earlyDeadline struct {
	context.Context //nolint:containedctx // it is one

	deadline time.Time
}

// Deadline returns the earlier deadline.
func (c earlyDeadline) Deadline() (time.Time, bool) { return c.deadline, true }

// Within waits until condition holds, at most for limit. It calls condition in the goroutine of the test, so condition
// may end the test.
func Within(t testing.TB, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v, this is still not true: %s", limit, what)
		}
	}
}
