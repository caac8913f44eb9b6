package memorystore

import (
	"encoding"
	"fmt"
	"net"
	"reflect"
	"strings"

	"github.com/sealcache/sealcache/internal/redistext"
	"github.com/sealcache/sealcache/stores/internal/storeargs"
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
	if err == nil && !ok {
		err = storeargs.Unsupported(value)
	}
	if err != nil {
		return nil, fmt.Errorf("memorystore: set: %w", err)
	}
	return &entry{data: text, text: true}, nil
}

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
		b, err := storeargs.Marshal(v)
		return string(b), err == nil, err
	case net.IP:
		return string(v), true, nil
	}
	return "", false, nil
}
