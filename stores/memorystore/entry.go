package memorystore

import (
	"math"
	"time"

	"github.com/maypok86/otter/v2"
)

const (
	// entryOverhead is the memory that otter, its table and this package use for one entry, in addition to the bytes of
	// key, value and tags. It was measured and rounded up.
	entryOverhead = 256

	// smallestEntry is the size of an entry whose key has one byte, and whose value is empty.
	smallestEntry = entryOverhead + 1

	// tagOverhead is the same for each tag of an entry.
	tagOverhead = 128
)

// entry is a stored value. It does not change once it is in the table, so that readers need no lock. expireAfter
// sets its deadline while otter writes it, before any reader can see it.
type entry struct {
	data string // the bytes, as a string because strings cannot change
	text bool   // the value was given as a string, or as a type that Redis returns as a string
	keep bool   // the deadline is that of the entry it replaces

	ttl      time.Duration // 0: none
	deadline int64         // in otter's clock, in nanoseconds; 0: none

	tags []string // tags that the entry was written with; the tag index records which of them it still has
}

func (e *entry) weight(key string) int64 {
	w := int64(len(key)) + int64(len(e.data)) + entryOverhead
	for _, t := range e.tags {
		w += tagWeight(t)
	}
	return w
}

func tagWeight(tag string) int64 { return int64(len(tag)) + tagOverhead }

// value returns the value for Get, never the stored bytes themselves.
func (e *entry) value() any {
	if e.text {
		return e.data
	}
	return []byte(e.data)
}

// remaining returns the entry's TTL at otter's time now, 0 for none.
func (e *entry) remaining(now int64) time.Duration {
	if e.deadline == 0 {
		return 0
	}
	return time.Duration(e.deadline - now)
}

// expireAfter returns to otter when to remove an entry, and sets the entry's deadline. otter calls it once for each write,
// under the lock of the entry's bucket, with the time at which the write was decided.
func expireAfter(w otter.Entry[string, *entry]) time.Duration {
	e := w.Value
	switch {
	case e.keep:
		return w.ExpiresAfter()
	case e.ttl == 0:
		return math.MaxInt64
	}
	e.deadline = math.MaxInt64
	if w.SnapshotAtNano <= math.MaxInt64-int64(e.ttl) {
		e.deadline = w.SnapshotAtNano + int64(e.ttl)
	}
	return e.ttl
}
