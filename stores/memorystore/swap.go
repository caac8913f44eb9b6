package memorystore

import (
	"context"
	"strings"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/maypok86/otter/v2"
)

// CompareAndSwap replaces the value of key by a copy of next, in one step. It does so only if the stored value has the
// length of old and ends with the last tail bytes of old. A tail of 0 or less, or one longer than old, compares all of
// it. CompareAndSwap reports whether it replaced the value. If there is no entry, it returns false.
//
// The entry keeps its tags. A negative ttl keeps its TTL too, 0 removes the TTL, a positive ttl sets it.
func (s *Store) CompareAndSwap(ctx context.Context, key string, old []byte, tail int, next []byte, ttl time.Duration) (bool, error) {
	if err := s.usable(ctx); err != nil {
		return false, err
	}
	key = strings.Clone(key) // see prepare
	replacement := &entry{data: string(next), keep: ttl < 0, ttl: max(ttl, 0)}
	if !s.budget.holds(replacement.weight(key)) {
		return false, ErrTooLarge
	}
	return s.ifUnchanged(key, old, tail, func(present *entry) (*entry, otter.ComputeOp) {
		return s.replace(key, present, replacement), otter.WriteOp
	}), nil
}

// CompareAndSet is [Store.Set] with a copy of next, tags included, if the entry's value is the one that CompareAndSwap would
// replace. It reports whether it wrote.
func (s *Store) CompareAndSet(ctx context.Context, key string, old []byte, tail int, next []byte, options ...store.Option) (bool, error) {
	name, replacement, err := s.prepare(ctx, key, next, options)
	if err != nil {
		return false, err
	}
	return s.ifUnchanged(name, old, tail, func(present *entry) (*entry, otter.ComputeOp) {
		return s.replace(name, present, replacement), otter.WriteOp
	}), nil
}

// CompareAndExpire changes the TTL of an entry, 0 for none, if its value is the one that CompareAndSwap would replace, and
// reports whether it did. The entry keeps its value and its tags.
func (s *Store) CompareAndExpire(ctx context.Context, key string, old []byte, tail int, ttl time.Duration) (bool, error) {
	if err := s.usable(ctx); err != nil {
		return false, err
	}
	ttl, err := lifetime(ttl)
	if err != nil {
		return false, err
	}
	key = strings.Clone(key)
	return s.ifUnchanged(key, old, tail, func(present *entry) (*entry, otter.ComputeOp) {
		return s.replace(key, present, &entry{data: present.data, text: present.text, ttl: ttl}), otter.WriteOp
	}), nil
}

// CompareAndDelete deletes an entry if its value is the one that CompareAndSwap would replace, and reports whether it did.
func (s *Store) CompareAndDelete(ctx context.Context, key string, old []byte, tail int) (bool, error) {
	if err := s.usable(ctx); err != nil {
		return false, err
	}
	return s.ifUnchanged(key, old, tail, func(*entry) (*entry, otter.ComputeOp) { return nil, otter.InvalidateOp }), nil
}

// GetBytesToSwap is [Store.GetBytesWithTTLMax].
func (s *Store) GetBytesToSwap(ctx context.Context, key string, limit int) ([]byte, time.Duration, error) {
	return s.GetBytesWithTTLMax(ctx, key, limit)
}

// ifUnchanged calls change under the lock of the entry if its value is as expected, and reports whether it was.
func (s *Store) ifUnchanged(key string, old []byte, tail int, change func(present *entry) (*entry, otter.ComputeOp)) bool {
	if tail <= 0 || tail > len(old) {
		tail = len(old)
	}
	end := string(old[len(old)-tail:])
	unchanged := false
	s.cache.Compute(key, func(present *entry, found bool) (*entry, otter.ComputeOp) {
		if !found || len(present.data) != len(old) || present.data[len(old)-tail:] != end {
			return nil, otter.CancelOp
		}
		unchanged = true
		return change(present)
	})
	return unchanged
}

// replace gives next, which is about to replace present, the tags of present, and its TTL if next keeps that.
func (s *Store) replace(key string, present, next *entry) *entry {
	if next.keep {
		next.ttl, next.deadline = present.ttl, present.deadline
	}
	s.tags.link(key, present, next, s.room(key, next))
	return next
}
