package plaintext_test

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/sealcache/sealcache/middleware/internal/plaintext"
)

func TestMsgPackForm(t *testing.T) {
	t.Parallel()
	nested := func(n int) []byte { return append(bytes.Repeat([]byte{0x91}, n), 0xc0) }
	for name, b := range map[string][]byte{
		"nothing":                         {},
		"trailing byte":                   {0xc0, 0xc0},
		"never used":                      {0xc1},
		"array of four thousand million":  {0xdd, 0xff, 0xff, 0xff, 0xff},
		"the same in a struct":            {0x81, 0xa3, 'I', 'D', 's', 0xdd, 0xff, 0xff, 0xff, 0xff},
		"array that is longer":            {0xdc, 0, 3, 1, 2},
		"map of four thousand million":    {0xdf, 0xff, 0xff, 0xff, 0xff},
		"map of more than 2^63 halves":    {0xdf, 0x80, 0, 0, 0, 1},
		"map without the last value":      {0x81, 1},
		"map 16 that is longer":           {0xde, 0, 2, 1, 1, 1},
		"string of four thousand million": {0xdb, 0xff, 0xff, 0xff, 0xff},
		"string that is longer":           {0xa2, 'x'},
		"string 8 without a length":       {0xd9},
		"string 16 without a length":      {0xda, 0},
		"bin that is longer":              {0xc4, 2, 0},
		"bin 32 of four thousand million": {0xc6, 0xff, 0xff, 0xff, 0xff, 0},
		"ext that is longer":              {0xc7, 2, 1, 0},
		"ext 32 of four thousand million": {0xc9, 0xff, 0xff, 0xff, 0xff, 1},
		"fixext that is longer":           {0xd8, 1, 0},
		"number that is cut":              {0xcf, 0, 0, 0},
		"1001 levels":                     nested(1001),
		"8 Mi of levels":                  bytes.Repeat([]byte{0x91}, 8<<20),
		"levels within a map":             append([]byte{0x81, 0xa1, 'x'}, bytes.Repeat([]byte{0x91}, 8<<20)...),
		"levels as map keys":              bytes.Repeat([]byte{0x81}, 1<<20),
		"lengths that share the bytes":    append([]byte{0x92, 0xdd, 0, 0, 0, 4, 0, 0}, 0xdd, 0, 0, 0, 4, 0, 0),
	} {
		require.Error(t, plaintext.CheckMsgPack(b), name)
	}
	require.NoError(t, plaintext.CheckMsgPack(nested(1000)))
	require.NoError(t, plaintext.CheckMsgPack([]byte{0x90}), "an empty array")

	type inner struct{ S []string }
	for _, v := range []any{
		nil, true, false, 0, -1, -33, 127, 128, 1 << 20, math.MinInt64, uint64(math.MaxUint64), float32(1), 1.5,
		"", "text", strings.Repeat("x", 40), strings.Repeat("x", 300), strings.Repeat("x", 70000),
		[]byte{}, []byte("bytes"), bytes.Repeat([]byte("x"), 300), bytes.Repeat([]byte("x"), 70000),
		[]int{1, 2, 3}, make([]int, 20), make([]int, 70000), map[string]int{"a": 1}, map[int][]string{1: {"a"}, 2: nil},
		inner{[]string{"a", "b"}}, []inner{{}, {[]string{"x"}}}, time.Unix(1, 2), time.Unix(1<<40, 0),
	} {
		b, err := msgpack.Marshal(v)
		require.NoError(t, err)
		require.NoError(t, plaintext.CheckMsgPack(b), "%T", v)
		for n := range min(len(b), 100) {
			require.Error(t, plaintext.CheckMsgPack(b[:n]), "%T cut to %d of %d bytes", v, n, len(b))
		}
		require.Error(t, plaintext.CheckMsgPack(append(b, 0)), "%T", v)
	}
}
