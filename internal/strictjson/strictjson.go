// Package strictjson decodes stored JSON, and returns an error if the JSON has a field that the Go type lacks: call
// [Unmarshal]. A newer release may have written such a field, and its meaning is unknown here.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// Unmarshal decodes one JSON value. It refuses members that v does not have, and anything after the value.
func Unmarshal(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the JSON value is followed by more data")
	}
	return nil
}
