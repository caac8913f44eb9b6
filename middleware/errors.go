package middleware

import (
	"context"
	"errors"
	"fmt"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// The errors of a Store, for errors.Is. A missing or expired entry is none of
// them but gocache's store.NotFound, as from any gocache store:
//
//	if errors.Is(err, store.NotFound{}) { ... }
//
// Errors of ctx and of the backing store come through errors.Is and errors.As
// as they are. No error's text holds a value, a key name or key material.
var (
	// ErrNotSealed: what the store holds is in clear, where a sealed value was
	// expected. Someone else writes to this key, or the data has not been
	// migrated: see WithPlaintext.
	ErrNotSealed = wire.ErrNotSealed

	// ErrUnauthentic: the value was altered, or was sealed for another key,
	// namespace or purpose, or under another key with the same id. These are
	// not told apart on purpose.
	ErrUnauthentic = aead.ErrUnauthentic

	// ErrUnknownKey: well formed, but sealed under a key that the keyset in use
	// does not hold (or no longer). The text names key ids, which are no
	// secret.
	ErrUnknownKey = aead.ErrUnknownKey

	// ErrKeyServiceUnavailable: the key service that holds the key-encryption
	// key did not answer. The value may be sound: try again later.
	ErrKeyServiceUnavailable = aead.ErrKeyServiceUnavailable

	// ErrTooManyDataKeys: too many unknown data keys were read at one time, as
	// planted values cause. Neither an outage nor a refusal: try again later.
	ErrTooManyDataKeys = aead.ErrTooManyDataKeys

	// ErrUnsupportedFormat: sealed in a version or with features that this
	// release does not know, or cut off within its header.
	ErrUnsupportedFormat = wire.ErrUnsupportedFormat

	// ErrUnsupportedType: a value (or a cache key) of a Go type that the store
	// cannot take, or a stored value whose codec the store does not have. The
	// text names the type.
	ErrUnsupportedType = errors.New("sealcache: unsupported type")

	// ErrUnsupported: the backing store cannot do what was asked. It wraps
	// gocache's store.ErrNotSupported.
	ErrUnsupported error = unsupported{}

	// ErrTooLarge: the value is larger than WithMaxValueBytes allows.
	ErrTooLarge = wire.ErrTooLarge
)

// errClearWithoutNamespace is the answer of Clear under WithoutClear.
var errClearWithoutNamespace = fmt.Errorf("%w: Clear needs a namespace, or it would empty the whole store", ErrUnsupported)

type unsupported struct{}

func (unsupported) Error() string { return "sealcache: " + store.ErrNotSupported.Error() }
func (unsupported) Unwrap() error { return store.ErrNotSupported }

// unreadable tells whether err is about the stored value itself rather than
// about a key service, a connection or the caller's context.
func unreadable(err error) bool {
	var caller *keyError
	if errors.As(err, &caller) {
		return false
	}
	for _, target := range [...]error{ErrNotSealed, ErrUnauthentic, ErrUnknownKey, ErrUnsupportedFormat, ErrUnsupportedType, errDecode} {
		if errors.Is(err, target) {
			return !errors.Is(err, ErrKeyServiceUnavailable)
		}
	}
	return false
}

// keyError says that a cache key is of a type that no store takes.
type keyError struct{ key any }

func (e *keyError) Error() string {
	return fmt.Sprintf("%v: a key of type %T: keys are strings (cache.New makes them so)", ErrUnsupportedType, e.key)
}
func (e *keyError) Unwrap() error { return ErrUnsupportedType }

// errDecode marks a value that opened, but that its codec could not read.
var errDecode = errors.New("sealcache: codec cannot read the opened value")

// isMiss tells whether err is gocache's way to say that there is no entry.
func isMiss(err error) bool { return errors.Is(err, store.NotFound{}) }

// miss returns the error for an absent entry.
func miss(cause error) error {
	if _, ok := cause.(*store.NotFound); ok { //nolint:errorlint // the very type, not what it wraps
		return cause
	}
	return store.NotFoundWithCause(cause)
}

// redacted hides the text of a backing store's error that would name a key or
// show a value; errors.Is and errors.As still see it.
type redacted struct {
	store string
	cause error
}

func (e *redacted) Error() string {
	return fmt.Sprintf("middleware: the %s store refused the operation (its own text is withheld: it may name keys and values)", e.store)
}
func (e *redacted) Unwrap() error { return e.cause }

// shortened shows the part of a backing store's error that repeats nothing of
// what the store was given.
type shortened struct {
	text  string
	cause error
}

func (e *shortened) Error() string { return e.text }
func (e *shortened) Unwrap() error { return e.cause }

// outcome names the result of an operation for metrics and logs.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrTooManyDataKeys):
		return "too_many_data_keys"
	case errors.Is(err, ErrKeyServiceUnavailable): // also where the caller's patience ended first
		return "key_service_unavailable"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "canceled"
	case errors.Is(err, aead.ErrKeyExhausted):
		return "key_exhausted"
	case errors.Is(err, aead.ErrClosed):
		return "closed"
	case errors.Is(err, ErrNotSealed):
		return "not_sealed"
	case errors.Is(err, ErrUnknownKey):
		return "unknown_key"
	case errors.Is(err, ErrUnauthentic):
		return "unauthentic"
	case errors.Is(err, ErrUnsupportedFormat):
		return "unsupported_format"
	case errors.Is(err, ErrUnsupportedType):
		return "unsupported_type"
	case errors.Is(err, errDecode):
		return "codec"
	case errors.Is(err, ErrTooLarge):
		return "too_large"
	case errors.Is(err, store.ErrNotSupported):
		return "unsupported"
	case isMiss(err):
		return "miss"
	default:
		return "store_error"
	}
}
