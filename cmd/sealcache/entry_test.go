package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
)

// One key may refuse a value while another one gives no answer, so that the value may open later.
func TestAnOutageOfAKeyIsNotARefusal(t *testing.T) {
	t.Parallel()
	e := new(entryFlags)
	for _, refusal := range []error{aead.ErrUnauthentic, aead.ErrUnknownKey} {
		require.Equal(t, exitLeft, statusOf(e.failed(nil, []string{"a"}, refusal)))
		for _, outage := range []error{aead.ErrKeyServiceUnavailable, aead.ErrTooManyDataKeys, aead.ErrClosed, context.DeadlineExceeded} {
			err := e.failed(nil, []string{"a"}, fmt.Errorf("%w; %w", refusal, outage))
			require.Equal(t, exitFailed, statusOf(err))
			require.ErrorContains(t, err, "look up the entry \"a\": ")
		}
	}
}
