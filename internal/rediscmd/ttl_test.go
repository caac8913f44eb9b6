package rediscmd_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/rediscmd"
)

func TestTimeLeft(t *testing.T) {
	t.Parallel()
	const most = math.MaxInt64 / 1_000_000
	for pttl, want := range map[int64]time.Duration{
		-2: 0, -1: 0, 0: time.Millisecond, 1: time.Millisecond, 1500: 1500 * time.Millisecond,
		most: most * time.Millisecond, most + 1: most * time.Millisecond, math.MaxInt64: most * time.Millisecond,
	} {
		require.Equal(t, want, rediscmd.TimeLeft(pttl), pttl)
	}
}
