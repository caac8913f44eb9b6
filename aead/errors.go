package aead

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/errtext"
)

var (
	// ErrUnauthentic means that a ciphertext did not authenticate. It was altered or cut, belongs to other associated
	// data, or was sealed under another key. The error hides on purpose which of these happened. The answer is
	// definite: opening the same bytes again gives it again.
	ErrUnauthentic = errors.New("aead: the ciphertext is not authentic")

	// ErrUnknownKey means that a ciphertext was sealed under a key that is not available. Either it names a key that the
	// keyset does not hold, or that is disabled or destroyed: a Keyring then returns a *KeyError. Or it has the format of
	// another AEAD. If the keyset was changed, reload it: another process may have loaded the new one first.
	ErrUnknownKey = errors.New("aead: the ciphertext was sealed under a key that is not available")

	// ErrKeyServiceUnavailable means that a data key could not be wrapped or unwrapped, although the key-encryption key did not
	// refuse it. The cause may be an outage, a timeout, a missing permission, a wrong setting, or an answer that is not a data
	// key. The value may be sound. If the text names a setting or a file, correct it. Otherwise try again later.
	ErrKeyServiceUnavailable = errors.New("aead: the key cannot be used now")

	// ErrTooManyDataKeys means that an unknown data key was turned away. Too many data keys wait for the key service, or too
	// many were unwrapped under which no value opened. This is the sign of planted values. It is neither an outage nor a refusal:
	// a later attempt may open the value.
	ErrTooManyDataKeys = errors.New("aead: open: too many values wait for the key service to decrypt their data keys (try again later)")

	// ErrKeyExhausted means that a key has sealed as many messages as is safe with random 96-bit nonces (2^32, NIST SP
	// 800-38D). Make a new primary key, or use an Envelope, which makes its own.
	ErrKeyExhausted = errors.New("aead: seal: the primary key has sealed as many messages as is safe")

	// ErrUnknownTenant means that the function of WithTenants knows no tenant of this id. Nothing is sealed or opened for it.
	ErrUnknownTenant = errors.New("aead: unknown tenant id: the function given to WithTenants returned no key-encryption key")

	// ErrClosed means that the Keyring or Envelope was used after Close.
	ErrClosed = errors.New("aead: the key is closed and cannot be used")
)

// errOtherForm is the refusal of a ciphertext that another AEAD may have written, such as an Envelope before a Keyring took
// its place. It is allocated once, so that planted values cause no extra work.
var errOtherForm = fmt.Errorf("%w: the ciphertext has another format than this key writes, so another kind of key sealed it", ErrUnknownKey)

// errNotOpened is the refusal of an AEAD that did not open a ciphertext, and cannot tell why. It is allocated once, as
// errOtherForm is.
var errNotOpened = fmt.Errorf("%w: altered, copied from elsewhere, or sealed under another key", ErrUnauthentic)

// leastCiphertext is the length of an authentication tag. No AEAD writes fewer bytes, so shorter ones were cut.
const leastCiphertext = 16

// KeyError names the key that a ciphertext needs, and why it is not available. It is ErrUnknownKey to errors.Is.
type KeyError struct {
	// KeyID is the id that the ciphertext names.
	KeyID uint32
	// Status is keyset.Disabled or keyset.Destroyed if the keyset lists the key as such. Waiting does not change that. It is
	// keyset.Unknown if the keyset does not list the key.
	Status keyset.KeyStatus
	// Present lists the ids of the keys that can open values, primary first.
	Present []uint32
}

// Error names the key and those present. Key ids are public: every ciphertext begins with one.
func (e *KeyError) Error() string {
	return "aead: the ciphertext was sealed under " + e.keyIn("the keyset")
}

// keyIn names the key, and why it is not available in the keyset that is described.
func (e *KeyError) keyIn(described string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "key %d, which ", e.KeyID)
	switch e.Status {
	case keyset.Disabled:
		b.WriteString("is disabled in ")
	case keyset.Destroyed:
		b.WriteString("is destroyed in ")
	default:
		b.WriteString("is not in ")
	}
	b.WriteString(described + " (enabled keys: ")
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

// isRefusal reports whether err is a definite refusal of these bytes by a key-encryption key. An outage, and a caller whose
// context ended, say nothing about the value. Only a refusal is remembered.
func isRefusal(err error) bool {
	return (errors.Is(err, ErrUnauthentic) || errors.Is(err, ErrUnknownKey)) &&
		!errors.Is(err, ErrKeyServiceUnavailable) && !errors.Is(err, ErrTooManyDataKeys) && !errors.Is(err, ErrClosed) &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// These are the actions in the errors of a key-encryption key.
const (
	unwrapDataKey = "decrypt the data key"
	wrapDataKey   = "encrypt a new data key"
	testDataKey   = "test a new data key"
	testContext   = "test the wrap context (WithWrapContext)"
	encryptKeyset = "encrypt the new keyset"
	decryptKeyset = "decrypt the keyset"
)

// kekError turns an error of a key-encryption key into what callers see. A refusal stays one; any other error is an outage.
func kekError(action string, err error) error {
	switch {
	case isRefusal(err), errors.Is(err, ErrUnknownTenant):
		return within("cannot "+action, err)
	case errors.Is(err, ErrKeyServiceUnavailable):
		return within("cannot "+action, withoutRefusal(err))
	default:
		return unavailable("cannot "+action, withoutRefusal(err))
	}
}

// unavailable makes an error ErrKeyServiceUnavailable, and puts an action before its text.
func unavailable(action string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrKeyServiceUnavailable, action, withoutPrefix(err))
}

// keysetError turns an error of the key-encryption key of a keyset into what callers see. If the KEK is a keyset, too, the text
// tells the two apart. It does not do so for a KEKSet, because a KeyError lists only the keys of one member.
func keysetError(kek tink.AEADWithContext, err error) error {
	var k *KeyError
	if _, set := kek.(*KEKSet); !set && isRefusal(err) && errors.As(err, &k) {
		return &shortError{"aead: cannot " + decryptKeyset + ": it is encrypted under " + k.keyIn("the given KEK"), err}
	}
	return kekError(decryptKeyset, err)
}

// within puts an action before the text of an error, and the prefix of this package before both.
func within(action string, err error) error {
	return fmt.Errorf("aead: %s: %w", action, withoutPrefix(err))
}

// withoutPrefix removes the prefix of this package from the text of an error that becomes a part of another error.
func withoutPrefix(err error) error {
	return &shortError{strings.TrimPrefix(errtext.Text(err), "aead: "), err}
}

// shortError is an error with another text.
type shortError struct {
	text string
	err  error
}

func (e *shortError) Error() string { return e.text }
func (e *shortError) Unwrap() error { return e.err }

// withoutRefusal hides that the error of an outage also claims to be a refusal.
func withoutRefusal(err error) error {
	if errors.Is(err, ErrUnauthentic) || errors.Is(err, ErrUnknownKey) {
		return &outageError{err}
	}
	return err
}

// outageError is the error of a KEK that was not asked or did not answer. errors.Is finds all of it but a refusal.
type outageError struct{ err error }

func (e *outageError) Error() string { return errtext.Text(e.err) }

func (e *outageError) Is(target error) bool {
	return target != ErrUnauthentic && target != ErrUnknownKey && errors.Is(e.err, target)
}

func (e *outageError) As(target any) bool {
	if _, refusal := target.(**KeyError); refusal {
		return false
	}
	return errors.As(e.err, target)
}
