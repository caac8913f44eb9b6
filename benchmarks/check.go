package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/middleware"
)

var errAnotherValue = errors.New("the store returned another value than the one that was set")

// roundTrip checks that a store returns the value that it was given. It runs before anything is timed.
func roundTrip(ctx context.Context, s store.StoreInterface, key any, value []byte) error {
	if err := s.Set(ctx, key, value); err != nil {
		return err
	}
	got, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	if fmt.Sprintf("%s", got) != string(value) { // bytes or a string
		return errAnotherValue
	}
	return nil
}

// lengthOf returns the length of a value from a store, and -1 for a value of an unexpected type.
func lengthOf(got any) int {
	switch got := got.(type) {
	case []byte:
		return len(got)
	case string:
		return len(got)
	default:
		return -1
	}
}

// checkSealed checks that the stored value is sealed.
func checkSealed(stored, value []byte) error {
	if _, err := middleware.Inspect(stored); err != nil {
		return fmt.Errorf("the stored value is not sealed, although this benchmark seals it: %w", err)
	}
	if len(value) >= 16 && bytes.Contains(stored, value[:16]) {
		return errors.New("the stored value contains its plaintext, although this benchmark seals it")
	}
	return nil
}

// checkPlaintext checks that the stored value is plaintext.
func checkPlaintext(stored, value []byte) error {
	if !bytes.Equal(stored, value) {
		return errors.New("the stored value is not plaintext, although this benchmark does not seal it")
	}
	return nil
}
