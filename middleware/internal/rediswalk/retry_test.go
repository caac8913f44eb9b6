package rediswalk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Retry repeats an unknown failure for half a minute. It does not repeat a call with wrong settings.
func TestRetry(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err     error
		repeats bool
	}{
		{errors.New("unknown"), true},
		{fmt.Errorf("migrate: batch: %w", ConfigError("migrate: invalid settings")), false},
	} {
		synctest.Test(t, func(t *testing.T) {
			calls, began := 0, time.Now()
			err := Retry(t.Context(), slog.New(slog.DiscardHandler), "a call", func(context.Context) error {
				calls++
				return c.err
			})
			require.Equal(t, c.err, err)
			require.Equal(t, c.repeats, calls > 1, c.err)
			require.Equal(t, c.repeats, time.Since(began) >= retryFor, c.err)
		})
	}
}
