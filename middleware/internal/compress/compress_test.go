package compress_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/middleware/internal/compress"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCodec(t testing.TB, maxBytes int) *compress.Codec {
	t.Helper()
	c, err := compress.New(maxBytes)
	require.NoError(t, err)
	return c
}

func TestCompressesOnlyIfItSaves(t *testing.T) {
	t.Parallel()
	c := newCodec(t, 1<<20)
	text := []byte(strings.Repeat(`{"name":"a","value":1},`, 50))
	before := bytes.Clone(text)
	small, ok := c.Shrink(text)
	require.True(t, ok)
	require.Less(t, len(small), len(text)/4)
	require.Equal(t, before, text)
	back, err := c.Expand(small)
	require.NoError(t, err)
	require.Equal(t, text, back)

	random := make([]byte, 4096)
	rand.Read(random)
	for _, b := range [][]byte{nil, {}, {1}, []byte("ab"), random} {
		_, ok := c.Shrink(b)
		require.False(t, ok, "%d bytes", len(b))
	}
}

// Lengths around the widths of the frame's size field, and over several blocks.
func TestRoundTripOfEveryLength(t *testing.T) {
	t.Parallel()
	c := newCodec(t, 1<<20)
	for _, n := range []int{16, 63, 64, 255, 256, 257, 1023, 1024, 65791, 65792, 128 << 10, 128<<10 + 1, 300 << 10, 1 << 20} {
		src := bytes.Repeat([]byte("abcdefghijklmnop"), n/16+1)[:n]
		small, ok := c.Shrink(src)
		if !ok {
			require.Less(t, n, 64)
			continue
		}
		back, err := c.Expand(small)
		require.NoError(t, err, "%d bytes", n)
		require.Equal(t, src, back)
	}
}

// The frame of another encoder is read: with a window, a checksum, a better level.
func TestReadsOtherEncoders(t *testing.T) {
	t.Parallel()
	c := newCodec(t, 1<<20)
	src := bytes.Repeat([]byte("all work and no play "), 2000)
	for _, opts := range [][]zstd.EOption{
		{zstd.WithEncoderCRC(true)},
		{zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderCRC(true), zstd.WithWindowSize(1 << 22)},
	} {
		enc, err := zstd.NewWriter(nil, opts...)
		require.NoError(t, err)
		back, err := c.Expand(enc.EncodeAll(src, nil))
		require.NoError(t, err)
		require.Equal(t, src, back)
	}
}

func TestBoundHoldsToTheByte(t *testing.T) {
	t.Parallel()
	big := newCodec(t, 1<<30)
	for _, n := range []int{1000, 5000, 1 << 20} {
		small, ok := big.Shrink(make([]byte, n))
		require.True(t, ok)
		_, err := newCodec(t, n).Expand(small)
		require.NoError(t, err)
		_, err = newCodec(t, n-1).Expand(small)
		require.ErrorIs(t, err, wire.ErrTooLarge)
	}
}

// A frame that claims gigabytes is refused before memory of that size is allocated. A frame with more data than its
// claim is read only up to the claim.
func TestBombsAreRefused(t *testing.T) {
	// Not parallel, because it measures allocation.
	c := newCodec(t, 1<<20)
	small, ok := newCodec(t, 1<<30).Shrink(make([]byte, 200<<20))
	require.True(t, ok)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := c.Expand(small)
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, wire.ErrTooLarge)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))

	// The size field says 1000 instead: 4 bytes after magic and descriptor.
	require.Equal(t, byte(2), small[4]>>6, "the field has 4 bytes")
	binary.LittleEndian.PutUint32(small[5:], 1000)
	runtime.ReadMemStats(&before)
	_, err = c.Expand(small)
	runtime.ReadMemStats(&after)
	require.Error(t, err)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
}

func TestRefusesEverythingButOneFrame(t *testing.T) {
	t.Parallel()
	c := newCodec(t, 1<<20)
	frame, ok := c.Shrink(bytes.Repeat([]byte("0123456789"), 100))
	require.True(t, ok)
	stream, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	var noSize bytes.Buffer
	stream.Reset(&noSize)
	for range 100 {
		_, err = stream.Write(bytes.Repeat([]byte("x"), 1<<16))
		require.NoError(t, err)
	}
	require.NoError(t, stream.Close())
	for name, b := range map[string][]byte{
		"nothing":          nil,
		"text":             []byte("hello, world"),
		"a byte more":      append(bytes.Clone(frame), 0),
		"two frames":       append(bytes.Clone(frame), frame...),
		"a skippable":      {0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9},
		"one after it":     append(bytes.Clone(frame), 0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0),
		"no content size":  noSize.Bytes(),
		"size one too big": func() []byte { b := bytes.Clone(frame); b[5]++; return b }(),
	} {
		_, err := c.Expand(b)
		require.ErrorIs(t, err, wire.ErrUnsupportedFormat, name)
	}
	for n := range frame {
		_, err := c.Expand(frame[:n])
		require.Error(t, err, "cut to %d", n)
	}
}

func TestNewChecksItsBound(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, -1} {
		_, err := compress.New(n)
		require.Error(t, err)
	}
}

// An s2 block has the same rules: it saves, it is bounded before it is expanded, and nothing follows it.
func TestS2(t *testing.T) {
	t.Parallel()
	c := newCodec(t, 1<<20)
	for _, n := range []int{1 << 20, 64 << 10, 1024, 512} {
		src := bytes.Repeat([]byte("abcdefghijklmnop"), n/16)
		small, ok := c.ShrinkFast(src)
		require.True(t, ok)
		require.Less(t, len(small), n/2)
		got, err := c.Expand(small)
		require.NoError(t, err)
		require.Equal(t, src, got)
		_, err = newCodec(t, n-1).Expand(small)
		require.ErrorIs(t, err, wire.ErrTooLarge)
		for _, bad := range [][]byte{append(bytes.Clone(small), 0), small[:len(small)-1], small[:1]} {
			_, err = c.Expand(bad)
			require.ErrorIs(t, err, wire.ErrUnsupportedFormat)
		}
	}
	random := make([]byte, 4096)
	rand.Read(random)
	for _, b := range [][]byte{nil, {1}, random} {
		_, ok := c.ShrinkFast(b)
		require.False(t, ok)
	}
}

func FuzzExpand(f *testing.F) {
	c := newCodec(f, 1<<16)
	for _, src := range [][]byte{make([]byte, 100), bytes.Repeat([]byte("ab"), 1000), make([]byte, 1<<16)} {
		if frame, ok := c.Shrink(src); ok {
			f.Add(frame)
		}
		if block, ok := c.ShrinkFast(src); ok {
			f.Add(block)
		}
	}
	f.Add([]byte{2, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x05, 0x29, 0x00, 0x00, 'h', 'e', 'l', 'l', 'o'})
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		out, err := c.Expand(b)
		require.Equal(t, before, b)
		if err != nil {
			if !errors.Is(err, wire.ErrUnsupportedFormat) && !errors.Is(err, wire.ErrTooLarge) {
				t.Fatalf("undocumented error %v", err)
			}
			return
		}
		if len(out) > 1<<16 {
			t.Fatalf("%d bytes", len(out))
		}
		if small, ok := c.Shrink(out); ok {
			back, err := c.Expand(small)
			require.NoError(t, err)
			require.Equal(t, out, back)
		}
	})
}
