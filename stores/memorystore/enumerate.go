package memorystore

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/maypok86/otter/v2"

	"github.com/sealcache/sealcache/stores/internal/storeargs"
)

// Invalidate removes the entries that have one of the tags. An entry that is written at the same time is either removed,
// or keeps its tags.
func (s *Store) Invalidate(ctx context.Context, options ...store.InvalidateOption) error {
	return s.InvalidatePrefix(ctx, "", options...)
}

// InvalidatePrefix is Invalidate for an application that keeps its entries under a prefix. It removes the entries that have
// one of the tags and whose names start with prefix. Other entries only lose the tag.
func (s *Store) InvalidatePrefix(ctx context.Context, prefix string, options ...store.InvalidateOption) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	tags, err := storeargs.Tags(options)
	if err != nil {
		return fmt.Errorf("memorystore: %w", err)
	}
	for _, tag := range tags {
		for _, key := range s.tags.keys(tag) {
			if err := s.usable(ctx); err != nil {
				return err
			}
			if !strings.HasPrefix(key, prefix) {
				s.tags.drop(tag, key)
				continue
			}
			s.cache.ComputeIfPresent(key, func(e *entry) (*entry, otter.ComputeOp) {
				if s.tags.has(tag, key, e) {
					return nil, otter.InvalidateOp
				}
				return nil, otter.CancelOp
			})
		}
	}
	return nil
}

// Keys yields the names of the entries that start with prefix, in no order, each once. An entry that exists during the
// whole loop is yielded; an entry that is written or removed during the loop may be. Keys holds no lock while it yields,
// so that the loop may call the store. An error, ctx's or ErrClosed, is yielded once and ends the loop.
func (s *Store) Keys(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := s.usable(ctx); err != nil {
			yield("", err)
			return
		}
		for key := range s.cache.Keys() {
			if !strings.HasPrefix(key, prefix) {
				continue
			}
			if err := s.usable(ctx); err != nil {
				yield("", err)
				return
			}
			if !yield(key, nil) {
				return
			}
		}
	}
}

// ClearPrefix removes the entries whose names start with prefix, and removes tags that start with prefix from all others.
func (s *Store) ClearPrefix(ctx context.Context, prefix string) error {
	for key, err := range s.Keys(ctx, prefix) {
		if err != nil {
			return err
		}
		s.cache.Invalidate(key)
	}
	s.tags.dropForeign(prefix)
	return nil
}

// Clear removes every entry.
func (s *Store) Clear(ctx context.Context) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	s.cache.InvalidateAll()
	return nil
}
