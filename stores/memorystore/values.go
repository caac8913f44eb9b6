package memorystore

import (
	"encoding"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"strings"
	"time"
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
	if text, ok := scalarText(value); ok {
		return text, true, nil
	}
	if p := reflect.ValueOf(value); p.Kind() == reflect.Pointer {
		elem := reflect.Zero(p.Type().Elem())
		if !p.IsNil() {
			elem = p.Elem()
		}
		// A nil pointer is sent as the zero value of its type.
		if text, ok := scalarText(elem.Interface()); ok {
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

func scalarText(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case int:
		return strconv.Itoa(v), true
	case int8:
		return strconv.FormatInt(int64(v), 10), true
	case int16:
		return strconv.FormatInt(int64(v), 10), true
	case int32:
		return strconv.FormatInt(int64(v), 10), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case uint:
		return strconv.FormatUint(uint64(v), 10), true
	case uint8:
		return strconv.FormatUint(uint64(v), 10), true
	case uint16:
		return strconv.FormatUint(uint64(v), 10), true
	case uint32:
		return strconv.FormatUint(uint64(v), 10), true
	case uint64:
		return strconv.FormatUint(v, 10), true
	case uintptr:
		return strconv.FormatUint(uint64(v), 10), true
	case float32:
		return strconv.FormatFloat(float64(v), 'f', -1, 64), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case bool:
		if v {
			return "1", true
		}
		return "0", true
	case time.Time:
		return v.Format(time.RFC3339Nano), true
	case time.Duration:
		return strconv.FormatInt(v.Nanoseconds(), 10), true
	}
	return "", false
}
