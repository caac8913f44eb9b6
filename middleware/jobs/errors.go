package jobs

import (
	"context"
	"errors"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// The errors of an Encryptor, for errors.Is; they are the same values as those of
// packages middleware and aead. Errors of ctx come through as they are. No
// error's text holds a payload, a name or key material.
var (
	// ErrNotSealed: clear bytes where sealed ones were expected. Someone who has
	// no key writes to this queue, or it has not been migrated yet.
	ErrNotSealed = wire.ErrNotSealed

	// ErrUnauthentic: altered, moved from another job, queue, type or kind, bound
	// to less than was asked for, or sealed under another key. These are not told
	// apart on purpose.
	ErrUnauthentic = aead.ErrUnauthentic

	// ErrUnknownKey: well formed, but sealed under a key that the keyset in use
	// does not hold, or holds as disabled or destroyed (see Permanent).
	ErrUnknownKey = aead.ErrUnknownKey

	// ErrKeyServiceUnavailable: the key service did not answer. The value may be
	// sound: try again later.
	ErrKeyServiceUnavailable = aead.ErrKeyServiceUnavailable

	// ErrTooManyDataKeys: too many unknown data keys were read at one time, as
	// planted jobs cause. Neither an outage nor a refusal: try again later.
	ErrTooManyDataKeys = aead.ErrTooManyDataKeys

	// ErrUnsupportedFormat: sealed in a version or with features that this
	// release does not know, or cut off.
	ErrUnsupportedFormat = wire.ErrUnsupportedFormat

	// ErrTooLarge: larger than WithMaxPayloadBytes allows, before sealing or
	// after decompressing.
	ErrTooLarge = wire.ErrTooLarge

	// ErrNoPRF: what was asked for needs a keyed pseudorandom function, and the
	// Encryptor was made without WithPRF.
	ErrNoPRF = errors.New("jobs: needs a PRF keyset: make the encryptor with jobs.WithPRF")
)

// Permanent tells whether an error of Open is a definite answer about these
// bytes: opening them again, here or on another worker, will give it again. Such
// a job should be parked where someone looks at it, and not be retried.
//
// A key that the keyset lists as disabled or destroyed is a decision, and so
// permanent. A key that the keyset does not list is not: another process may have
// had the new keyset first.
func Permanent(err error) bool {
	return box.Final(err) || !errors.Is(err, ErrKeyServiceUnavailable) && !errors.Is(err, ErrUnauthentic) &&
		(errors.Is(err, ErrNotSealed) || errors.Is(err, ErrUnsupportedFormat) || errors.Is(err, ErrTooLarge))
}

// outcome names a result for metrics and logs.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrTooManyDataKeys):
		return "too_many_data_keys"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "canceled"
	case errors.Is(err, ErrKeyServiceUnavailable):
		return "key_service_unavailable"
	case errors.Is(err, ErrNotSealed):
		return "not_sealed"
	case errors.Is(err, ErrUnknownKey):
		return "unknown_key"
	case errors.Is(err, ErrUnauthentic):
		return "unauthentic"
	case errors.Is(err, ErrUnsupportedFormat):
		return "unsupported_format"
	case errors.Is(err, ErrTooLarge):
		return "too_large"
	default:
		return "error"
	}
}
