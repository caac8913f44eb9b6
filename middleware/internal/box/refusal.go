package box

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Refused reports whether the key was asked about a value and refused it.
func Refused(err error) bool {
	return (errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrUnknownKey)) && !Undecided(err)
}

// NotGiven reports whether the value with the key k was refused because k is not among the given keys. A key that the keyset
// lists as disabled or destroyed is given.
func NotGiven(err error, k wire.Key) bool {
	if !k.HasID || !Refused(err) || !errors.Is(err, aead.ErrUnknownKey) {
		return false
	}
	var named *aead.KeyError
	if errors.As(err, &named) {
		return named.Status == keyset.Unknown && named.KeyID == k.ID // a Keyring takes the length of a wrapped key for an id
	}
	return k.Envelope() // the KEK is of another kind
}

// Outcome names the result of sealing or opening for metrics and logs: "ok", or the reason of a known error. It is empty for
// other errors. If the key service is down and a context has ended, the outage counts: it may be the reason why the context
// ended.
func Outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, aead.ErrTooManyDataKeys):
		return "too_many_data_keys"
	case unasked(err):
		return "canceled"
	case errors.Is(err, aead.ErrKeyServiceUnavailable):
		return "key_service_unavailable"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "canceled"
	case errors.Is(err, aead.ErrKeyExhausted):
		return "key_exhausted"
	case errors.Is(err, aead.ErrClosed):
		return "closed"
	case errors.Is(err, wire.ErrNotSealed):
		return "not_sealed"
	case errors.Is(err, aead.ErrUnknownKey):
		return "unknown_key"
	case errors.Is(err, aead.ErrUnauthentic):
		return "unauthentic"
	case errors.Is(err, wire.ErrUnsupportedFormat):
		return "unsupported_format"
	case errors.Is(err, wire.ErrTooLarge):
		return "too_large"
	default:
		return ""
	}
}

// Final reports whether a refusal will not change: the value does not authenticate, or its key is disabled or destroyed.
// A key that the keyset does not list is not final, because another process may have loaded it first.
func Final(err error) bool {
	if !Refused(err) {
		return false
	}
	if !errors.Is(err, aead.ErrUnknownKey) {
		return true
	}
	var k *aead.KeyError
	return errors.As(err, &k) && (k.Status == keyset.Disabled || k.Status == keyset.Destroyed)
}

// Undecided reports whether an error, anywhere in its chain, means that the key gave no answer. Errors of the network and of
// a context count after every call.
func Undecided(err error) bool {
	for _, target := range [...]error{aead.ErrKeyServiceUnavailable, aead.ErrTooManyDataKeys, aead.ErrClosed, aead.ErrKeyExhausted} {
		if errors.Is(err, target) {
			return true
		}
	}
	return interrupted(err)
}

// interrupted reports whether a call failed on the network or with its context. Not even a marked error is then a refusal.
func interrupted(err error) bool {
	var network net.Error
	return ended(err) || errors.As(err, &network)
}

// ended reports whether a context has ended.
func ended(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// notAsked reports whether the context of a call ended before an AEAD of package aead asked a key. The error then has no
// other meaning.
func notAsked(err error) bool {
	return ended(err) && !errors.Is(err, aead.ErrKeyServiceUnavailable) && !errors.Is(err, aead.ErrUnauthentic) && !errors.Is(err, aead.ErrUnknownKey)
}

// unasked reports whether the error says that no key was asked.
func unasked(err error) bool {
	var o *outageError
	return errors.As(err, &o) && o.unasked
}

// explain gives an AEAD's error one of the meanings of package aead.
func explain(err error) error {
	var http interface{ HTTPStatusCode() int }
	switch {
	case errors.Is(err, aead.ErrTooManyDataKeys), errors.Is(err, aead.ErrKeyServiceUnavailable), errors.Is(err, aead.ErrClosed), errors.Is(err, aead.ErrKeyExhausted):
		return err
	case interrupted(err):
		return &outageError{cause: err}
	case errors.Is(err, aead.ErrUnauthentic), errors.Is(err, aead.ErrUnknownKey):
		return err
	case errors.As(err, &http), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &outageError{cause: err}
	default:
		return &unmarkedError{outageError{cause: err}}
	}
}

// outageError is the failure of an AEAD whose key could not be asked. It is never a refusal to errors.Is, even if its
// cause claims to be one.
type outageError struct {
	cause   error
	unasked bool // the context ended before the AEAD asked a key
}

func (e *outageError) Error() string {
	return aead.ErrKeyServiceUnavailable.Error() + ": " + e.reason()
}

// reason is the text of the cause without the prefix of package aead, because the text of ErrKeyServiceUnavailable has it.
func (e *outageError) reason() string { return strings.TrimPrefix(errtext.Text(e.cause), "aead: ") }

// Is makes the causes visible, except refusals.
func (e *outageError) Is(target error) bool {
	return target == aead.ErrKeyServiceUnavailable ||
		target != aead.ErrUnauthentic && target != aead.ErrUnknownKey && errors.Is(e.cause, target)
}

// As makes the causes visible.
func (e *outageError) As(target any) bool { return errors.As(e.cause, target) }

// unmarkedError is the failure of an AEAD whose error does not show whether it refused the value.
type unmarkedError struct{ outageError }

func (e *unmarkedError) Error() string {
	return aead.ErrKeyServiceUnavailable.Error() + ": the AEAD returned an error of unknown kind (pass an AEAD in memory through aead.WithContext): " + e.reason()
}
