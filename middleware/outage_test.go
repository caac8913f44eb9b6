package middleware_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/sealcache/sealcache/middleware"
)

// An AEAD of another package may be a key service. Its outage is not a refusal, and overwrites no entry.
func TestForeignOutageIsNotARefusal(t *testing.T) {
	t.Parallel()
	k := keyring(t)
	for name, outage := range map[string]error{
		"network": &net.OpError{Op: "dial", Err: errors.New("connection refused")}, "cut": io.ErrUnexpectedEOF, "deadline": context.DeadlineExceeded,
		"says nothing": errors.New("permission denied"),
	} {
		m := memory(t)
		down := false
		kek := aeadFuncs{k.Encrypt, func(b, ad []byte) ([]byte, error) {
			if down {
				return nil, outage
			}
			return k.Decrypt(b, ad)
		}}
		a, err := tinkaead.NewKMSEnvelopeAEADWithContext(tinkaead.AES256GCMKeyTemplate(), kek)
		require.NoError(t, err)
		s := sealed(t, m, a, middleware.WithMissOnOpenFailure())
		require.NoError(t, s.Set(t.Context(), "k", "sound"))
		down = true
		_, err = s.Get(t.Context(), "k")
		require.ErrorIs(t, err, middleware.ErrKeyServiceUnavailable, name)
		require.NotErrorIs(t, err, middleware.ErrUnauthentic, name)
		require.NotErrorIs(t, err, store.NotFound{}, name)
		written, err := s.SetIfNotExists(t.Context(), "k", "overwritten")
		require.Error(t, err, name)
		require.False(t, written, name)
		down = false
		got, err := s.Get(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, "sound", got, name)
	}
}

// A caller leaves after the backing store has answered. Nothing asks the key service, so this is not an outage of it.
func TestEndedContextIsNotAnOutage(t *testing.T) {
	t.Parallel()
	for _, a := range []tink.AEADWithContext{envelope(t), keyring(t), foreign(t)} {
		reader := sdkmetric.NewManualReader()
		s := sealed(t, newPlain("any"), a, middleware.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))
		require.NoError(t, s.Set(t.Context(), "k", "v"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Get(ctx, "k")
		for _, err := range []error{err, s.Set(ctx, "k", "v")} {
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, middleware.ErrKeyServiceUnavailable)
		}
		outcomes := counts(t, reader, "sealcache.operations", "sealcache.operation", "sealcache.outcome")
		require.EqualValues(t, 1, outcomes["Get canceled"])
		require.EqualValues(t, 1, outcomes["Set canceled"])
	}
}
