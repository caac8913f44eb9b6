package middleware

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// The errors of a Store and a Sealer, for errors.Is. A missing or expired entry
// is gocache's store.NotFound, as from any gocache store:
//
//	if errors.Is(err, store.NotFound{}) { ... }
//
// Errors of ctx and of the backing store pass through errors.Is and errors.As.
// The text of an error never shows a value, a key name or key material.
var (
	// ErrNotSealed means that the store holds plaintext in place of a sealed value. Another application writes to
	// this key, or the data has not been migrated: see WithPlaintext.
	ErrNotSealed = wire.ErrNotSealed

	// ErrUnauthentic means that the value was altered, or was sealed for another key name, namespace or purpose, or
	// under another key with the same id. The error hides on purpose which of these happened.
	ErrUnauthentic = aead.ErrUnauthentic

	// ErrUnknownKey means that the value was sealed under a key that the keyset in use does not hold, or by an AEAD
	// of another kind. The text names key ids, which are not secret.
	ErrUnknownKey = aead.ErrUnknownKey

	// ErrKeyServiceUnavailable means that the key service did not answer, or that the AEAD failed without a reason.
	// The value may be sound. Try again later. An AEAD marks a refusal with ErrUnauthentic or ErrUnknownKey;
	// aead.WithContext does so for a local AEAD of Tink.
	ErrKeyServiceUnavailable = aead.ErrKeyServiceUnavailable

	// ErrTooManyDataKeys means that an Envelope read too many unknown data keys at one time, and did not ask
	// the key service for this one. An attacker may have planted values. The value may be sound. Try again
	// later.
	ErrTooManyDataKeys = aead.ErrTooManyDataKeys

	// ErrStoreUnavailable means that the backing store did not answer Check or Ping, or answered with an
	// error. The text continues with the reason.
	ErrStoreUnavailable = errors.New("sealcache: the backing store cannot be used")

	// ErrUnsupportedFormat means that the value has a version or features that this release does not know, or that it
	// ends within its header.
	ErrUnsupportedFormat = wire.ErrUnsupportedFormat

	// ErrUnsupportedType means that the store does not accept the Go type of a value or a key. It also means that
	// a stored value needs a codec that the store does not have. The text names the type. WithCodec adds a codec.
	ErrUnsupportedType = errors.New("sealcache: unsupported type")

	// ErrUnsupported means that the backing store lacks the capability that the operation needs. It wraps gocache's
	// store.ErrNotSupported. Over Redis, make a store with redisstore.New, and give it to New directly.
	ErrUnsupported error = unsupported{}

	// ErrTooLarge means that a value is larger than WithMaxValueBytes allows.
	ErrTooLarge = wire.ErrTooLarge

	// ErrNotANumber means that Increment found a value that is not an integer. The value is unchanged.
	ErrNotANumber = errors.New("sealcache: increment: not an integer")

	// ErrOverflow means that the result of Increment would not fit the type of the stored integer, or an int64. The
	// value is unchanged.
	ErrOverflow = errors.New("sealcache: increment: integer overflow")

	// ErrConflict means that an atomic operation gave up, because other clients changed the entry during each of its
	// 100 attempts. The operation changed nothing. Fewer clients should write to one entry, or they should do so with
	// Increment, which combines the calls of a process.
	ErrConflict = errors.New("sealcache: nothing was changed, because other clients kept changing the entry")
)

var (
	// errDecode marks an opened value that its codec cannot read.
	errDecode = errors.New("sealcache: the codec cannot decode the decrypted value")
	// errEncode marks a value that its codec cannot write.
	errEncode = errors.New("sealcache: the codec cannot encode the value")
	// errExpiration marks an invalid expiration.
	errExpiration = errors.New("middleware: the expiration is negative (use 0 for no expiration)")
	// errOtherName marks a value that was sealed for another key. Its name is hidden but the names of this Store are not,
	// or the reverse, or another key is sealed in it.
	errOtherName = fmt.Errorf("%w: the value was sealed for another cache key", ErrUnauthentic)
	// errPlaintextRefused is allocated once, so that an attacker who plants
	// plaintext values causes no extra work.
	errPlaintextRefused = fmt.Errorf("%w: another application may have written it (see WithPlaintext)", ErrNotSealed)
	// errClearWithoutNamespace is the error of Clear with WithoutClear.
	errClearWithoutNamespace = fmt.Errorf("%w: Clear would empty the whole store (set WithNamespace)", ErrUnsupported)
)

type unsupported struct{}

func (unsupported) Error() string { return "sealcache: not supported" }
func (unsupported) Unwrap() error { return store.ErrNotSupported }

// unreadable reports whether err is about the stored value, and not about a key
// service, a connection, the caller's context or the caller's own mistake.
func unreadable(err error) bool {
	var mistake *nameError
	if errors.As(err, &mistake) {
		return false
	}
	if errors.Is(err, ErrTooManyDataKeys) {
		return true
	}
	if errors.Is(err, ErrUnauthentic) || errors.Is(err, ErrUnknownKey) {
		return box.Refused(err)
	}
	for _, target := range [...]error{ErrNotSealed, ErrUnsupportedFormat, ErrUnsupportedType, ErrTooLarge, errDecode} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// Refused reports whether an error is a definite answer about a stored value. The value is plaintext, it was altered or
// moved, or its key is disabled or destroyed. A key that the keyset does not list is not definite, because another process
// may have loaded it first. With WithMissOnOpenFailure, atomic operations treat exactly these values as absent.
//
// ErrUnsupportedFormat and ErrTooLarge are not definite, unlike in jobs.Permanent: a process with a newer release or a larger
// limit can read such a value, which must not be overwritten.
func Refused(err error) bool {
	return box.Final(err) || errors.Is(err, ErrNotSealed) && !errors.Is(err, ErrKeyServiceUnavailable)
}

// nameError is the error of an invalid key.
type nameError struct {
	text  string
	cause error
}

func (e *nameError) Error() string { return e.text }
func (e *nameError) Unwrap() error { return e.cause }

// typeError is the error of a value whose Go type the store does not take.
type typeError struct{ name, reason string }

func (e *typeError) Error() string {
	return fmt.Sprintf("%v: %s: %s", ErrUnsupportedType, e.name, e.reason)
}
func (e *typeError) Unwrap() error { return ErrUnsupportedType }

// codecError hides the text of a codec's error, which may quote the value.
type codecError struct {
	kind   error // errDecode or errEncode
	format wire.Type
	cause  error
}

func (e *codecError) Error() string {
	return fmt.Sprintf("%v as %s (the codec's error is not shown, because it may quote the value)", e.kind, e.format)
}
func (e *codecError) Unwrap() []error { return []error{e.kind, e.cause} }

// isMiss reports whether err is gocache's answer for an absent entry.
func isMiss(err error) bool { return errors.Is(err, store.NotFound{}) }

// miss returns the error for an absent entry.
func miss(cause error) error {
	if _, ok := cause.(*store.NotFound); ok { //nolint:errorlint // the very type, not what it wraps
		return cause
	}
	return store.NotFoundWithCause(cause)
}

// withheld replaces the text of a backing store's error, which may show a key
// name or a value. errors.Is and errors.As still see the error.
type withheld struct {
	text  string
	cause error
}

func (e *withheld) Error() string { return e.text }
func (e *withheld) Unwrap() error { return e.cause }

// backingError returns an error of the backing store in the form that callers
// may see.
func (s *Store) backingError(err error) error {
	if err != nil && !isMiss(err) && isTooLarge(err) {
		return fmt.Errorf("%w: it has more than %d bytes (raise WithMaxValueBytes)", ErrTooLarge, s.sealer.maxBytes)
	}
	return s.traits.backingError(s.backing, err)
}

func (t traits) backingError(backing store.StoreInterface, err error) error {
	switch {
	case err == nil:
		return nil
	case isMiss(err):
		return miss(err)
	case t.missText != "" && errtext.Text(err) == t.missText:
		return store.NotFoundWithCause(err)
	case t.needsExpiry && rediserr.InvalidExpire(err):
		return &withheld{fmt.Sprintf("middleware: the %s store needs an expiration (WithDefaults sets one)", backing.GetType()), err}
	case t.quotes:
		return &withheld{fmt.Sprintf("middleware: the %s store failed: %s", backing.GetType(), causeOf(err)), err}
	default:
		return rediserr.Wrap(err)
	}
}

// isTooLarge reports whether a BoundedReader refused a value.
func isTooLarge(err error) bool {
	var large interface{ TooLarge() bool }
	return errors.As(err, &large) && large.TooLarge()
}

// causeOf names the cause of an error whose text may quote a key or a value.
func causeOf(err error) string {
	var network net.Error
	text := errtext.Text(err)
	for _, c := range [...]struct{ end, cause string }{
		{"malformed: key is too long or contains invalid characters", "the key is too long or contains invalid characters"},
		{"The key is larger than 65535", "the key is too long"},
		{"object too large for cache", "the value is too large"},
		{`object too large for cache\r\n"`, "the value is too large"},
		{"The entry size is larger than 1/1024 of cache size", "the value is too large"},
		{"memcache: no servers configured or available", "no server is available"},
		{"memcache: server error", "the server reported an error"},
	} {
		if strings.HasSuffix(text, c.end) {
			return c.cause
		}
	}
	if errors.As(err, &network) {
		if network.Timeout() {
			return "the server did not answer in time"
		}
		return "the server is unreachable"
	}
	return "its error text is not shown, because it may contain keys and values"
}

// deleteError is backingError for Delete, which treats an absent entry as success.
func (s *Store) deleteError(err error) error {
	if err != nil && s.traits.deleteFails {
		return nil
	}
	if err = s.backingError(err); isMiss(err) {
		return nil
	}
	return err
}

func (s *Store) unsupported(what string) error {
	return fmt.Errorf("%w: %T cannot %s (use package redisstore)", ErrUnsupported, s.backing, what)
}
