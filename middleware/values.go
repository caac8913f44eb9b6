package middleware

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// encode returns the type and the plaintext of value. The plaintext of a []byte or
// string is the value's own memory and must only be read. The plaintext of a number is a
// part of buf. A codec returns a new slice.
//
// Numbers have the width of their type. A shorter form would show their magnitude
// in the length of the ciphertext.
func (s *Sealer) encode(buf *[8]byte, value any) (wire.Type, []byte, error) {
	switch v := value.(type) {
	case []byte:
		return wire.Bytes, v, nil
	case string:
		return wire.String, bytesOf(v), nil
	case bool:
		buf[0] = 0
		if v {
			buf[0] = 1
		}
		return wire.Bool, buf[:1], nil
	case int:
		return wire.Int, put64(buf, uint64(v)), nil
	case int8:
		buf[0] = byte(v)
		return wire.Int8, buf[:1], nil
	case int16:
		return wire.Int16, put16(buf, uint16(v)), nil
	case int32:
		return wire.Int32, put32(buf, uint32(v)), nil
	case int64:
		return wire.Int64, put64(buf, uint64(v)), nil
	case uint:
		return wire.Uint, put64(buf, uint64(v)), nil
	case uint8:
		buf[0] = v
		return wire.Uint8, buf[:1], nil
	case uint16:
		return wire.Uint16, put16(buf, v), nil
	case uint32:
		return wire.Uint32, put32(buf, v), nil
	case uint64:
		return wire.Uint64, put64(buf, v), nil
	case uintptr:
		return wire.Uintptr, put64(buf, uint64(v)), nil
	case float32:
		return wire.Float32, put32(buf, math.Float32bits(v)), nil
	case float64:
		return wire.Float64, put64(buf, math.Float64bits(v)), nil
	}
	return s.encodeWithCodec(value)
}

func (s *Sealer) encodeWithCodec(value any) (wire.Type, []byte, error) {
	if value == nil {
		return 0, nil, &typeError{"nil", "nil cannot be sealed (delete the key instead)"}
	}
	name := fmt.Sprintf("%T", value)
	refused := &typeError{name, fmt.Sprintf("the type needs a codec (give middleware.New the option WithCodec(middleware.JSON[%s]()))", name)}
	for _, c := range s.codecs {
		f := wire.Type(c.Format())
		b, err := encode(c, value)
		switch {
		case err == nil:
			return f, b, nil
		case errors.Is(err, errNilMessage):
			refused = &typeError{name, nilMessage}
		case !errors.Is(err, ErrUnsupportedType):
			return 0, nil, &codecError{errEncode, f, err}
		default:
			refused = &typeError{name, fmt.Sprintf("the %s codec does not support the type", f)}
			if own, ok := c.(interface{ takes() string }); ok {
				refused.reason = fmt.Sprintf("the %s codec takes %s", f, own.takes())
			}
		}
	}
	return 0, nil, refused
}

// decode returns the value of a plaintext of type t. The value may share the
// memory of b.
func (s *Sealer) decode(t wire.Type, b []byte) (any, error) {
	if want := t.Width(); want != 0 && len(b) != want {
		return nil, fmt.Errorf("%w: the stored %s has the wrong length of %d bytes (delete the value)", ErrUnsupportedFormat, t, len(b))
	}
	switch t {
	case wire.Bytes:
		if b == nil {
			b = []byte{}
		}
		return b, nil
	case wire.String:
		return stringOf(b), nil
	case wire.Bool:
		if b[0] > 1 {
			return nil, fmt.Errorf("%w: the stored bool is a byte other than 0 and 1 (delete the value)", ErrUnsupportedFormat)
		}
		return b[0] == 1, nil
	case wire.Int:
		v := int64(binary.BigEndian.Uint64(b))
		if int64(int(v)) != v {
			return nil, &typeError{"int", "the value has 64 bits, but this platform has 32 (store int64)"}
		}
		return int(v), nil
	case wire.Int8:
		return int8(b[0]), nil
	case wire.Int16:
		return int16(binary.BigEndian.Uint16(b)), nil
	case wire.Int32:
		return int32(binary.BigEndian.Uint32(b)), nil
	case wire.Int64:
		return int64(binary.BigEndian.Uint64(b)), nil
	case wire.Uint:
		v := binary.BigEndian.Uint64(b)
		if uint64(uint(v)) != v {
			return nil, &typeError{"uint", "the value has 64 bits, but this platform has 32 (store uint64)"}
		}
		return uint(v), nil
	case wire.Uint8:
		return b[0], nil
	case wire.Uint16:
		return binary.BigEndian.Uint16(b), nil
	case wire.Uint32:
		return binary.BigEndian.Uint32(b), nil
	case wire.Uint64:
		return binary.BigEndian.Uint64(b), nil
	case wire.Uintptr:
		v := binary.BigEndian.Uint64(b)
		if uint64(uintptr(v)) != v {
			return nil, &typeError{"uintptr", "the value has 64 bits, but this platform has 32"}
		}
		return uintptr(v), nil
	case wire.Float32:
		return math.Float32frombits(binary.BigEndian.Uint32(b)), nil
	case wire.Float64:
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	}
	c := codecOf(s.codecs, t)
	if c == nil {
		return nil, &typeError{t.String(), "the store lacks the codec that wrote the value (give middleware.New the option WithCodec)"}
	}
	v, err := decode(c, b)
	if err != nil {
		return nil, &codecError{errDecode, t, err}
	}
	return v, nil
}

func put16(buf *[8]byte, v uint16) []byte { return binary.BigEndian.AppendUint16(buf[:0], v) }
func put32(buf *[8]byte, v uint32) []byte { return binary.BigEndian.AppendUint32(buf[:0], v) }
func put64(buf *[8]byte, v uint64) []byte { return binary.BigEndian.AppendUint64(buf[:0], v) }

// bytesOf returns s as bytes that must not be written to. It does not copy, because
// copying costs more than AES does.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// stringOf returns b as a string without a copy. b must not be written to any more.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
