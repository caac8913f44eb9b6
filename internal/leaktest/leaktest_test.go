package leaktest_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/leaktest"
)

// A search that finds no canary proves something only if it finds each of these forms.
func TestFindsEveryForm(t *testing.T) {
	t.Parallel()
	var s leaktest.Set
	text, n, f := s.Text("text"), s.Int("int"), s.Float("float")
	s.AddInt("int32", 1_234_567_890)
	be := binary.BigEndian.AppendUint64(nil, uint64(n))
	le := binary.LittleEndian.AppendUint64(nil, uint64(n))
	for form, c := range map[string]struct {
		name, in string
	}{
		"as it is":          {"text", text},
		"a piece":           {"text", text[9:21]},
		"in lower case":     {"text", strings.ToLower(text)},
		"in JSON":           {"text", `{"a":"` + text + `"}`},
		"quoted":            {"text", fmt.Sprintf("%q", text)},
		"in hexadecimal":    {"text", hex.EncodeToString([]byte(text))},
		"in upper case hex": {"text", strings.ToUpper(hex.EncodeToString([]byte(text)))},
		"base64":            {"text", base64.StdEncoding.EncodeToString([]byte(text))},
		"base64, shifted 1": {"text", base64.StdEncoding.EncodeToString([]byte("x" + text + "yz"))},
		"base64, shifted 2": {"text", base64.URLEncoding.EncodeToString([]byte("xy" + text + "z"))},
		"decimal":           {"int", fmt.Sprint(n)},
		"big endian":        {"int", string(be)},
		"little endian":     {"int", string(le)},
		"number in hex":     {"int", hex.EncodeToString(be)},
		"number in base64":  {"int", base64.StdEncoding.EncodeToString(append([]byte("x"), be...))},
		"number in MONITOR": {"int", monitored(be)},
		"short decimal":     {"int32", "1234567890"},
		"float in text":     {"float", fmt.Sprint(f)},
		"float in decimals": {"float", strconv.FormatFloat(f, 'f', -1, 64)},
		"float, bits":       {"float", string(binary.BigEndian.AppendUint64(nil, math.Float64bits(f)))},
	} {
		around := bytes.Join([][]byte{noise(1000), []byte(c.in), noise(1000)}, nil)
		require.Equal(t, []string{c.name}, s.Find(around), form)
	}
}

func TestFindsNothingInNoise(t *testing.T) {
	t.Parallel()
	var s leaktest.Set
	for i := range 20 {
		s.Text(fmt.Sprint("text", i))
		s.Int(fmt.Sprint("int", i))
		s.Float(fmt.Sprint("float", i))
	}
	require.Empty(t, s.Find(noise(1<<18)))
	require.Empty(t, s.Find([]byte(hex.EncodeToString(noise(1<<16)))))
	require.Empty(t, s.Find([]byte(base64.StdEncoding.EncodeToString(noise(1<<16)))))
	require.Empty(t, new(leaktest.Set).Find(noise(1<<10)))
}

func TestShortTextsAreRefused(t *testing.T) {
	t.Parallel()
	var s leaktest.Set
	require.Panics(t, func() { s.AddText("short", "secret") })
	require.Panics(t, func() { s.AddInt("small", 42) })
	require.Panics(t, func() { s.AddFloat("short", 1.5) })
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// monitored is the output of redis-server 7.0 for these bytes: all but printable ASCII as \xNN or a letter.
func monitored(b []byte) string {
	var out strings.Builder
	for _, c := range b {
		switch q := fmt.Sprintf("%q", string([]byte{c})); {
		case c >= ' ' && c <= '~', strings.ContainsRune("\n\r\t\a\b", rune(c)):
			out.WriteString(q[1 : len(q)-1])
		default:
			fmt.Fprintf(&out, `\x%02x`, c)
		}
	}
	return out.String()
}
