package box_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// An outage is reported as an outage, even if it lasted until the context ended. Other errors are for the caller to name.
func TestOutcome(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"ok":                      nil,
		"key_service_unavailable": fmt.Errorf("%w: %w", aead.ErrKeyServiceUnavailable, context.DeadlineExceeded),
		"canceled":                context.Canceled,
		"unknown_key":             fmt.Errorf("%w: key 7", aead.ErrUnknownKey),
		"key_exhausted":           aead.ErrKeyExhausted,
		"":                        errors.New("another"),
	} {
		require.Equal(t, want, box.Outcome(err), "%v", err)
	}
}

// If a context ended before an Envelope asked its key, the outcome is not an outage. To callers, the error still means that
// a later try may succeed.
func TestOutcomeOfAnEndedContext(t *testing.T) {
	t.Parallel()
	b := newBox(t, sealtest.Envelope(t), "")
	sealed, err := b.Seal(t.Context(), nil, wire.Header{Type: wire.Bytes}, []byte("v"), "k")
	require.NoError(t, err)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	for _, ctx := range []context.Context{canceled, late} {
		_, err = b.Seal(ctx, nil, wire.Header{Type: wire.Bytes}, []byte("v"), "k")
		require.Equal(t, "canceled", box.Outcome(err), "%v", err)
		_, err = b.Open(ctx, sealed, wire.HeaderSize, false, "k")
		require.Equal(t, "canceled", box.Outcome(err), "%v", err)
		require.ErrorIs(t, err, ctx.Err())
		require.ErrorIs(t, err, aead.ErrKeyServiceUnavailable)
	}
}
