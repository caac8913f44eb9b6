package aead

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tink-crypto/tink-go/v2/keyset"
)

var (
	// ErrUnauthentic says that a ciphertext did not authenticate: it was altered or cut, belongs to other associated
	// data, or was sealed under another key. These are not told apart on purpose. It is a definite answer: opening the
	// same bytes again gives it again.
	ErrUnauthentic = errors.New("aead: does not authenticate: altered, moved, or sealed under another key")

	// ErrUnknownKey says that a ciphertext names a key that the keyset does not hold, or no longer allows to be used.
	// The error is a *KeyError. If the keyset was changed, reload it: another process may have had the new one first.
	ErrUnknownKey = errors.New("aead: sealed under a key that is not available in the keyset")

	// ErrKeyServiceUnavailable says that a data key could be neither wrapped nor unwrapped because the key-encryption
	// key did not answer, or answered with something other than a refusal of these bytes: an outage, a timeout,
	// missing permissions. The value may be perfectly good; try again later.
	ErrKeyServiceUnavailable = errors.New("aead: key service unavailable")

	// ErrTooManyDataKeys says that the gate turned an unknown data key away: too many data keys wait for the key service,
	// or too many of them opened no value of late. This is the sign of planted values. It is neither an outage nor a
	// refusal of the value: a later attempt may open it.
	ErrTooManyDataKeys = errors.New("aead: too many unknown data keys")

	// ErrKeyExhausted says that a key has sealed as many messages as is safe with random 96-bit nonces (2^32, NIST SP
	// 800-38D). Make a new primary key, or use an Envelope, which does so by itself.
	ErrKeyExhausted = errors.New("aead: key has sealed as many messages as is safe; rotate it, or use an Envelope")

	// ErrClosed says that the Keyring or Envelope was used after Close.
	ErrClosed = errors.New("aead: used after Close")
)

// KeyError says which key a ciphertext needs and why it cannot be had. It is ErrUnknownKey to errors.Is.
type KeyError struct {
	// KeyID is the id that the ciphertext names.
	KeyID uint32
	// Status is keyset.Disabled or keyset.Destroyed if the keyset lists the key as such: a decision that waiting will
	// not change. It is keyset.Unknown if the keyset does not list the key at all.
	Status keyset.KeyStatus
	// Present lists the ids of the keys that can open values, primary first.
	Present []uint32
}

// Error names the key and those present. Key ids are no secret: every ciphertext begins with one.
func (e *KeyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "aead: sealed under key %d, which ", e.KeyID)
	switch e.Status {
	case keyset.Disabled:
		b.WriteString("is disabled in the keyset")
	case keyset.Destroyed:
		b.WriteString("is destroyed in the keyset")
	default:
		b.WriteString("is not in the keyset")
	}
	b.WriteString(" (it can use ")
	const most = 16
	for i, id := range e.Present {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(e.Present)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.FormatUint(uint64(id), 10))
	}
	b.WriteString(")")
	return b.String()
}

// Unwrap makes errors.Is(err, ErrUnknownKey) true.
func (e *KeyError) Unwrap() error { return ErrUnknownKey }

// isRefusal tells whether err is a definite no from a key-encryption key about these bytes, as opposed to an outage or
// a caller that gave up. Only a refusal may be remembered, and only a refusal says anything about the value.
func isRefusal(err error) bool {
	return (errors.Is(err, ErrUnauthentic) || errors.Is(err, ErrUnknownKey)) &&
		!errors.Is(err, ErrKeyServiceUnavailable) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// kekError turns an error of a key-encryption key into what callers see: a refusal stays one, all else is an outage.
func kekError(doing string, err error) error {
	switch {
	case isRefusal(err):
		return fmt.Errorf("aead: %s: %w", doing, err)
	case errors.Is(err, ErrKeyServiceUnavailable):
		return fmt.Errorf("%s: %w", doing, err)
	default:
		return fmt.Errorf("%w: %s: %w", ErrKeyServiceUnavailable, doing, err)
	}
}
