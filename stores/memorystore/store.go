package memorystore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/maypok86/otter/v2"

	"github.com/sealcache/sealcache/internal/options"
	"github.com/sealcache/sealcache/stores/internal/storeargs"
)

const (
	// DefaultMaxBytes is the budget without [WithMaxBytes]: 64 MiB.
	DefaultMaxBytes = 64 << 20

	// noExpiration is the TTL that go-redis reports for an entry without expiration.
	noExpiration = time.Duration(-1)
)

var (
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("memorystore: the store was closed and cannot be used")

	// ErrTooLarge is returned for an entry that is larger than the whole budget. To raise the budget, use WithMaxBytes,
	// or max_bytes in the URL.
	ErrTooLarge = errors.New("memorystore: the entry alone is larger than the store's limit (raise WithMaxBytes or max_bytes)")
)

// Store is a gocache store in memory. [New] and [Open] return one. It must not be copied.
type Store struct {
	cache    *otter.Cache[string, *entry]
	tags     tagIndex
	defaults store.Options
	maxBytes int64
	budget   budget
	closed   atomic.Bool
}

var (
	_ store.StoreInterface      = (*Store)(nil)
	_ store.SetIfNotExistsStore = (*Store)(nil)
)

// Option configures a store in [New].
type Option func(*config) error

type config struct {
	maxBytes int64
	defaults []store.Option
}

// WithMaxBytes sets the limit of the store in bytes. The default is [DefaultMaxBytes]. The limit must be at least 257, the
// size of an entry with one byte.
//
// The size of an entry is the length of key and value plus 256 bytes. Each tag adds its length plus 128 bytes. Set returns
// ErrTooLarge for an entry that is larger than the limit of the whole store.
func WithMaxBytes(n int64) Option {
	return func(c *config) error {
		if n < smallestEntry {
			return fmt.Errorf("memorystore: WithMaxBytes(%d): the limit must be at least %d, the size of the smallest entry", n, smallestEntry)
		}
		c.maxBytes = n
		return nil
	}
}

// WithDefaults sets the options of every write that does not set them itself, as the options of gocache's
// constructors do.
func WithDefaults(opts ...store.Option) Option {
	return func(c *config) error {
		c.defaults = append(c.defaults, opts...)
		return nil
	}
}

// New returns an empty store.
func New(opts ...Option) (*Store, error) {
	c := config{maxBytes: DefaultMaxBytes}
	if err := options.Apply("memorystore: New: ", opts, func(o Option) error { return o(&c) }); err != nil {
		return nil, err
	}
	s := &Store{maxBytes: c.maxBytes, budget: newBudget(c.maxBytes)}
	if err := storeargs.Apply(&s.defaults, c.defaults); err != nil {
		return nil, fmt.Errorf("memorystore: %w", err)
	}
	s.defaults.Tags = slices.Clone(s.defaults.Tags)
	if _, err := lifetime(s.defaults.Expiration); err != nil {
		return nil, err
	}
	cache, err := otter.New(&otter.Options[string, *entry]{
		MaximumWeight:    s.budget.maximum,
		Weigher:          func(key string, e *entry) uint32 { return uint32(s.budget.units(e.weight(key))) },
		ExpiryCalculator: otter.ExpiryWritingFunc(expireAfter),
		OnAtomicDeletion: func(d otter.DeletionEvent[string, *entry]) {
			if d.Cause != otter.CauseReplacement {
				s.tags.unlink(d.Key, d.Value)
			}
		},
		// The call that writes also evicts. This keeps the memory near the budget, however fast the writers are, and
		// no goroutine outlives Close. No function that otter calls under its locks calls the cache.
		Executor: func(run func()) { run() },
	})
	if err != nil {
		return nil, fmt.Errorf("memorystore: New: %w", err)
	}
	s.cache = cache
	return s, nil
}

// Close stops the store's goroutine and releases its entries. Every later call returns [ErrClosed]. A second Close returns
// nil.
func (s *Store) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		return nil
	}
	s.cache.StopAllGoroutines()
	s.cache.InvalidateAll()
	return nil
}

// Ping returns nil if the store can be used, and otherwise [ErrClosed] or ctx's error.
func (s *Store) Ping(ctx context.Context) error { return s.usable(ctx) }

// Defaults returns the options that Set starts from.
func (s *Store) Defaults() store.Options {
	o := s.defaults
	o.Tags = slices.Clone(o.Tags)
	return o
}

// Capabilities names what the store can do beyond gocache's interface, for package middleware.
func (s *Store) Capabilities() (owner any, names []string) {
	return s, []string{
		"AtomicStore", "BatchStore", "BoundedReader", "BytesStore", "Defaulter", "Enumerator", "Pinger", "PrefixInvalidator",
		"SetIfNotExistsStore", "Swapper", "TagKeeper", "TTLSetter",
	}
}

// GetType returns "memory".
func (s *Store) GetType() string { return "memory" }

// Len returns the number of entries, including expired ones that are not yet freed.
func (s *Store) Len() int { return s.cache.EstimatedSize() }

// Bytes returns how much of the budget the entries use. It is exact for budgets under 4 GiB and rounded up above.
func (s *Store) Bytes() int64 { return s.budget.bytes(s.cache.WeightedSize()) }

// MaxBytes returns the budget.
func (s *Store) MaxBytes() int64 { return s.maxBytes }

// String describes the store without its entries, so that printing a store shows no value.
func (s *Store) String() string { return fmt.Sprintf("memorystore.Store(%d bytes)", s.maxBytes) }

// GoString is String: %#v shows no value either.
func (s *Store) GoString() string { return s.String() }

// LogValue is String: a logger shows no value either.
func (s *Store) LogValue() slog.Value { return slog.StringValue(s.String()) }

func (s *Store) usable(ctx context.Context) error {
	if s.closed.Load() {
		return ErrClosed
	}
	return ctx.Err()
}

// lifetime returns the expiration of an option, 0 for none.
func lifetime(d time.Duration) (time.Duration, error) {
	switch {
	case d == noExpiration:
		return 0, nil
	case d < 0:
		return 0, fmt.Errorf("memorystore: the expiration %v is negative (use 0 for no expiration)", d)
	}
	return d, nil
}

// budget counts in units, because otter's weights have 32 bits. A unit is one byte if the budget is under 4 GiB.
type budget struct {
	shift   uint
	maximum uint64
}

func newBudget(maxBytes int64) budget {
	var b budget
	for uint64(maxBytes)>>b.shift > math.MaxUint32 {
		b.shift++
	}
	b.maximum = uint64(maxBytes) >> b.shift
	return b
}

// units rounds up, so that no entry is free and the sum is never too low.
func (b budget) units(bytes int64) uint64 {
	return (uint64(bytes) + 1<<b.shift - 1) >> b.shift
}

func (b budget) bytes(units uint64) int64 { return int64(units << b.shift) }

func (b budget) holds(bytes int64) bool { return b.units(bytes) <= b.maximum }
