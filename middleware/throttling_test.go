package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
)

// throttled is an AEAD that turns every value away, as an Envelope does with unknown data keys while planted values are read.
type throttled struct{ tink.AEADWithContext }

func (throttled) DecryptWithContext(context.Context, []byte, []byte) ([]byte, error) {
	return nil, fmt.Errorf("%w: the context of the call ended before the data key was decrypted: %w", aead.ErrTooManyDataKeys, context.DeadlineExceeded)
}

// Too many unknown data keys are neither an outage nor a refusal. A Get may take the value for a miss, because the application
// then loads it. SetIfNotExists may not, because the value may be another process's lock.
func TestTooManyDataKeys(t *testing.T) {
	t.Parallel()
	m, env := memory(t), envelope(t)
	require.NoError(t, sealed(t, m, env).Set(t.Context(), "lock", "first"))
	held := raw(t, m, "lock")
	for name, c := range map[string]struct {
		opts []middleware.Option
		miss bool
	}{
		"error": {nil, false},
		"miss":  {[]middleware.Option{middleware.WithMissOnOpenFailure()}, true},
	} {
		reader := sdkmetric.NewManualReader()
		reloads := 0
		s := sealed(t, m, throttled{env}, append(c.opts,
			middleware.WithReload(func(context.Context) error { reloads++; return nil }),
			middleware.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))))...)
		_, err := s.Get(t.Context(), "lock")
		require.ErrorIs(t, err, middleware.ErrTooManyDataKeys, name)
		require.Equal(t, c.miss, errors.Is(err, store.NotFound{}), name)
		require.NotErrorIs(t, err, middleware.ErrKeyServiceUnavailable, name)
		_, _, err = s.GetWithTTL(t.Context(), "lock")
		require.ErrorIs(t, err, middleware.ErrTooManyDataKeys, name)
		require.Equal(t, c.miss, errors.Is(err, store.NotFound{}), name)

		written, err := s.SetIfNotExists(t.Context(), "lock", "second")
		require.False(t, written, name)
		require.Equal(t, held, raw(t, m, "lock"), name)
		if c.miss {
			require.ErrorIs(t, err, middleware.ErrTooManyDataKeys)
			require.NotErrorIs(t, err, store.NotFound{})
		} else {
			require.NoError(t, err, "the key has an entry")
		}
		require.Zero(t, reloads, "no keyset is missing")

		outcomes := counts(t, reader, "sealcache.operations", "sealcache.operation", "sealcache.outcome")
		require.EqualValues(t, 1, outcomes["Get too_many_data_keys"], name)
		require.EqualValues(t, 1, outcomes["GetWithTTL too_many_data_keys"], name)
		for outcome := range outcomes {
			require.NotContains(t, outcome, "key_service_unavailable", name)
		}
	}
}
