// Package compress compresses values before they are encrypted, and decompresses them up to a maximum size. Begin with
// [New].
//
// There are two formats. Zstandard (zstd, RFC 8878) compresses more. S2, a format of the Go library klauspost/compress,
// is faster. A value in the S2 format begins with the byte 02. Both formats contain the size of the decompressed value.
//
// [Codec.Expand] checks this size before it allocates memory, because a few kilobytes can claim to expand to gigabytes.
// Codec.Expand also refuses input with additional bytes at the end.
//
// Compression makes the length of a value depend on its content. If an attacker can choose a part of a value and see
// the length, the attacker can learn the rest (attacks CRIME and BREACH). So callers must not compress by default.
package compress

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// errFrame is the error of everything that is not one well-formed frame or block.
var errFrame = fmt.Errorf("%w: the compressed data in the value is neither zstd nor S2 (delete the value)", wire.ErrUnsupportedFormat)

// startS2 is the byte before an s2 block. A zstd frame starts with 28.
const startS2 = 0x02

// minDecoderMemory is the least memory for the decoder's window, which other encoders
// make larger than the content.
const minDecoderMemory = 8 << 20

// Codec compresses and expands. It is safe for concurrent use and needs no closing.
type Codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
	max int
}

// New returns a Codec that expands to at most maxBytes bytes.
func New(maxBytes int) (*Codec, error) {
	if err := wire.CheckLimit(maxBytes); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	// The header of a single segment always has the content size. A checksum would
	// add 4 bytes, although the AEAD already authenticates the value.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithSingleSegment(true),
		zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("compress: cannot set up zstd (report this bug): %w", err)
	}
	memory := uint64(max(maxBytes, minDecoderMemory))
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(memory), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("compress: cannot set up zstd (report this bug): %w", err)
	}
	return &Codec{enc: enc, dec: dec, max: maxBytes}, nil
}

// Shrink returns src as a frame. It reports false if the frame is not shorter.
func (c *Codec) Shrink(src []byte) ([]byte, bool) {
	if len(src) == 0 {
		return nil, false
	}
	out := c.enc.EncodeAll(src, make([]byte, 0, len(src)))
	if len(out) >= len(src) {
		return nil, false
	}
	return out, true
}

// ShrinkFast is Shrink with s2, which takes a tenth of the time and saves less.
func (c *Codec) ShrinkFast(src []byte) ([]byte, bool) {
	most := s2.MaxEncodedLen(len(src))
	if len(src) == 0 || most < 0 {
		return nil, false
	}
	out := make([]byte, 1+most)
	out[0] = startS2
	out = out[:1+len(s2.Encode(out[1:], src))]
	if len(out) >= len(src) {
		return nil, false
	}
	return out, true
}

// Expand returns the content of src, which Shrink or ShrinkFast made. Content over
// the bound is wire.ErrTooLarge, before anything is allocated. Bytes that are
// neither one frame nor one block are wire.ErrUnsupportedFormat.
func (c *Codec) Expand(src []byte) ([]byte, error) {
	if len(src) > 0 && src[0] == startS2 {
		return c.expandS2(src[1:])
	}
	size, err := contentSize(src)
	if err != nil {
		return nil, err
	}
	if size > uint64(c.max) {
		return nil, fmt.Errorf("%w: the decompressed value would exceed the limit of %d bytes", wire.ErrTooLarge, c.max)
	}
	out, err := c.dec.DecodeAll(src, make([]byte, 0, size))
	if err != nil {
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
			return nil, fmt.Errorf("%w: decompressing would need more memory than the limit for a value", wire.ErrTooLarge)
		}
		return nil, errFrame // the decoder's own text may quote sizes of the content
	}
	if uint64(len(out)) != size {
		return nil, errFrame
	}
	return out, nil
}

func (c *Codec) expandS2(block []byte) ([]byte, error) {
	size, err := s2.DecodedLen(block)
	if err != nil {
		return nil, errFrame
	}
	if size > c.max {
		return nil, fmt.Errorf("%w: the decompressed value would exceed the limit of %d bytes", wire.ErrTooLarge, c.max)
	}
	out, err := s2.Decode(make([]byte, size), block)
	if err != nil || len(out) != size {
		return nil, errFrame
	}
	return out, nil
}

// contentSize returns the content size that the frame states. It checks that src ends
// where the frame ends.
func contentSize(src []byte) (uint64, error) {
	var h zstd.Header
	if err := h.Decode(src); err != nil || h.Skippable || !h.HasFCS || h.DictionaryID != 0 {
		return 0, errFrame
	}
	rest := src[h.HeaderSize:]
	for last := false; !last; {
		if len(rest) < blockHeader {
			return 0, errFrame
		}
		// RFC 8878, section 3.1.1.2: bit 0 tells the last block, bits 1 and 2
		// the type, the rest is the size.
		b := binary.LittleEndian.Uint32([]byte{rest[0], rest[1], rest[2], 0})
		last = b&1 != 0
		n := int(b >> 3)
		if b>>1&3 == blockRLE {
			n = 1
		}
		rest = rest[blockHeader:]
		if len(rest) < n {
			return 0, errFrame
		}
		rest = rest[n:]
	}
	if h.HasCheckSum {
		if len(rest) < checksum {
			return 0, errFrame
		}
		rest = rest[checksum:]
	}
	if len(rest) != 0 {
		return 0, errFrame
	}
	return h.FrameContentSize, nil
}

const (
	blockHeader = 3
	blockRLE    = 1
	checksum    = 4
)
