package wire

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

// MaxLabelsBytes bounds the key name and the tags in a plaintext, their lengths included.
const MaxLabelsBytes = 16 << 10

// Labels are the names that are sealed in front of a cache value: its key if that is hidden, and its tags.
type Labels struct {
	Key  string // only with Named
	Tags []string
}

// Flags returns the flag Tagged if there are tags.
func (l Labels) Flags() Flags {
	if len(l.Tags) > 0 {
		return Tagged
	}
	return 0
}

// Size is the number of bytes that AppendLabels writes under these flags.
func (l Labels) Size(f Flags) int {
	n := 0
	if f&Named != 0 {
		n += lenSize + len(l.Key)
	}
	if f&Tagged != 0 {
		n += lenSize
		for _, t := range l.Tags {
			n += lenSize + len(t)
		}
	}
	return n
}

// AppendLabels appends the labels that the flags announce to dst.
func AppendLabels(dst []byte, f Flags, l Labels) []byte {
	if f&Named != 0 {
		dst = AppendName(dst, l.Key)
	}
	if f&Tagged != 0 {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(l.Tags)))
		for _, t := range l.Tags {
			dst = AppendName(dst, t)
		}
	}
	return dst
}

var errLabels = fmt.Errorf("%w: the sealed cache key or tags are malformed (delete the value)", ErrUnsupportedFormat)

// CutLabels returns the labels that a plaintext starts with, and the rest, which shares its memory.
func CutLabels(plaintext []byte, f Flags) (l Labels, rest []byte, err error) {
	rest = plaintext
	if f&Named != 0 {
		if l.Key, rest, err = cutName(rest); err != nil {
			return Labels{}, nil, err
		}
	}
	if f&Tagged != 0 {
		if len(rest) < lenSize {
			return Labels{}, nil, errLabels
		}
		n := int64(binary.BigEndian.Uint32(rest))
		rest = rest[lenSize:]
		if n == 0 || n > int64(min(len(rest), MaxLabelsBytes)/lenSize) {
			return Labels{}, nil, errLabels
		}
		l.Tags = make([]string, n)
		for i := range l.Tags {
			if l.Tags[i], rest, err = cutName(rest); err != nil {
				return Labels{}, nil, err
			}
		}
	}
	if len(plaintext)-len(rest) > MaxLabelsBytes {
		return Labels{}, nil, errLabels
	}
	return l, rest, nil
}

func cutName(b []byte) (string, []byte, error) {
	if len(b) < lenSize {
		return "", nil, errLabels
	}
	n := int64(binary.BigEndian.Uint32(b))
	b = b[lenSize:]
	if n > int64(min(len(b), MaxLabelsBytes)) {
		return "", nil, errLabels
	}
	return string(b[:n]), b[n:], nil
}

// padStart is the first byte of the padding. Zeros follow it.
const padStart = 0x80

// PaddedSize returns the length of n bytes after padding: Padmé of n and the first byte of the padding.
func PaddedSize(n int) int { return padme(n + 1) }

// Pad appends padding to b, whose bytes from start on are the plaintext.
func Pad(b []byte, start int) []byte {
	end := start + PaddedSize(len(b)-start)
	b = append(slices.Grow(b, end-len(b)), padStart)
	n := len(b)
	b = b[:end]
	clear(b[n:])
	return b
}

// Unpad returns a plaintext without its padding. It accepts only the padding that Pad writes.
func Unpad(b []byte) ([]byte, error) {
	n := len(b) - 1
	for n >= 0 && b[n] == 0 {
		n--
	}
	if n < 0 || b[n] != padStart || PaddedSize(n) != len(b) {
		return nil, fmt.Errorf("%w: the decrypted value has malformed padding (delete the value)", ErrUnsupportedFormat)
	}
	return b[:n], nil
}

// padme rounds a length up to one whose significant bits are few: a floating-point number whose mantissa is no longer
// than its exponent. It adds less than 12 %, and lengths up to n have O(log log n) bits of information. Source: Nikitin,
// Barman, Lueks, Underwood, Hubaux, Ford: Reducing Metadata Leakage from Encrypted Files and Communication with PURBs,
// PoPETs 2019, section 4.
func padme(n int) int {
	if n < 2 {
		return n
	}
	exponent := bits.Len(uint(n)) - 1
	mantissa := bits.Len(uint(exponent))
	mask := 1<<(exponent-mantissa) - 1
	return (n + mask) &^ mask
}
