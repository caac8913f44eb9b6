package jobs_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
)

// Payloads and results that open under a former key are counted together, by its id.
func TestOtherKeyReads(t *testing.T) {
	t.Parallel()
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	old := h.KeysetInfo().GetPrimaryKeyId()
	encryptor := func() *jobs.Encryptor {
		ring, err := aead.NewKeyring(h)
		require.NoError(t, err)
		t.Cleanup(func() { _ = ring.Close() })
		e, err := jobs.NewEncryptor(ring)
		require.NoError(t, err)
		return e
	}
	before := encryptor()
	m := keyset.NewManagerFromHandle(h)
	id, err := m.Add(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	require.NoError(t, m.SetPrimary(id))
	h, err = m.Handle()
	require.NoError(t, err)
	after := encryptor()
	for _, kind := range []jobs.Kind{jobs.Payload, jobs.Result} {
		meta := jobs.Meta{Type: "mail", ID: "1", Kind: kind}
		for _, e := range []*jobs.Encryptor{before, after} {
			sealed, err := e.Seal(t.Context(), meta, []byte("payload"))
			require.NoError(t, err)
			_, err = after.Open(t.Context(), meta, sealed)
			require.NoError(t, err)
		}
	}
	require.NoError(t, after.Check(t.Context()))
	require.Equal(t, map[uint32]uint64{old: 2}, after.OtherKeyReads())
	require.Empty(t, before.OtherKeyReads())
}
