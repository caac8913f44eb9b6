package memorystore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/maypok86/otter/v2"

	"github.com/sealcache/sealcache/stores/internal/storeargs"
)

// Get returns the value of key, as a string or as a []byte that the caller owns (see [Store.Set]). If there is no
// entry, the error is store.NotFound.
func (s *Store) Get(ctx context.Context, key any) (any, error) {
	value, _, err := s.GetWithTTL(ctx, key)
	return value, err
}

// GetWithTTL is [Store.Get] with the time that the entry has left, 0 for no expiration.
func (s *Store) GetWithTTL(ctx context.Context, key any) (any, time.Duration, error) {
	name, err := storeargs.Key(key)
	if err != nil {
		return nil, 0, fmt.Errorf("memorystore: %w", err)
	}
	e, ttl, err := s.lookUp(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	return e.value(), ttl, nil
}

// GetBytes returns the bytes of key's value in a slice that the caller owns.
func (s *Store) GetBytes(ctx context.Context, key string) ([]byte, error) {
	b, _, err := s.GetBytesWithTTL(ctx, key)
	return b, err
}

// GetBytesWithTTL is [Store.GetBytes] with the time that the entry has left, 0 for no expiration.
func (s *Store) GetBytesWithTTL(ctx context.Context, key string) ([]byte, time.Duration, error) {
	e, ttl, err := s.lookUp(ctx, key)
	if err != nil {
		return nil, 0, err
	}
	return []byte(e.data), ttl, nil
}

// GetBytesMax is [Store.GetBytes] for a value of at most limit bytes. A larger one is an error whose method TooLarge returns
// true.
func (s *Store) GetBytesMax(ctx context.Context, key string, limit int) ([]byte, error) {
	b, _, err := s.GetBytesWithTTLMax(ctx, key, limit)
	return b, err
}

// GetBytesWithTTLMax is [Store.GetBytesMax] with the time that the entry has left, 0 for no expiration.
func (s *Store) GetBytesWithTTLMax(ctx context.Context, key string, limit int) ([]byte, time.Duration, error) {
	e, ttl, err := s.lookUp(ctx, key)
	if err != nil {
		return nil, 0, err
	}
	if len(e.data) > limit {
		return nil, 0, overLimit{}
	}
	return []byte(e.data), ttl, nil
}

// overLimit is the error of a bounded read.
type overLimit struct{}

func (overLimit) Error() string {
	return "memorystore: get: the value is larger than the maximum size that the caller gave"
}
func (overLimit) TooLarge() bool { return true }

func (s *Store) lookUp(ctx context.Context, key string) (*entry, time.Duration, error) {
	if err := s.usable(ctx); err != nil {
		return nil, 0, err
	}
	found, ok := s.cache.GetEntry(key)
	if !ok {
		return nil, 0, store.NotFoundWithCause(nil)
	}
	// The TTL belongs to the value itself: otter may return a value that is being replaced, with the new deadline.
	return found.Value, found.Value.remaining(found.SnapshotAtNano), nil
}

// Set stores a copy of value under key and replaces an earlier one. Of gocache's options it uses expiration and tags. Cost
// is ignored: the size of the entry counts. Writes are always synchronous.
//
// A []byte comes back as []byte and a string as string. Other values come back as the string that Redis would return:
//
//   - Numbers are decimal. true is "1" and false is "0". nil is the empty string.
//   - A [time.Time] is RFC 3339. A [time.Duration] is its number of nanoseconds.
//   - An [encoding.BinaryMarshaler] is its bytes.
//
// For any other type, Set returns an error.
//
// An entry that is written again keeps its former tags, as in gocache's Redis store. The store keeps at most 256 former
// tags of an entry. When an entry is deleted, its tags are deleted too. The store ignores gocache's option WithTagsTTL.
// gocache's Chain writes entries into its upper levels without tags. If such an entry has no former tags, Invalidate does not
// find it.
func (s *Store) Set(ctx context.Context, key, value any, options ...store.Option) error {
	name, next, err := s.prepare(ctx, key, value, options)
	if err != nil {
		return err
	}
	s.write(name, next)
	return nil
}

// write stores an entry in place of any other.
func (s *Store) write(name string, next *entry) {
	s.cache.Compute(name, func(old *entry, _ bool) (*entry, otter.ComputeOp) {
		s.tags.link(name, old, next, s.room(name, next))
		return next, otter.WriteOp
	})
}

// SetBytes is [Store.Set] for bytes. When it returns, it has copied value.
func (s *Store) SetBytes(ctx context.Context, key string, value []byte, options ...store.Option) error {
	return s.Set(ctx, key, value, options...)
}

// SetBytesWithTTL is SetBytes for an entry that lives for ttl, 0 for no expiry. It adds no tags. Former tags of the entry stay, as
// with Set. The default options of the store do not count.
func (s *Store) SetBytesWithTTL(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	next, err := s.newEntry(key, value, ttl, nil)
	if err != nil {
		return err
	}
	s.write(strings.Clone(key), next)
	return nil
}

// SetIfNotExists stores a copy of value under key if there is no entry, and reports whether it did.
func (s *Store) SetIfNotExists(ctx context.Context, key, value any, options ...store.Option) (bool, error) {
	name, next, err := s.prepare(ctx, key, value, options)
	if err != nil {
		return false, err
	}
	written := false
	s.cache.Compute(name, func(old *entry, found bool) (*entry, otter.ComputeOp) {
		if found {
			return nil, otter.CancelOp
		}
		s.tags.link(name, old, next, 0)
		written = true
		return next, otter.WriteOp
	})
	return written, nil
}

// Delete removes the entry of key. Deleting an absent entry is not an error.
func (s *Store) Delete(ctx context.Context, key any) error {
	name, err := storeargs.Key(key)
	if err != nil {
		return fmt.Errorf("memorystore: %w", err)
	}
	if err := s.usable(ctx); err != nil {
		return err
	}
	s.cache.Invalidate(name)
	return nil
}

// prepare checks a write and copies key, value and tags. A string may be a small part of a large one, such as a key cut out
// of a request. Without the copy, the large one would stay in memory, and the budget would not count it.
func (s *Store) prepare(ctx context.Context, key, value any, options []store.Option) (string, *entry, error) {
	name, err := storeargs.Key(key)
	if err != nil {
		return "", nil, fmt.Errorf("memorystore: %w", err)
	}
	if err := s.usable(ctx); err != nil {
		return "", nil, err
	}
	o := s.defaults
	if err := storeargs.Apply(&o, options); err != nil {
		return "", nil, fmt.Errorf("memorystore: %w", err)
	}
	e, err := s.newEntry(name, value, o.Expiration, o.Tags)
	return strings.Clone(name), e, err
}

// newEntry returns an entry of a value. It returns ErrTooLarge for one that is larger than the budget.
func (s *Store) newEntry(name string, value any, expiration time.Duration, tags []string) (*entry, error) {
	ttl, err := lifetime(expiration)
	if err != nil {
		return nil, err
	}
	e, err := entryOf(value)
	if err != nil {
		return nil, err
	}
	e.ttl = ttl
	for _, tag := range tags {
		if !slices.Contains(e.tags, tag) {
			e.tags = append(e.tags, strings.Clone(tag))
		}
	}
	if !s.budget.holds(e.weight(name)) {
		return nil, ErrTooLarge
	}
	return e, nil
}

// room returns how many bytes of tags from former writes e may take without becoming too large.
func (s *Store) room(key string, e *entry) int64 {
	return s.budget.bytes(s.budget.maximum) - e.weight(key)
}
