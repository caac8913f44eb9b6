package content_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/internal/content"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

const maxBytes = 1 << 16

// Unpack reads the output of Pack, with every combination of flags.
func TestPackAndUnpack(t *testing.T) {
	t.Parallel()
	reader := content.New(content.None, 0, false, maxBytes)
	for _, codec := range []content.Codec{content.None, content.Zstd, content.S2} {
		for _, padding := range []bool{false, true} {
			for _, l := range []wire.Labels{{}, {Key: "k"}, {Tags: []string{""}}, {Key: "", Tags: []string{"a", "a", "b"}}} {
				for _, value := range []string{"", "v", strings.Repeat("value ", 1000)} {
					p := content.New(codec, content.MinCompressedBytes, padding, maxBytes)
					h := wire.Header{Type: wire.String}
					if l.Key != "" {
						h.Flags = wire.Hidden | wire.Named
					}
					var buf []byte
					plaintext, err := p.Pack(&buf, &h, l, []byte(value))
					require.NoError(t, err)
					labels, got, err := reader.Unpack(h, plaintext)
					require.NoError(t, err)
					require.Equal(t, value, string(got))
					require.Equal(t, l, labels)
					require.Equal(t, padding, h.Flags&wire.Padded != 0)
					require.Equal(t, codec != content.None && len(value) > 512, h.Flags&wire.Compressed != 0)
				}
			}
		}
	}
	p := content.New(content.None, 0, false, maxBytes)
	var buf []byte
	_, err := p.Pack(&buf, &wire.Header{Type: wire.Bytes}, wire.Labels{Tags: []string{strings.Repeat("t", wire.MaxLabelsBytes)}}, nil)
	require.ErrorIs(t, err, wire.ErrTooLarge)
	require.NotContains(t, err.Error(), "tt")
	plaintext, err := p.Pack(&buf, &wire.Header{Type: wire.Bytes}, wire.Labels{}, []byte("v"))
	require.NoError(t, err)
	require.Empty(t, buf, "nothing is copied if nothing is added")
	require.Equal(t, "v", string(plaintext))
}

// A holder of the key wrote an opened plaintext, perhaps with a faulty program. Unpacking it neither panics nor allocates
// without bound, and accepts only what Pack writes.
func FuzzUnpack(f *testing.F) {
	for _, flags := range []wire.Flags{wire.Padded, wire.Tagged, wire.Hidden | wire.Named, wire.Hidden | wire.Named | wire.Tagged | wire.Padded, wire.Compressed} {
		h := wire.Header{Type: wire.Bytes, Flags: flags &^ (wire.Padded | wire.Tagged | wire.Compressed)}
		var l wire.Labels
		if flags&wire.Named != 0 {
			l.Key = "key"
		}
		if flags&wire.Tagged != 0 {
			l.Tags = []string{"a", "b"}
		}
		codec := content.None
		if flags&wire.Compressed != 0 {
			codec = content.S2
		}
		var buf []byte
		plaintext, err := content.New(codec, 1, flags&wire.Padded != 0, maxBytes).Pack(&buf, &h, l, bytes.Repeat([]byte("v"), 100))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(h.Flags), bytes.Clone(plaintext))
	}
	f.Add(byte(wire.Tagged), []byte("\xff\xff\xff\xff"))
	f.Add(byte(wire.Padded), []byte{0x80, 0})
	f.Add(byte(wire.Compressed), []byte("\x02\xff\xff\x03"))
	reader := content.New(content.None, 0, false, maxBytes)
	f.Fuzz(func(t *testing.T, flags byte, plaintext []byte) {
		h := wire.Header{Type: wire.Bytes, Flags: wire.Flags(flags)}
		before := bytes.Clone(plaintext)
		l, value, err := reader.Unpack(h, plaintext)
		if err != nil {
			if !errors.Is(err, wire.ErrUnsupportedFormat) && !errors.Is(err, wire.ErrTooLarge) {
				t.Fatal(err)
			}
			return
		}
		if len(value) > max(maxBytes, len(plaintext)) || !bytes.Equal(before, plaintext) {
			t.Fatal("unpacked more than the bound, or changed the plaintext")
		}
		if h.Flags&wire.Compressed != 0 {
			return // several frames have one content
		}
		again := wire.Header{Type: wire.Bytes, Flags: h.Flags &^ (wire.Tagged | wire.Padded)}
		var buf []byte
		packed, err := content.New(content.None, 0, h.Flags&wire.Padded != 0, maxBytes).Pack(&buf, &again, l, value)
		if err != nil || again.Flags != h.Flags || !bytes.Equal(packed, plaintext) {
			t.Fatalf("not what Pack writes: %v", err)
		}
	})
}
