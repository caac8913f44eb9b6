package memorystore

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// maxFormerTags bounds the tags that an entry keeps from former writes of its key. Without it, an entry that
// is overwritten again and again with new tags would grow without limit. The latest are kept. The tags of the
// present write are bounded only by the budget.
const maxFormerTags = 256

// tagIndex records which entries have a tag. An entry has a tag if and only if the index links the two.
//
// Locks are taken in one order, the bucket of otter's table and then mu. Entries are linked and unlinked under the lock
// of their bucket, in the same step as they enter or leave the table. Code that holds mu calls no other code.
type tagIndex struct {
	mu   sync.Mutex
	sets map[string]*tagSet
}

// tagSet holds the entries that have one tag, by key. The first entry is stored in the set itself. A tag that
// names one object has one entry, for which a map would take three times as much memory.
type tagSet struct {
	key   string
	entry *entry // nil: none under key

	more map[string]*entry
	peak int // most members of more since it was made
}

func (s *tagSet) of(key string) *entry {
	if s.entry != nil && s.key == key {
		return s.entry
	}
	return s.more[key]
}

func (s *tagSet) put(key string, e *entry) {
	if (s.entry == nil && s.more[key] == nil) || (s.entry != nil && s.key == key) {
		s.key, s.entry = key, e
		return
	}
	if s.more == nil {
		s.more = make(map[string]*entry)
	}
	s.more[key] = e
	s.peak = max(s.peak, len(s.more))
}

func (s *tagSet) drop(key string) {
	if s.entry != nil && s.key == key {
		s.key, s.entry = "", nil
		return
	}
	delete(s.more, key)
	if n := len(s.more); s.peak >= 64 && n < s.peak/4 {
		// A Go map never shrinks: without this, each of many tags would keep the memory of its largest size.
		more := make(map[string]*entry, n)
		for k, e := range s.more {
			more[k] = e
		}
		s.more, s.peak = more, n
	}
}

func (s *tagSet) size() int {
	n := len(s.more)
	if s.entry != nil {
		n++
	}
	return n
}

func (s *tagSet) keys() []string {
	keys := make([]string, 0, s.size())
	if s.entry != nil {
		keys = append(keys, s.key)
	}
	for key := range s.more {
		keys = append(keys, key)
	}
	return keys
}

// link gives next the tags that it was written with, and the tags that old still has. next is about to replace old
// under key; old is nil if there is none. maxFormerTags and room, in bytes, bound the tags from old.
func (x *tagIndex) link(key string, old, next *entry, room int64) {
	if len(next.tags) == 0 && (old == nil || len(old.tags) == 0) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if old != nil {
		former := 0
		for _, tag := range old.tags {
			if !x.linked(tag, key, old) || slices.Contains(next.tags, tag) {
				continue
			}
			if former == maxFormerTags || tagWeight(tag) > room {
				x.remove(tag, key)
				continue
			}
			former++
			room -= tagWeight(tag)
			next.tags = append(next.tags, tag)
		}
	}
	for _, tag := range next.tags {
		x.add(tag, key, next)
	}
}

// unlink is called when e has left the table for good.
func (x *tagIndex) unlink(key string, e *entry) {
	if len(e.tags) == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, tag := range e.tags {
		if x.linked(tag, key, e) {
			x.remove(tag, key)
		}
	}
}

// has reports whether e, the present entry of key, has tag.
func (x *tagIndex) has(tag, key string, e *entry) bool {
	if len(e.tags) == 0 {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.linked(tag, key, e)
}

// keys returns the keys of the entries that have tag.
func (x *tagIndex) keys(tag string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	set := x.sets[tag]
	if set == nil {
		return nil
	}
	return set.keys()
}

// drop removes a tag from the entry of a key.
func (x *tagIndex) drop(tag, key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if set := x.sets[tag]; set != nil && set.of(key) != nil {
		x.remove(tag, key)
	}
}

// dropForeign removes the tags that start with prefix from the entries whose keys do not.
func (x *tagIndex) dropForeign(prefix string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for tag, set := range x.sets {
		if !strings.HasPrefix(tag, prefix) {
			continue
		}
		for _, key := range set.keys() {
			if !strings.HasPrefix(key, prefix) {
				x.remove(tag, key)
			}
		}
	}
}

func (x *tagIndex) linked(tag, key string, e *entry) bool {
	set := x.sets[tag]
	return set != nil && set.of(key) == e
}

func (x *tagIndex) add(tag, key string, e *entry) {
	set := x.sets[tag]
	if set == nil {
		if x.sets == nil {
			x.sets = make(map[string]*tagSet)
		}
		set = new(tagSet)
		x.sets[tag] = set
	}
	set.put(key, e)
}

func (x *tagIndex) remove(tag, key string) {
	set := x.sets[tag]
	set.drop(key)
	if set.size() == 0 {
		delete(x.sets, tag)
	}
}

// KeepsTags returns true: an entry has its tags as long as it exists, even if the byte budget evicts other entries.
func (s *Store) KeepsTags(context.Context) (bool, error) { return true, nil }
