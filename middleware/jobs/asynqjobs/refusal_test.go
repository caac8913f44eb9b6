package asynqjobs

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/jobs"
)

// A broken connection to the key is not an answer, even if the error also claims that the key is not known.
func TestUnknownKeysOverABrokenConnection(t *testing.T) {
	t.Parallel()
	unknown := fmt.Errorf("%w: key 7", jobs.ErrUnknownKey)
	broken := fmt.Errorf("%w: %w", jobs.ErrUnknownKey, &net.OpError{Op: "read", Err: errors.New("connection reset")})
	require.Equal(t, ReasonUnknownKey, refusal(unknown).Reason)
	require.Equal(t, ReasonOther, refusal(broken).Reason)

	def := &definition{Name: "a"}
	_, err := sameAs(def, nil, []entry{{field: "f", raw: "x", err: unknown}})
	require.NoError(t, err)
	_, err = sameAs(def, nil, []entry{{field: "f", raw: "x", err: broken}})
	require.ErrorContains(t, err, "a schedule with this name is in Redis, but cannot be opened now")

	now := time.Now()
	unopened := func(failed error) error {
		c := newScheduleCache()
		c.update(map[string]string{"f": "x"}, now, false)
		c.note(entry{field: "f", raw: "x", err: failed}, now)
		return c.unopened(true, c.updated())
	}
	require.NoError(t, unopened(unknown))
	require.ErrorIs(t, unopened(broken), broken)
}
