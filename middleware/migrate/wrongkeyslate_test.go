package migrate

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
)

// A run that meets sealed entries late, and can open none, ends before it has done more harm.
func TestNothingOpensLate(t *testing.T) {
	t.Parallel()
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	keys, err := aead.NewKeyring(h)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, keys.Close()) })
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:0"})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	for _, c := range []struct {
		counts Counts
		allow  bool
		ends   bool
	}{
		{Counts{UnknownKey: canaryMost - 1}, false, false},
		{Counts{UnknownKey: canaryMost - 1, Unreadable: 1}, false, true},
		{Counts{UnknownKey: canaryMost, Opened: canaryMost}, false, false},
		{Counts{UnknownKey: canaryMost, Opened: canaryMost - 1}, false, true}, // it may have written itself what opened
		{Counts{UnknownKey: canaryMost}, true, false},
	} {
		m, err := newMigration(t.Context(), client, Config{Operation: Seal, Keys: keys, IgnoreUnreadable: c.allow})
		require.NoError(t, err)
		var cause error
		m.cancel = func(err error) { cause = err }
		m.walk.Commit(nil, &c.counts)
		require.Equal(t, c.ends, errors.Is(cause, ErrWrongKeys))
	}
}
