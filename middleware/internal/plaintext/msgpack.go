package plaintext

import (
	"encoding/binary"
	"errors"
)

// maxMsgPackDepth bounds the nesting of a plaintext MessagePack value. The
// decoder calls itself for each level.
const maxMsgPackDepth = 1000

var errMsgPack = errors.New("the data is not exactly one MessagePack value with at most 1000 nested levels")

// CheckMsgPack checks bytes that nothing has authenticated, before they are
// decoded or sealed. They must be exactly one MessagePack value of bounded
// depth, and no declared length may exceed the bytes that are left. The decoder
// trusts declared lengths and has no bound on depth, so ten planted bytes could
// end the process.
//
// CheckMsgPack follows https://github.com/msgpack/msgpack/blob/master/spec.md
// and does not call itself.
func CheckMsgPack(b []byte) error {
	var open [maxMsgPackDepth]uint64 // values that each open array or map still needs
	depth := 0
	for {
		n, children, ok := msgPackItem(b)
		if !ok {
			return errMsgPack
		}
		b = b[n:]
		// Each child needs at least one byte.
		if children > uint64(len(b)) {
			return errMsgPack
		}
		if children > 0 {
			if depth == maxMsgPackDepth {
				return errMsgPack
			}
			open[depth] = children
			depth++
			continue
		}
		for depth > 0 {
			if open[depth-1]--; open[depth-1] > 0 {
				break
			}
			depth--
		}
		if depth == 0 {
			break
		}
	}
	if len(b) != 0 {
		return errMsgPack
	}
	return nil
}

// msgPackItem returns the length of the item that b starts with, without the
// values inside it, and the number of those. It reports false if b ends within
// the item or does not start with one.
func msgPackItem(b []byte) (n int, children uint64, ok bool) {
	if len(b) == 0 {
		return 0, 0, false
	}
	length := func(size int) uint64 { // the number after the first byte, in size bytes
		if len(b) < 1+size {
			ok = false
			return 0
		}
		var buf [8]byte
		copy(buf[8-size:], b[1:1+size])
		return binary.BigEndian.Uint64(buf[:])
	}
	ok = true
	var size uint64
	switch c := b[0]; {
	case c <= 0x7f, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3: // fixint, nil, false, true
		size = 1
	case c <= 0x8f: // fixmap
		size, children = 1, 2*uint64(c&0x0f)
	case c <= 0x9f: // fixarray
		size, children = 1, uint64(c&0x0f)
	case c <= 0xbf: // fixstr
		size = 1 + uint64(c&0x1f)
	case c == 0xc4, c == 0xd9: // bin 8, str 8
		size = 2 + length(1)
	case c == 0xc5, c == 0xda: // bin 16, str 16
		size = 3 + length(2)
	case c == 0xc6, c == 0xdb: // bin 32, str 32
		size = 5 + length(4)
	case c == 0xc7: // ext 8
		size = 3 + length(1)
	case c == 0xc8: // ext 16
		size = 4 + length(2)
	case c == 0xc9: // ext 32
		size = 6 + length(4)
	case c == 0xca, c == 0xce, c == 0xd2: // float 32, uint 32, int 32
		size = 5
	case c == 0xcb, c == 0xcf, c == 0xd3: // float 64, uint 64, int 64
		size = 9
	case c == 0xcc, c == 0xd0: // uint 8, int 8
		size = 2
	case c == 0xcd, c == 0xd1: // uint 16, int 16
		size = 3
	case c >= 0xd4 && c <= 0xd8: // fixext 1, 2, 4, 8, 16
		size = 2 + 1<<(c-0xd4)
	case c == 0xdc: // array 16
		size, children = 3, length(2)
	case c == 0xdd: // array 32
		size, children = 5, length(4)
	case c == 0xde: // map 16
		size, children = 3, 2*length(2)
	case c == 0xdf: // map 32
		size, children = 5, 2*length(4)
	default: // 0xc1 is never used
		return 0, 0, false
	}
	if !ok || size > uint64(len(b)) {
		return 0, 0, false
	}
	return int(size), children, true
}
