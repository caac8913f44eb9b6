package fxmodule

import (
	"errors"
	"fmt"

	"github.com/sealcache/sealcache/middleware"
)

// ErrNoCache reports that the Config has no cache of that name or kind.
var ErrNoCache = errors.New("fxmodule: no suitable cache")

var (
	errNoStore            = errors.New("the cache has no store (set \"store\" to the URL of a store)")
	errStoreWithDecorator = errors.New("fxmodule.Decorator needs a cache \"default\" without \"store\" (add the cache, or remove its \"store\")")
	errNoEncryptor        = errors.New("fxmodule: jobs have no keys, because cache \"default\" is missing or unsealed (set \"jobs.keys_of\")")
)

// Part is the part of a cache or of the jobs that failed.
type Part string

const (
	// PartNone means that nothing failed.
	PartNone Part = "ok"
	// PartKeys means that the keys could not be opened, or do not seal or open.
	PartKeys Part = "keys"
	// PartProbe means that a sealed probe did not open to its plaintext.
	PartProbe Part = "probe"
	// PartStore means that the store could not be opened, or does not answer.
	PartStore Part = "store"
)

// CacheError reports which part of a cache failed: while the graph was built, at start or in a health check. Several
// may be joined.
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

// JobsError reports which part of the jobs failed: PartKeys and PartProbe are their encryptor, PartStore is their Redis.
type JobsError struct {
	Part Part
	Err  error
}

// Error names the part and the cause.
func (e *JobsError) Error() string { return fmt.Sprintf("fxmodule: jobs: %s: %v", e.Part, e.Err) }

// Unwrap returns the cause.
func (e *JobsError) Unwrap() error { return e.Err }

// partOf returns the part that an error of a check is about.
func partOf(err error) Part {
	switch {
	case errors.Is(err, middleware.ErrStoreUnavailable):
		return PartStore
	case middleware.KeysFailed(err):
		return PartKeys
	default:
		return PartProbe
	}
}
