// Package compress makes values smaller before they are sealed, and makes them
// whole again within a bound.
//
// The form is one zstd frame (RFC 8878) that states its content size. What is
// opened was written by a holder of the key, but that holder may have been
// another release with other limits, or a compromised one: a frame of a few
// kilobytes may claim to hold gigabytes. [Codec.Expand] looks at the claim before
// it allocates anything, and accepts nothing but one frame to the last byte.
//
// Compression makes the length of a sealed value depend on its content. Where
// an attacker chooses part of a value and sees the length of the whole, he
// learns about the rest (CRIME, BREACH). Callers leave compression off unless
// asked, and their documentation says so.
package compress

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// errFrame covers everything that is not one well-formed frame.
var errFrame = fmt.Errorf("%w: not one zstd frame with its content size", wire.ErrUnsupportedFormat)

// minDecoderMemory is the least that the decoder is given for its window, which
// other encoders make larger than the content.
const minDecoderMemory = 8 << 20

// Codec compresses and expands. It is safe for concurrent use, keeps no
// goroutine and needs no closing.
type Codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
	max int
}

// New returns a Codec that expands to at most maxBytes bytes.
func New(maxBytes int) (*Codec, error) {
	if maxBytes < 1 {
		return nil, fmt.Errorf("compress: a bound of %d bytes: it takes at least 1", maxBytes)
	}
	// The content size is always in the header of a single segment. The
	// checksum would cost 4 bytes for what the AEAD guarantees already.
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

// Shrink returns src as a frame and true if that is shorter than src, else
// false.
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

// Expand returns the content of the frame src. It fails with
// wire.ErrTooLarge if the content is over the bound, before it allocates, and
// with wire.ErrUnsupportedFormat if src is anything but one frame.
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

// contentSize returns what the frame says that it holds, and checks that src
// ends where the frame does.
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
