package memorystore

import (
	"encoding"
	"fmt"
	"net"
	"reflect"
	"strings"

	"github.com/sealcache/sealcache/internal/redistext"
)

// entryOf copies value into an entry (see prepare), in the form in which go-redis would send it.
func entryOf(value any) (*entry, error) {
	switch v := value.(type) {
	case []byte:
		return &entry{data: string(v)}, nil
	case string:
		return &entry{data: strings.Clone(v), text: true}, nil
	}
	text, ok, err := redisText(value)
	if err != nil {
		return nil, &marshalError{kind: fmt.Sprintf("%T", value), cause: err}
	}
	if !ok {
		return nil, fmt.Errorf("memorystore: set: values of type %T are not supported (use []byte, string or a BinaryMarshaler)", value)
	}
	return &entry{data: text, text: true}, nil
}

// marshalError is the error of a BinaryMarshaler. Its text is withheld, because it may quote the value.
type marshalError struct {
	kind  string
	cause error
}

func (e *marshalError) Error() string {
	return "memorystore: set: MarshalBinary of " + e.kind + " failed"
}
func (e *marshalError) Unwrap() error { return e.cause }

// redisText formats a value as go-redis does (internal/proto/writer.go, WriteArg), for the same types and in the same order
// of precedence.
func redisText(value any) (text string, ok bool, err error) {
	if value == nil {
		return "", true, nil
	}
	if text, ok := redistext.Of(value); ok {
		return text, true, nil
	}
	if p := reflect.ValueOf(value); p.Kind() == reflect.Pointer {
		elem := reflect.Zero(p.Type().Elem())
		if !p.IsNil() {
			elem = p.Elem()
		}
		// A nil pointer is sent as the zero value of its type.
		if text, ok := redistext.Of(elem.Interface()); ok {
			return strings.Clone(text), true, nil
		}
		if p.IsNil() {
			return "", false, nil // MarshalBinary may not expect one
		}
	}
	switch v := value.(type) {
	case encoding.BinaryMarshaler:
		b, err := v.MarshalBinary()
		return string(b), err == nil, err
	case net.IP:
		return string(v), true, nil
	}
	return "", false, nil
}
