package redistext_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/redistext"
)

// Each text is the one that go-redis sends.
func TestOf(t *testing.T) {
	t.Parallel()
	rdb, ctx := redistest.Start(t).Client(t), t.Context()
	for _, value := range []any{
		"", "text", true, false, 0, -1, int8(math.MinInt8), int16(7), int32(-7), int64(math.MinInt64),
		uint(1), uint8(255), uint16(2), uint32(3), uint64(math.MaxUint64), uintptr(4),
		float32(0.1), 0.1, 1e21, math.Inf(-1), time.Unix(1, 2).UTC(), time.Second,
	} {
		text, ok := redistext.Of(value)
		require.True(t, ok, "%T", value)
		require.NoError(t, rdb.Set(ctx, "k", value, 0).Err(), "%T", value)
		require.Equal(t, rdb.Get(ctx, "k").Val(), text, "%T", value)
	}
}

func TestOtherTypes(t *testing.T) {
	t.Parallel()
	type named int
	for _, value := range []any{nil, []byte("b"), new(int), named(1), struct{}{}, complex(1, 2)} {
		_, ok := redistext.Of(value)
		require.False(t, ok, "%T", value)
	}
}
