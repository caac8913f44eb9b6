package middleware

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/internal/capability"
)

// CapableStore is a backing store that declares what it can do beyond gocache's
// interface. New calls Capabilities once. owner is the store itself, and names
// are those of the interfaces below that it implements, such as "Swapper". A
// store need not import this package. All methods must be safe for concurrent
// use.
//
// New uses only the capabilities that are listed, and only if owner is the same
// pointer as the backing store. If a type embeds a store and overrides Set, it
// inherits Capabilities, whose owner is the inner store: using them would bypass
// the override. To keep some, such a type declares Capabilities itself, with literal
// names: a later release of the inner store may have more. New logs once what it
// ignores.
//
// A store without Capabilities has none. The exception is SetIfNotExists of the
// stores of gocache that docs/stores.md lists. New uses it if the type of the backing store is
// declared in a package of gocache.
type CapableStore interface {
	Capabilities() (owner any, names []string)
}

// BytesStore is a backing store that takes and returns bytes and does not
// keep them. A Store over it seals values into reused buffers and opens them
// in place.
type BytesStore interface {
	// GetBytes returns the stored bytes. The caller may change them. A
	// missing entry is gocache's store.NotFound.
	GetBytes(ctx context.Context, key string) ([]byte, error)
	// GetBytesWithTTL also returns the time left to the millisecond, 0 for no
	// expiry, read in the same round trip.
	GetBytesWithTTL(ctx context.Context, key string) ([]byte, time.Duration, error)
	// SetBytes is Set for bytes. When SetBytes returns nil, the store no longer
	// uses value. After an error the store may still read value, for instance in a
	// batch that is already on its way. So the caller must not use the buffer
	// again.
	SetBytes(ctx context.Context, key string, value []byte, opts ...store.Option) error
}

// TTLSetter is a BytesStore that takes a TTL without options, which saves time and
// memory. It heeds no option of gocache other than the expiration and the tags. The
// store must list BytesStore as well. If it is also a Defaulter, Set uses the method
// too.
type TTLSetter interface {
	// SetBytesWithTTL is BytesStore's SetBytes for an entry that lives for ttl, 0
	// for no expiry. It adds no tags. Former tags of the entry stay, as with Set. The
	// default options of the store do not count.
	SetBytesWithTTL(ctx context.Context, key string, value []byte, ttl time.Duration) error
}

// BoundedReader is a backing store that can refuse a large value before it reads
// it. An attacker who plants huge values then costs neither memory nor network.
type BoundedReader interface {
	// GetBytesMax is BytesStore's GetBytes for values of at most limit bytes. A
	// larger value is an error with a method TooLarge() bool that returns true.
	GetBytesMax(ctx context.Context, key string, limit int) ([]byte, error)
	// GetBytesWithTTLMax is GetBytesMax with the time left, as GetBytesWithTTL.
	GetBytesWithTTLMax(ctx context.Context, key string, limit int) ([]byte, time.Duration, error)
}

// Swapper is a backing store that can replace a value atomically.
type Swapper interface {
	// CompareAndSwap writes new if the stored value is as long as old and ends
	// with the last tail bytes of old. It reports whether it wrote. A tail of
	// 0, or one not shorter than old, compares all of it. A negative ttl keeps
	// the entry's expiry, 0 removes it. An absent entry is (false, nil).
	CompareAndSwap(ctx context.Context, key string, old []byte, tail int, new []byte, ttl time.Duration) (bool, error)
}

// AtomicStore is a Swapper that can also set or delete an entry, or change its
// expiry, if it has not changed. With SetIfNotExists it serves Increment, Update,
// Touch and GetAndDelete.
type AtomicStore interface {
	// GetBytesToSwap is GetBytesWithTTLMax for a value that CompareAndSwap will
	// replace. It reads where CompareAndSwap writes, never from a replica or a
	// cache. A limit of math.MaxInt means no limit.
	GetBytesToSwap(ctx context.Context, key string, limit int) ([]byte, time.Duration, error)
	// CompareAndSet is Set with its options, tags included, if CompareAndSwap would
	// replace the value. It reports whether it wrote.
	CompareAndSet(ctx context.Context, key string, old []byte, tail int, new []byte, opts ...store.Option) (bool, error)
	// CompareAndExpire sets the time that the entry has left, 0 for no expiry, if
	// CompareAndSwap would replace the value. It reports whether it set the time.
	// The value and the tags stay.
	CompareAndExpire(ctx context.Context, key string, old []byte, tail int, ttl time.Duration) (bool, error)
	// CompareAndDelete deletes the entry if CompareAndSwap would replace the value.
	// It reports whether it deleted the entry.
	CompareAndDelete(ctx context.Context, key string, old []byte, tail int) (bool, error)
}

// TagExtender is a backing store whose tags expire by themselves.
type TagExtender interface {
	// ExtendTags makes the tags of an entry live as long as if Set had written the
	// entry with this ttl, 0 for no expiry. A Store calls it before a swap that
	// changes the expiry.
	ExtendTags(ctx context.Context, key string, tags []string, ttl time.Duration) error
}

// BatchStore is a backing store that takes many keys in one round trip. Each
// method returns an error for each key, in the order of keys, or nil if no key
// failed. It bounds what it sends and keeps in memory at one time.
type BatchStore interface {
	// GetBytesMany returns the stored bytes, nil for an absent entry. The caller
	// may change them. A value of more than limit bytes is an error with a method
	// TooLarge() bool that returns true. A limit of math.MaxInt means no limit.
	GetBytesMany(ctx context.Context, keys []string, limit int) (values [][]byte, errs []error)
	// SetBytesMany is Set for each key, with the same options. If no key failed,
	// the store no longer uses values. After an error it may still read them, as
	// with SetBytes.
	SetBytesMany(ctx context.Context, keys []string, values [][]byte, opts ...store.Option) (errs []error)
	// DeleteMany is Delete for each key. An absent entry is not an error.
	DeleteMany(ctx context.Context, keys []string) (errs []error)
}

// Defaulter is a backing store that applies its own options before those of a call.
// A swap passes no options. So the Store must know the defaults, to give an entry
// that it swaps the expiry that Set would give it.
type Defaulter interface {
	// Defaults returns the options that Set starts from. The caller may change them.
	Defaults() store.Options
}

// Enumerator is a backing store that can list its entries.
type Enumerator interface {
	// Keys streams the names of the entries that start with prefix, taken
	// literally. It names an entry that exists during the whole call at least
	// once. The sequence ends after the first error.
	Keys(ctx context.Context, prefix string) iter.Seq2[string, error]
	// ClearPrefix deletes only the entries and tags that start with prefix.
	ClearPrefix(ctx context.Context, prefix string) error
}

// PrefixInvalidator is a backing store that can restrict Invalidate to one namespace.
type PrefixInvalidator interface {
	// InvalidatePrefix is Invalidate that deletes only entries whose names start
	// with prefix. So an attacker who can write to the set of a tag cannot make
	// the application delete entries outside its namespace.
	InvalidatePrefix(ctx context.Context, prefix string, options ...store.InvalidateOption) error
}

// Pinger is a backing store that can be asked whether it answers.
type Pinger interface {
	Ping(ctx context.Context) error
}

// Adviser is a backing store that finds settings of its server that endanger the
// store's promises.
type Adviser interface {
	// Advice returns a text for each such setting, without data. Check calls it
	// until it succeeds once, and logs the texts. An error means that the server
	// could not be asked.
	Advice(ctx context.Context) ([]string, error)
}

// Counter is a backing store that counts what it does.
type Counter interface {
	// Counts returns the current numbers by name. A Store with a meter
	// provider reports these:
	//
	//	batches       pipelines in which calls of concurrent callers were combined
	//	combined      calls in such pipelines
	//	waiting       calls that wait for their pipeline now
	//	near_hits     reads that were served from memory
	//	near_misses   reads that were not
	//	near_bytes    memory that is in use for these reads now
	Counts() map[string]int64
}

// TagKeeper is a backing store that knows whether its server keeps tags.
type TagKeeper interface {
	// KeepsTags reports whether the settings of the server keep each tag as long as
	// the entries that carry it. An error means that the settings are not known.
	KeepsTags(ctx context.Context) (bool, error)
}

// capabilities lists what a Store uses beyond gocache's interface. A field is nil
// if the store does not offer it.
type capabilities struct {
	bytes     BytesStore
	ttlSetter TTLSetter
	bounded   BoundedReader
	swapper   Swapper
	atomic    AtomicStore
	extender  TagExtender
	batch     BatchStore
	defaulter Defaulter
	lister    Enumerator
	scoped    PrefixInvalidator
	pinger    Pinger
	adviser   Adviser
	counter   Counter
	tags      TagKeeper
	setNX     store.SetIfNotExistsStore

	unlisted    []string // implemented, but not declared for this store
	unfulfilled []string // declared, but not implemented or not known
}

func capabilitiesOf(backing store.StoreInterface) capabilities {
	listed := capability.Listed(backing)
	c := capabilities{unfulfilled: slices.Clone(listed)}
	use(&c, backing, listed, "BytesStore", &c.bytes)
	use(&c, backing, listed, "TTLSetter", &c.ttlSetter)
	if c.ttlSetter != nil && c.bytes == nil {
		c.ttlSetter = nil
		c.unfulfilled = append(c.unfulfilled, "TTLSetter (needs BytesStore)")
	}
	use(&c, backing, listed, "BoundedReader", &c.bounded)
	use(&c, backing, listed, "Swapper", &c.swapper)
	use(&c, backing, listed, "AtomicStore", &c.atomic)
	use(&c, backing, listed, "TagExtender", &c.extender)
	use(&c, backing, listed, "BatchStore", &c.batch)
	use(&c, backing, listed, "Defaulter", &c.defaulter)
	use(&c, backing, listed, "Enumerator", &c.lister)
	use(&c, backing, listed, "PrefixInvalidator", &c.scoped)
	use(&c, backing, listed, "Pinger", &c.pinger)
	use(&c, backing, listed, "Adviser", &c.adviser)
	use(&c, backing, listed, "Counter", &c.counter)
	use(&c, backing, listed, "TagKeeper", &c.tags)
	use(&c, backing, listed, "SetIfNotExistsStore", &c.setNX)
	return c
}

// use sets the field of a capability that is both listed and implemented.
func use[T any](c *capabilities, backing store.StoreInterface, listed []string, name string, field *T) {
	capable, ok := backing.(T)
	switch {
	case !ok:
	case slices.Contains(listed, name):
		*field = capable
		c.unfulfilled = slices.DeleteFunc(c.unfulfilled, func(n string) bool { return n == name })
	default:
		c.unlisted = append(c.unlisted, name)
	}
}

// logIgnored logs capabilities that the backing store seems to offer and that the
// Store does not use.
func (c *capabilities) logIgnored(log *slog.Logger) {
	if len(c.unlisted) > 0 {
		log.Warn("sealcache: capabilities of the store are ignored (list them in a Capabilities method of its type)", "capabilities", c.unlisted)
	}
	if len(c.unfulfilled) > 0 {
		log.Warn("sealcache: listed capabilities of the store are ignored: it lacks their methods, or they are unknown", "capabilities", c.unfulfilled)
	}
}
