package sessions

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// recordVectors are described in FORMAT.md, "Sessions". Bytes are in hexadecimal.
type recordVectors struct {
	Records []struct {
		Record, Session string
		Absolute        int64 // Unix milliseconds
	}
	Refused []string
}

func readVectors(t testing.TB) (v recordVectors) {
	t.Helper()
	b, err := os.ReadFile("testdata/records.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &v))
	require.NotEmpty(t, v.Records)
	require.NotEmpty(t, v.Refused)
	return v
}

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// decodeByFormat decodes a record as FORMAT.md describes it, without the code of this package.
func decodeByFormat(b []byte) (absolute int64, session []byte, ok bool) {
	if len(b) < 9 || b[0] != 1 || b[1] > 0x7f {
		return 0, nil, false
	}
	for _, digit := range b[1:9] {
		absolute = absolute<<8 | int64(digit)
	}
	return absolute, b[9:], true
}

func TestRecordVectors(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	for _, c := range v.Records {
		stored, session := fromHex(t, c.Record), fromHex(t, c.Session)
		r, ok := decode(stored)
		require.True(t, ok, c.Record)
		require.Equal(t, c.Absolute, r.absolute.UnixMilli())
		require.Equal(t, session, r.data)
		require.Equal(t, stored, record{time.UnixMilli(c.Absolute), session}.appendTo(nil))
		absolute, data, ok := decodeByFormat(stored)
		require.True(t, ok)
		require.Equal(t, c.Absolute, absolute)
		require.Equal(t, session, data)
	}
	for _, text := range v.Refused {
		_, ok := decode(fromHex(t, text))
		require.False(t, ok, text)
		_, _, ok = decodeByFormat(fromHex(t, text))
		require.False(t, ok, text)
	}
}

// An end before 1970 is written as 0, which is over.
func TestEndsBefore1970(t *testing.T) {
	t.Parallel()
	r, ok := decode(record{time.UnixMilli(math.MinInt64), []byte("x")}.appendTo(nil))
	require.True(t, ok)
	require.Zero(t, r.absolute.UnixMilli())
}

// Each record that decodes is written back the same, and FORMAT.md says so too.
func FuzzRecord(f *testing.F) {
	v := readVectors(f)
	for _, c := range v.Records {
		f.Add(fromHex(f, c.Record))
	}
	for _, text := range v.Refused {
		f.Add(fromHex(f, text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := decode(b)
		absolute, data, want := decodeByFormat(b)
		require.Equal(t, want, ok)
		if !ok {
			return
		}
		require.Equal(t, absolute, r.absolute.UnixMilli())
		require.Equal(t, data, r.data)
		require.Equal(t, b, r.appendTo(nil))
	})
}
