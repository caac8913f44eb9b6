package jobs

import (
	"cmp"
	"errors"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// The errors of an Encryptor, for errors.Is. They are the same values as in packages
// middleware and aead. Errors of ctx pass through. The text of an error never shows a
// payload, a name or key material.
var (
	// ErrNotSealed means that bytes are plaintext instead of a sealed value. A process without the
	// key writes to this queue, or the queue has not been migrated.
	ErrNotSealed = wire.ErrNotSealed

	// ErrUnauthentic means that a value was altered, or moved from another job, queue, type or
	// kind. Or the value is not bound to all names in the Meta, or was sealed under another key.
	// The error hides on purpose which of these happened.
	ErrUnauthentic = aead.ErrUnauthentic

	// ErrUnknownKey means that the keyset in use does not hold the key of a value, or
	// holds it as disabled or destroyed (see Permanent). It also means that an AEAD
	// of another kind sealed the value.
	ErrUnknownKey = aead.ErrUnknownKey

	// ErrKeyServiceUnavailable means that the key service did not answer, or that the AEAD failed
	// without a reason. The value may be sound. Try again later.
	ErrKeyServiceUnavailable = aead.ErrKeyServiceUnavailable

	// ErrTooManyDataKeys means that too many unknown data keys were read at one time,
	// a sign of planted jobs. The value may be sound. Try again later.
	ErrTooManyDataKeys = aead.ErrTooManyDataKeys

	// ErrUnsupportedFormat means that a value has a version or features that this
	// release does not know, or that it ends too early.
	ErrUnsupportedFormat = wire.ErrUnsupportedFormat

	// ErrTooLarge means that a value is larger than WithMaxPayloadBytes allows,
	// before sealing or after decompression.
	ErrTooLarge = wire.ErrTooLarge

	// ErrNoPRF means that tokens need a keyed pseudorandom function (PRF), and that the Encryptor
	// has none. Give NewEncryptor the option WithPRF.
	ErrNoPRF = errors.New("jobs: the Encryptor has no PRF keyset (set jobs.WithPRF)")
)

// Permanent reports whether an error of Open is a definite answer about these bytes. Opening them
// again, here or on another worker, returns the same error. Archive such a job where an operator
// sees it, and do not retry it.
//
// A key that the keyset lists as disabled or destroyed is permanent. A key that the
// keyset does not list is not, because another process may have loaded it first.
//
// ErrUnsupportedFormat and ErrTooLarge are permanent, unlike in middleware.Refused: an
// archived job is kept, and an operator can run it again.
func Permanent(err error) bool {
	return box.Final(err) || !errors.Is(err, ErrKeyServiceUnavailable) && !errors.Is(err, ErrUnauthentic) &&
		(errors.Is(err, ErrNotSealed) || errors.Is(err, ErrUnsupportedFormat) || errors.Is(err, ErrTooLarge))
}

// outcome names a result for metrics and logs.
func outcome(err error) string { return cmp.Or(box.Outcome(err), "error") }
