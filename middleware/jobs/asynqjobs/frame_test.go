package asynqjobs

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/jobs"
)

func TestFramesComeBack(t *testing.T) {
	t.Parallel()
	for _, f := range []frame{
		{},
		{payload: []byte("payload")},
		{name: "mail:send", payload: []byte{0}},
		{headers: map[string]string{"b": "2", "a": "1", "": ""}, unique: true, tag: [32]byte{31: 7}},
		{held: &member{typename: "t", payload: []byte("p"), headers: map[string]string{"h": "v"}}},
		{held: &member{}, payload: []byte("x")},
		{trace: map[string]string{"traceparent": "00-01-02-01", "tracestate": "a=b"}, payload: []byte("x")},
		{name: "n", headers: map[string]string{"a": "b"}, unique: true, held: &member{typename: "t"}, trace: map[string]string{"a": "b"}, payload: []byte("x")},
	} {
		b := f.append(nil)
		require.LessOrEqual(t, len(b), f.size())
		got, err := parseFrame(b)
		require.NoError(t, err)
		require.Equal(t, f.name, got.name)
		require.Equal(t, f.headers, got.headers)
		require.Equal(t, f.unique, got.unique)
		require.Equal(t, f.tag, got.tag)
		require.Equal(t, f.trace, got.trace)
		require.Equal(t, f.held != nil, got.held != nil)
		require.True(t, bytes.Equal(f.payload, got.payload))
		require.Equal(t, b, got.append(nil), "one form only")
	}
}

func TestMalformedFramesAreRefused(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]string{
		"nothing":               "",
		"unknown flag":          "\x20",
		"name cut":              "\x01\x00\x00\x00\x05abc",
		"name empty":            "\x01\x00\x00\x00\x00",
		"name length cut":       "\x01\x00\x00",
		"name of 4 GiB":         "\x01\xff\xff\xff\xff",
		"no headers":            "\x02\x00\x00\x00\x00",
		"headers by the bilion": "\x02\xff\xff\xff\xff",
		"headers out of order":  "\x02\x00\x00\x00\x02\x00\x00\x00\x01b\x00\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x00\x00",
		"a header twice":        "\x02\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x00\x00",
		"member cut":            "\x08\x00\x00\x00\x01t\x00\x00\x00\x00\x00\x00\x00\x01",
		"no trace":              "\x10\x00\x00\x00\x00",
		"tag cut":               "\x04" + strings.Repeat("t", 31),
	} {
		_, err := parseFrame([]byte(b))
		require.ErrorIs(t, err, jobs.ErrUnsupportedFormat, name)
	}
}

func FuzzFrame(f *testing.F) {
	for _, fr := range []frame{{payload: []byte("p")}, {unique: true}, {name: "n", headers: map[string]string{"a": "b"}}, {held: &member{typename: "t"}}, {trace: map[string]string{"a": "b"}}, {tick: &Tick{Name: "n", Time: time.UnixMilli(1772366400123)}}} {
		f.Add(fr.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := parseFrame(b)
		if err != nil {
			require.ErrorIs(t, err, jobs.ErrUnsupportedFormat)
			return
		}
		require.Equal(t, b, fr.append(nil))
	})
}
