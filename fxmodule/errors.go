package fxmodule

import (
	"errors"
	"fmt"

	"github.com/sealcache/sealcache/aead"
)

// ErrNoCache says that the Config has no cache of the name that was asked for, or none of the kind.
var ErrNoCache = errors.New("fxmodule: no such cache")

// Part is the part of a cache that failed.
type Part string

const (
	// PartKeys: the keys could not be opened, or do not seal or open.
	PartKeys Part = "keys"
	// PartProbe: what the keys sealed was not what it should be.
	PartProbe Part = "probe"
	// PartStore: the store could not be opened, or does not answer.
	PartStore Part = "store"
)

// CacheError says which cache failed, and which part of it: when the graph was built, at start, or in a health check.
// errors.As finds it, errors.Is its cause. Several may be joined.
type CacheError struct {
	Cache string // its name
	Part  Part
	Err   error
}

// Error names the cache, the part and the cause.
func (e *CacheError) Error() string {
	return fmt.Sprintf("fxmodule: cache %q: %s: %v", e.Cache, e.Part, e.Err)
}

// Unwrap returns the cause.
func (e *CacheError) Unwrap() error { return e.Err }

// partOf tells a failed probe from keys that cannot be used.
func partOf(err error) Part {
	for _, keys := range []error{
		aead.ErrKeyServiceUnavailable, aead.ErrUnknownKey, aead.ErrUnauthentic, aead.ErrKeyExhausted, aead.ErrClosed,
	} {
		if errors.Is(err, keys) {
			return PartKeys
		}
	}
	return PartProbe
}
