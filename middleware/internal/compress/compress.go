// Package compress compresses values before they are sealed, and expands them within
// a bound.
//
// The form is one zstd frame (RFC 8878) that states its content size. A holder of
// the key wrote it, perhaps a release with other limits or a compromised process: a
// frame of a few kilobytes may claim gigabytes. [Codec.Expand] checks the claim
// before it allocates, and accepts only one frame that ends with the input.
//
// Compression makes the length of a sealed value depend on its content. An attacker
// who chooses part of a value and sees the length learns about the rest (CRIME,
// BREACH). Callers leave compression off unless asked, and document that.
package compress

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// errFrame is the error of everything that is not one well-formed frame.
var errFrame = fmt.Errorf("%w: not one zstd frame with its content size", wire.ErrUnsupportedFormat)

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
	if maxBytes < 1 {
		return nil, fmt.Errorf("compress: a bound of %d bytes (at least 1)", maxBytes)
	}
	// The header of a single segment always has the content size. A checksum would
	// cost 4 bytes for what the AEAD guarantees.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithSingleSegment(true),
		zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	memory := uint64(max(maxBytes, minDecoderMemory))
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(memory), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
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

// Expand returns the content of the frame src. Content over the bound is
// wire.ErrTooLarge, before anything is allocated. Bytes that are not one frame are
// wire.ErrUnsupportedFormat.
func (c *Codec) Expand(src []byte) ([]byte, error) {
	size, err := contentSize(src)
	if err != nil {
		return nil, err
	}
	if size > uint64(c.max) {
		return nil, fmt.Errorf("%w: decompresses to more than %d bytes", wire.ErrTooLarge, c.max)
	}
	out, err := c.dec.DecodeAll(src, make([]byte, 0, size))
	if err != nil {
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
			return nil, fmt.Errorf("%w: needs more memory than allowed to decompress", wire.ErrTooLarge)
		}
		return nil, errFrame // the decoder's own text may quote sizes of the content
	}
	if uint64(len(out)) != size {
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
