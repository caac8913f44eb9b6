package cachevalue

import (
	"context"
	"errors"
	"time"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/sleep"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Keys opens the values of one namespace under the first of several keys that does.
type Keys []*box.Box

// NewKeys returns Keys for a namespace, "" for none. It skips nil keys.
func NewKeys(namespace string, keys ...tink.AEADWithContext) (Keys, error) {
	var all Keys
	for _, a := range keys {
		if nilcheck.IsNil(a) {
			continue
		}
		b, err := box.New(a, wire.CacheValue, namespace)
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, nil
}

const (
	// attempts is how often a key service that does not answer is asked again. If each failure repeated the whole batch,
	// a batch with many values would never succeed with a key service that fails now and then.
	attempts = 4
	pause    = 20 * time.Millisecond
	// turns is how often a value is opened again whose data key was rejected (aead.ErrTooManyDataKeys): for about a
	// minute. While planted values use up the calls of an Envelope, it rejects nine data keys for each that it unwraps.
	turns     = 128
	mostPause = 500 * time.Millisecond
)

// Open opens a value whose header has n bytes, and returns the index of the key that opened it. If lastFirst, it tries
// the last key first, to save the call to a key service that would refuse the value. An outage of any key is an outage,
// unless another key opens the value. All keys are asked again as Ask says.
func (k Keys) Open(ctx context.Context, lastFirst bool, key string, stored []byte, n int) (plaintext []byte, index int, err error) {
	err = Ask(ctx, func(ctx context.Context) (err error) {
		plaintext, index, err = k.openOnce(ctx, lastFirst, key, stored, n)
		return err
	})
	return plaintext, index, err
}

func (k Keys) openOnce(ctx context.Context, lastFirst bool, key string, stored []byte, n int) (plaintext []byte, index int, err error) {
	var worst error
	for i := range k {
		if lastFirst {
			i = len(k) - 1 - i
		}
		plaintext, err := k[i].Open(ctx, stored, n, false, key)
		if err == nil {
			return plaintext, i, nil
		}
		if worst == nil || weight(err) > weight(worst) {
			worst = err
		}
	}
	return nil, -1, worst
}

// weight orders errors of several keys by how much they say about a value.
func weight(err error) int {
	var key *aead.KeyError
	switch {
	case !box.Refused(err): // another try may open the value
		return 3
	case !errors.Is(err, aead.ErrUnknownKey):
		return 2
	case errors.As(err, &key) && key.Status != keyset.Unknown: // the key is given, and disabled or destroyed
		return 1
	default:
		return 0
	}
}

// Ask calls do again, a few times while the key service fails, and for about a minute while the data key is rejected.
// It returns the last error.
func Ask(ctx context.Context, do func(ctx context.Context) error) error {
	failures, turnedAway := 0, 0
	for wait := pause; ; {
		err := do(ctx)
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case errors.Is(err, aead.ErrTooManyDataKeys):
			if turnedAway++; turnedAway == turns {
				return err
			}
			wait = min(2*wait, mostPause)
		case errors.Is(err, aead.ErrKeyServiceUnavailable):
			if failures++; failures == attempts {
				return err
			}
			wait = pause
		default:
			return err
		}
		_ = sleep.For(ctx, wait) // an ended ctx makes the next call the last one
	}
}

// Header reads the header of a sealed cache value. ok is false for any other value, and for a format that this release does
// not know.
func Header(b []byte) (h wire.Header, n int, ok bool) {
	h, n, err := wire.Parse(b)
	return h, n, err == nil && h.Kind == wire.CacheValue
}

// Plausible reports whether the bytes after a header may be a ciphertext. A ciphertext that names no key is random, so
// text there is plaintext behind a planted header. A ciphertext is never shorter than nonce and tag.
func Plausible(ct []byte, size int64) bool {
	const least = 12 + 16
	if size < least {
		return false
	}
	if k := wire.KeyOf(ct); k.HasID || k.Envelope() {
		return true
	}
	for _, c := range ct {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' || c > '~' {
			return true
		}
	}
	return false
}
