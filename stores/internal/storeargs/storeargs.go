// Package storeargs checks the arguments that gocache passes to the methods of a store. [Apply] applies options, and refuses a
// nil option. [Tags] returns the tags in the options of Invalidate. [Key] returns a key, which must be a string. [Marshal]
// encodes a value with its method MarshalBinary.
//
// The errors do not name the store, so the store must add its name.
package storeargs

import (
	"encoding"
	"errors"
	"fmt"

	"github.com/eko/gocache/lib/v4/store"
)

// Apply is gocache's store.ApplyOptions with an error for a nil option, on which that panics.
func Apply(o *store.Options, options []store.Option) error {
	for _, option := range options {
		if option == nil {
			return errors.New("a store option that the caller gave is nil")
		}
		option(o)
	}
	return nil
}

// Tags returns the tags of an invalidation.
func Tags(options []store.InvalidateOption) ([]string, error) {
	var o store.InvalidateOptions
	for _, option := range options {
		if option == nil {
			return nil, errors.New("an invalidation option that the caller gave is nil")
		}
		option(&o)
	}
	return o.Tags, nil
}

// Key returns a cache key, which must be a string.
func Key(key any) (string, error) {
	name, ok := key.(string)
	if !ok {
		return "", fmt.Errorf("the cache key has the type %T and is not a string", key)
	}
	return name, nil
}

// Marshal calls MarshalBinary. The error does not show the text of its cause, which may quote the value.
func Marshal(value encoding.BinaryMarshaler) ([]byte, error) {
	b, err := value.MarshalBinary()
	if err != nil {
		return nil, &marshalError{kind: fmt.Sprintf("%T", value), cause: err}
	}
	return b, nil
}

type marshalError struct {
	kind  string
	cause error
}

func (e *marshalError) Error() string { return "MarshalBinary of " + e.kind + " failed" }

func (e *marshalError) Unwrap() error { return e.cause }

// Unsupported returns the error for a value of a type that a store cannot write.
func Unsupported(value any) error {
	return fmt.Errorf("values of type %T are not supported (use []byte, string or a BinaryMarshaler)", value)
}
