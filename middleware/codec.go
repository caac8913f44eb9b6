package middleware

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/vmihailenco/msgpack/v5"
	"google.golang.org/protobuf/proto"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Format numbers the encoding of a codec in the sealed value's header.
type Format byte

// The formats of this package's codecs, and the range for applications' own.
const (
	FormatJSON       = Format(wire.JSON)
	FormatMsgPack    = Format(wire.MsgPack)
	FormatProto      = Format(wire.Protobuf)
	FormatCustom     = Format(wire.Custom)
	FormatCustomLast = Format(wire.CustomLast)
)

func (f Format) String() string { return wire.Type(f).String() }

// Codec turns values of one Go type into bytes and back. It must be safe for
// concurrent use. The bytes are sealed after Encode and authenticated before
// Decode, so that a codec reads only what it wrote. The exception is a store that
// accepts plaintext (WithPlaintext): there Decode may see bytes that an attacker
// planted. A panic in a codec becomes an error. Errors of this package do not
// show the text of a codec's error, because it may quote the value.
type Codec interface {
	// Format is always the same number.
	Format() Format
	// Encode returns the bytes of v, or an error that wraps ErrUnsupportedType
	// if v is not of the codec's type. The codec must not change the bytes after
	// it has returned.
	Encode(v any) ([]byte, error)
	// Decode returns a value of the codec's type. It may keep data.
	Decode(data []byte) (any, error)
}

// codecOf returns the codec of a format, or nil.
func codecOf(codecs []Codec, f wire.Type) Codec {
	for _, c := range codecs {
		if wire.Type(c.Format()) == f {
			return c
		}
	}
	return nil
}

// JSON is a codec for values of type T over encoding/json. For pointers give
// the pointer type: JSON[*User]() takes and returns *User.
func JSON[T any]() Codec {
	return codec[T]{FormatJSON, func(v T) ([]byte, error) { return json.Marshal(v) }, func(b []byte) (v T, err error) {
		err = json.Unmarshal(b, &v)
		return v, err
	}}
}

// MsgPack is a codec for values of type T over msgpack, as gocache's
// marshaler writes it.
func MsgPack[T any]() Codec {
	return codec[T]{FormatMsgPack, func(v T) ([]byte, error) { return msgpack.Marshal(v) }, func(b []byte) (v T, err error) {
		err = msgpack.Unmarshal(b, &v)
		return v, err
	}}
}

// Proto is a codec for one type of protocol buffer message: Proto[*pb.User]().
// T is a pointer to a generated type. For an interface New returns an error.
func Proto[T proto.Message]() Codec {
	if reflect.TypeFor[T]().Kind() == reflect.Interface {
		return nil
	}
	return codec[T]{FormatProto, func(v T) ([]byte, error) {
		if !v.ProtoReflect().IsValid() {
			return nil, errNilMessage
		}
		return proto.Marshal(v)
	}, func(b []byte) (T, error) {
		var zero T
		m, ok := zero.ProtoReflect().New().Interface().(T)
		if !ok {
			return zero, fmt.Errorf("%w: the protobuf codec cannot create a %T (use a pointer to a generated type)", ErrUnsupportedType, zero)
		}
		return m, proto.Unmarshal(b, m)
	}}
}

// errNilMessage is the error of a nil pointer to a message. Sealed, it would read
// as an empty message.
var errNilMessage = fmt.Errorf("%w: %s", ErrUnsupportedType, nilMessage)

const nilMessage = "the protobuf message is a nil pointer (store an empty message instead)"

type codec[T any] struct {
	format Format
	encode func(T) ([]byte, error)
	decode func([]byte) (T, error)
}

func (c codec[T]) Format() Format { return c.format }

func (c codec[T]) takes() string { return typeName[T]() }

func (c codec[T]) Encode(v any) ([]byte, error) {
	t, ok := v.(T)
	if !ok {
		return nil, fmt.Errorf("%w: the codec does not take values of type %T", ErrUnsupportedType, v)
	}
	return c.encode(t)
}

func (c codec[T]) Decode(data []byte) (any, error) {
	v, err := c.decode(data)
	if err != nil {
		return nil, err
	}
	return v, nil
}

func typeName[T any]() string {
	return fmt.Sprintf("%T", (*T)(nil))[1:]
}
