package memorystore

import (
	"math"
	"time"

	"github.com/maypok86/otter/v2"
)

const (
	// EntryOverhead is what an entry counts against the budget beside the bytes of its key, value and tags: what
	// otter, its table and this package take for one entry, measured and rounded up.
	EntryOverhead = 256

	// TagOverhead is what each tag of an entry counts beside its own bytes.
	TagOverhead = 128
)

// entry is a stored value. It does not change once it is in the table, so that readers need no lock; its deadline is
// set by expireAfter while otter writes it, before any reader can see it.
type entry struct {
	data string // the bytes; a string because nobody can change one
	text bool   // the value was given as a string, or as what Redis returns as one
	keep bool   // the deadline is that of the entry it replaces

	ttl      time.Duration // 0: none
	deadline int64         // in otter's clock, in nanoseconds; 0: none

	tags []string // what the entry may be linked under; the tag index knows whether it still is
}

func (e *entry) weight(key string) int64 {
	w := int64(len(key)) + int64(len(e.data)) + EntryOverhead
	for _, t := range e.tags {
		w += tagWeight(t)
	}
	return w
}

func tagWeight(tag string) int64 { return int64(len(tag)) + TagOverhead }

// value is what Get returns: never the stored bytes themselves.
func (e *entry) value() any {
	if e.text {
		return e.data
	}
	return []byte(e.data)
}

// remaining is the entry's TTL at otter's time now, 0 for none.
func (e *entry) remaining(now int64) time.Duration {
	if e.deadline == 0 {
		return 0
	}
	return time.Duration(e.deadline - now)
}

// expireAfter tells otter when to remove an entry, and the entry when that is. otter calls it once for each write,
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
