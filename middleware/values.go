package middleware

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// encode returns the type and the plaintext of value. The plaintext is value's
// own memory where it has some (it must only be read), a part of buf for fixed
// widths, and a new slice from a codec.
//
// Numbers have the width of their type: a shorter form would tell an observer
// their magnitude by the length of the ciphertext.
func (s *Store) encode(buf *[8]byte, value any) (wire.Type, []byte, error) {
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

func (s *Store) encodeWithCodec(value any) (wire.Type, []byte, error) {
	if value == nil {
		return 0, nil, fmt.Errorf("%w: nil: there is nothing to seal; delete the key, or store an empty value", ErrUnsupportedType)
	}
	var refused error
	for _, c := range s.cfg.codecs {
		f := wire.Type(c.Format())
		b, err := c.Encode(value)
		if err == nil {
			return f, b, nil
		}
		if !errors.Is(err, ErrUnsupportedType) {
			return 0, nil, &codecError{format: f, cause: err}
		}
		refused = fmt.Errorf("%w: %T: the %s codec does not take it", ErrUnsupportedType, value, f)
		if own, ok := c.(interface{ takes() string }); ok {
			refused = fmt.Errorf("%w: %T: the %s codec takes %s", ErrUnsupportedType, value, f, own.takes())
		}
	}
	if refused != nil {
		return 0, nil, refused
	}
	return 0, nil, fmt.Errorf("%w: %T: give New a codec for it, as WithCodec(middleware.JSON[%T]())", ErrUnsupportedType, value, value)
}

// decode returns the value that a plaintext of type t stands for. It takes over
// b's memory.
func (s *Store) decode(t wire.Type, b []byte) (any, error) {
	if want := width(t); want != 0 && len(b) != want {
		return nil, fmt.Errorf("%w: %s of %d bytes", ErrUnsupportedFormat, t, len(b))
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
			return nil, fmt.Errorf("%w: bool that is neither 0 nor 1", ErrUnsupportedFormat)
		}
		return b[0] == 1, nil
	case wire.Int:
		v := int64(binary.BigEndian.Uint64(b))
		if int64(int(v)) != v {
			return nil, fmt.Errorf("%w: an int of 64 bits on a platform of 32: store int64", ErrUnsupportedType)
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
			return nil, fmt.Errorf("%w: a uint of 64 bits on a platform of 32: store uint64", ErrUnsupportedType)
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
			return nil, fmt.Errorf("%w: a uintptr of 64 bits on a platform of 32", ErrUnsupportedType)
		}
		return uintptr(v), nil
	case wire.Float32:
		return math.Float32frombits(binary.BigEndian.Uint32(b)), nil
	case wire.Float64:
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	}
	c := s.cfg.codec(t)
	if c == nil {
		return nil, fmt.Errorf("%w: the value was written with the %s codec, which this store does not have: give it to New with WithCodec", ErrUnsupportedType, t)
	}
	v, err := c.Decode(b)
	if err != nil {
		return nil, &codecError{format: t, cause: err, decode: true}
	}
	return v, nil
}

// width is the length of a plaintext of a type that has only one, else 0.
func width(t wire.Type) int {
	switch t {
	case wire.Bool, wire.Int8, wire.Uint8:
		return 1
	case wire.Int16, wire.Uint16:
		return 2
	case wire.Int32, wire.Uint32, wire.Float32:
		return 4
	case wire.Int, wire.Int64, wire.Uint, wire.Uint64, wire.Uintptr, wire.Float64:
		return 8
	default:
		return 0
	}
}

func put16(buf *[8]byte, v uint16) []byte { return binary.BigEndian.AppendUint16(buf[:0], v) }
func put32(buf *[8]byte, v uint32) []byte { return binary.BigEndian.AppendUint32(buf[:0], v) }
func put64(buf *[8]byte, v uint64) []byte { return binary.BigEndian.AppendUint64(buf[:0], v) }

// bytesOf is s as bytes that must not be written to, without a copy: copying
// costs more than AES does.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// stringOf is b as a string, without a copy. Nobody may write to b any more.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// codecError says that a codec failed. It does not show what the codec said:
// that may quote the value. errors.Is and errors.As still see it.
type codecError struct {
	format wire.Type
	cause  error
	decode bool
}

func (e *codecError) Error() string {
	if e.decode {
		return fmt.Sprintf("%v: %s: was it written by another type? (the codec's own text is withheld: it may quote the value)", errDecode, e.format)
	}
	return fmt.Sprintf("middleware: the %s codec cannot encode the value (its own text is withheld: it may quote the value)", e.format)
}

func (e *codecError) Unwrap() []error {
	if e.decode {
		return []error{errDecode, e.cause}
	}
	return []error{e.cause}
}
