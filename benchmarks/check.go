package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/middleware"
)

var errAnotherValue = errors.New("another value came back than was set")

// roundTrip makes sure that a store gives back what it was given. The value must be there before anything is timed.
func roundTrip(ctx context.Context, s store.StoreInterface, key any, value []byte) error {
	if err := s.Set(ctx, key, value); err != nil {
		return err
	}
	got, err := s.Get(ctx, key)
	if err != nil {
		return err
	}
	switch got := got.(type) {
	case []byte:
		if bytes.Equal(got, value) {
			return nil
		}
	case string:
		if got == string(value) {
			return nil
		}
	}
	return errAnotherValue
}

// lengthOf is the length of what a store gave back, -1 of what it cannot be.
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

// checkSealed makes sure that the stored value is sealed.
func checkSealed(stored, value []byte) error {
	if _, err := middleware.Inspect(stored); err != nil {
		return fmt.Errorf("the value that should be sealed is not: %w", err)
	}
	if len(value) >= 16 && bytes.Contains(stored, value[:16]) {
		return errors.New("the value that should be sealed is readable")
	}
	return nil
}

// checkPlaintext makes sure that the other side is not sealed.
func checkPlaintext(stored, value []byte) error {
	if !bytes.Equal(stored, value) {
		return errors.New("the value that should be in plaintext is not")
	}
	return nil
}
