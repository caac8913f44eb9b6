package middleware

import (
	"context"
	"iter"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

// What a Store looks for in the store that it wraps, beyond gocache's
// interface. A store offers a capability by having the methods; it need not
// import this package. All methods must be safe for concurrent use.

// BytesStore is a backing store that speaks bytes and does not hold on to
// them, so that values are sealed into reused buffers and opened in place.
type BytesStore interface {
	// GetBytes returns the stored bytes as the caller's own: the caller may
	// write to them. A missing entry is gocache's store.NotFound.
	GetBytes(ctx context.Context, key string) ([]byte, error)
	// GetBytesWithTTL also returns the time left to the millisecond, 0 for no
	// expiry, read in the same round trip.
	GetBytesWithTTL(ctx context.Context, key string) ([]byte, time.Duration, error)
	// SetBytes is Set for bytes. It has done with value when it returns.
	SetBytes(ctx context.Context, key string, value []byte, opts ...store.Option) error
}

// Swapper is a backing store that can replace a value atomically.
type Swapper interface {
	// CompareAndSwap writes new if what is stored is as long as old and ends
	// with the last tail bytes of old, and tells whether it did. A tail of 0, or
	// one not shorter than old, compares all of it. A negative ttl keeps the
	// entry's expiry, 0 removes it. An absent entry is (false, nil).
	CompareAndSwap(ctx context.Context, key string, old []byte, tail int, new []byte, ttl time.Duration) (bool, error)
}

// Defaulter is a backing store that applies options of its own before those of
// a call. A swap passes no options, so the decorator must know them: an entry
// that a swap writes anew expires as one that Set writes.
type Defaulter interface {
	// Defaults returns the options that Set starts from, as the caller's own.
	Defaults() store.Options
}

// Enumerator is a backing store that can list its entries.
type Enumerator interface {
	// Keys streams the names of the entries that start with prefix, taken
	// literally. An entry present throughout is named at least once. The
	// sequence ends after the first error.
	Keys(ctx context.Context, prefix string) iter.Seq2[string, error]
	// ClearPrefix deletes the entries that start with prefix, and the tags that
	// start with it, and nothing else.
	ClearPrefix(ctx context.Context, prefix string) error
}

// Pinger is a backing store that can be asked whether it answers.
type Pinger interface {
	Ping(ctx context.Context) error
}
