package memorystore

import (
	"slices"
	"strings"
	"sync"
)

// MaxFormerTags bounds the tags that an entry keeps from former writes of its key, the latest first, so that a key
// that is overwritten for ever under ever new tags does not grow. The tags of the present write are not bounded,
// except by the budget.
const MaxFormerTags = 256

// tagIndex knows which entries bear a tag. It is the authority: an entry bears a tag if the index links the two.
//
// Locks are taken in one order, the bucket of otter's table and then mu: entries are linked and unlinked under the lock
// of their bucket, in the same step as they enter or leave the table. Whoever holds mu calls nothing.
type tagIndex struct {
	mu   sync.Mutex
	sets map[string]*tagSet
}

type tagSet struct {
	members map[string]*entry // by key
	peak    int               // most members since the map was made
}

// link gives next, which is about to replace old (nil if there is none) under key, the tags it was written with and
// those that old still bears, as many of these as MaxFormerTags and room, in bytes, allow.
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
			if former == MaxFormerTags || tagWeight(tag) > room {
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

// bears reports whether e, the present entry of key, bears tag.
func (x *tagIndex) bears(tag, key string, e *entry) bool {
	if len(e.tags) == 0 {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.linked(tag, key, e)
}

// keys returns the keys of the entries that bear tag.
func (x *tagIndex) keys(tag string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	set := x.sets[tag]
	if set == nil {
		return nil
	}
	keys := make([]string, 0, len(set.members))
	for key := range set.members {
		keys = append(keys, key)
	}
	return keys
}

// dropForeign takes the tags that start with prefix from the entries whose keys do not.
func (x *tagIndex) dropForeign(prefix string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for tag, set := range x.sets {
		if !strings.HasPrefix(tag, prefix) {
			continue
		}
		for key := range set.members {
			if !strings.HasPrefix(key, prefix) {
				x.remove(tag, key)
			}
		}
	}
}

func (x *tagIndex) linked(tag, key string, e *entry) bool {
	set := x.sets[tag]
	return set != nil && set.members[key] == e
}

func (x *tagIndex) add(tag, key string, e *entry) {
	set := x.sets[tag]
	if set == nil {
		if x.sets == nil {
			x.sets = make(map[string]*tagSet)
		}
		set = &tagSet{members: make(map[string]*entry)}
		x.sets[tag] = set
	}
	set.members[key] = e
	set.peak = max(set.peak, len(set.members))
}

func (x *tagIndex) remove(tag, key string) {
	set := x.sets[tag]
	delete(set.members, key)
	switch n := len(set.members); {
	case n == 0:
		delete(x.sets, tag)
	case set.peak >= 64 && n < set.peak/4:
		// A Go map never shrinks: without this, each of many tags would keep the room of its best days.
		members := make(map[string]*entry, n)
		for k, e := range set.members {
			members[k] = e
		}
		set.members, set.peak = members, n
	}
}
