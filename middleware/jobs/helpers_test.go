package jobs_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newKeyring(t testing.TB) *aead.Keyring {
	t.Helper()
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	k, err := aead.NewKeyring(h)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, k.Close()) })
	return k
}

// newPRF returns a set of n keys, the last of which is primary.
func newPRF(t testing.TB, n int) *prf.Set {
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

func newEncryptor(t testing.TB, opts ...jobs.Option) *jobs.Encryptor {
	t.Helper()
	e, err := jobs.NewEncryptor(newKeyring(t), opts...)
	require.NoError(t, err)
	return e
}
