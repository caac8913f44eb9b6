package box_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/internal/box"
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
