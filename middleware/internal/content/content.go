// Package content builds the plaintext of a cache value, which is then encrypted. The plaintext contains the encoded
// value. It can also contain the cache key of the entry and its tags. Tags are the labels by which gocache deletes several
// entries at once.
//
// [Packer.Pack] builds this plaintext, and [Packer.Unpack] parses it. FORMAT.md, section "Plaintext of a cache value",
// specifies it.
package content

import (
	"fmt"
	"sync"

	"github.com/sealcache/sealcache/middleware/internal/compress"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// MinCompressedBytes is the least length of a value that Pack compresses. Compression of a shorter value saves too little.
const MinCompressedBytes = 512

// Codec says which codec compresses.
type Codec byte

// The codecs that Pack writes. Unpack reads all of them.
const (
	None Codec = iota
	Zstd
	S2
)

// A Packer packs and unpacks the values of one store. It is safe for concurrent use.
type Packer struct {
	codec    Codec
	minBytes int
	padding  bool
	maxBytes int
	// compressor is made at the first use, because a store without compressed values should not hold its memory.
	compressor func() (*compress.Codec, error)
}

// New returns a Packer. It compresses values of at least minBytes bytes with codec, pads if padding, and unpacks values of
// at most maxBytes bytes.
func New(codec Codec, minBytes int, padding bool, maxBytes int) *Packer {
	return &Packer{
		codec: codec, minBytes: minBytes, padding: padding, maxBytes: maxBytes,
		compressor: sync.OnceValues(func() (*compress.Codec, error) { return compress.New(maxBytes) }),
	}
}

// Pack returns the plaintext of an encoded value of type h.Type with its labels, and sets the flags in h that describe its
// form. h.Flags says whether the key is named. If nothing is to be added, the plaintext is value itself. Otherwise it is
// written to buf, which grows as needed. Key and tags that are too long are wire.ErrTooLarge.
func (p *Packer) Pack(buf *[]byte, h *wire.Header, l wire.Labels, value []byte) ([]byte, error) {
	h.Flags |= l.Flags()
	if n := l.Size(h.Flags); n > wire.MaxLabelsBytes {
		return nil, fmt.Errorf("%w: its cache key and tags have %d bytes together (at most %d are allowed)", wire.ErrTooLarge, n, wire.MaxLabelsBytes)
	}
	if p.codec != None && len(value) >= p.minBytes && h.Type.Compressible() {
		c, err := p.compressor()
		if err != nil {
			return nil, err
		}
		shrink := c.Shrink
		if p.codec == S2 {
			shrink = c.ShrinkFast
		}
		if small, ok := shrink(value); ok {
			value = small
			h.Flags |= wire.Compressed
		}
	}
	if p.padding {
		h.Flags |= wire.Padded
	}
	if h.Flags&(wire.Named|wire.Tagged|wire.Padded) == 0 {
		return value, nil
	}
	out := append(wire.AppendLabels((*buf)[:0], h.Flags, l), value...)
	if p.padding {
		out = wire.Pad(out, 0)
	}
	*buf = out
	return out, nil
}

// Unpack returns the encoded value in a plaintext, and its labels. Without compression the value shares the memory of the
// plaintext. Errors are wire.ErrUnsupportedFormat and, for a value over the bound, wire.ErrTooLarge.
func (p *Packer) Unpack(h wire.Header, plaintext []byte) (wire.Labels, []byte, error) {
	labels, value, err := cut(h, plaintext)
	if err != nil {
		return wire.Labels{}, nil, err
	}
	if h.Flags&wire.Compressed != 0 {
		c, err := p.compressor()
		if err != nil {
			return wire.Labels{}, nil, err
		}
		if value, err = c.Expand(value); err != nil {
			return wire.Labels{}, nil, err
		}
	}
	return labels, value, nil
}

// Labels returns what is sealed in front of a value.
func Labels(h wire.Header, plaintext []byte) (wire.Labels, error) {
	l, _, err := cut(h, plaintext)
	return l, err
}

// Relabel returns the plaintext of a value with other labels, and sets the flags in h: hidden are its flags Hidden and
// Named. The value stays compressed and padded as it is. Labels that are too long are wire.ErrTooLarge.
func Relabel(h *wire.Header, plaintext []byte, hidden wire.Flags, l wire.Labels) ([]byte, error) {
	_, value, err := cut(*h, plaintext)
	if err != nil {
		return nil, err
	}
	h.Flags = h.Flags&^(wire.Hidden|wire.Named|wire.Tagged) | hidden | l.Flags()
	n := l.Size(h.Flags)
	if n > wire.MaxLabelsBytes {
		return nil, fmt.Errorf("%w: its cache key and tags have %d bytes together (at most %d are allowed)", wire.ErrTooLarge, n, wire.MaxLabelsBytes)
	}
	out := append(wire.AppendLabels(make([]byte, 0, wire.PaddedSize(n+len(value))), h.Flags, l), value...)
	if h.Flags&wire.Padded != 0 {
		out = wire.Pad(out, 0)
	}
	return out, nil
}

// cut returns the labels of a value, and the value as it is packed.
func cut(h wire.Header, plaintext []byte) (wire.Labels, []byte, error) {
	if h.Flags&wire.Padded != 0 {
		var err error
		if plaintext, err = wire.Unpad(plaintext); err != nil {
			return wire.Labels{}, nil, err
		}
	}
	return wire.CutLabels(plaintext, h.Flags)
}

// MaxPlaintext bounds the length of the plaintext of a value of at most n bytes.
func MaxPlaintext(n int) int { return wire.PaddedSize(n + wire.MaxLabelsBytes) }
