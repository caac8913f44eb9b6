package box

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// UnknownKey stands for all keys that are not in the keyset in service. No key of a keyset has this id.
const UnknownKey uint32 = 0

// maxCountedKeys bounds the keys that Reads counts separately. Keys beyond it count as UnknownKey.
const maxCountedKeys = 256

// Reads counts the values that opened under a key other than the primary key, by key. Only values that name a key of a keyset
// are counted. Counting takes an atomic addition and no memory.
type Reads struct {
	roles interface {
		KeyRole(id uint32) (known, primary bool)
	}

	counts atomic.Pointer[[]*readsOfKey] // replaced as a whole
	mu     sync.Mutex                    // held while it is
}

type readsOfKey struct {
	id    uint32
	label string
	n     atomic.Uint64
}

// NewReads returns Reads for values under a. The result is nil, which counts nothing, if the keys of a have no ids.
func NewReads(a tink.AEADWithContext) *Reads {
	roles, ok := a.(interface {
		KeyRole(id uint32) (known, primary bool)
	})
	if !ok {
		return nil
	}
	r := &Reads{roles: roles}
	r.counts.Store(&[]*readsOfKey{})
	return r
}

// Counts returns the counts by key id.
func (r *Reads) Counts() map[uint32]uint64 {
	counts := make(map[uint32]uint64)
	if r != nil {
		for _, c := range *r.counts.Load() {
			counts[c.id] = c.n.Load()
		}
	}
	return counts
}

// count counts a value that has opened under the key that its ciphertext names. It returns the id of the key, or "unknown", and
// "" for the primary key.
func (r *Reads) count(id uint32) (label string) {
	known, primary := r.roles.KeyRole(id)
	switch {
	case primary:
		return ""
	case !known:
		id = UnknownKey
	}
	c := find(*r.counts.Load(), id)
	if c == nil {
		c = r.add(id)
	}
	c.n.Add(1)
	return c.label
}

func find(counts []*readsOfKey, id uint32) *readsOfKey {
	for _, c := range counts {
		if c.id == id {
			return c
		}
	}
	return nil
}

func (r *Reads) add(id uint32) *readsOfKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := *r.counts.Load()
	if c := find(counts, id); c != nil {
		return c // another reader was first
	}
	if len(counts) >= maxCountedKeys {
		id = UnknownKey
		if c := find(counts, id); c != nil {
			return c
		}
	}
	c := &readsOfKey{id: id, label: "unknown"}
	if id != UnknownKey {
		c.label = strconv.FormatUint(uint64(id), 10)
	}
	next := append(append(make([]*readsOfKey, 0, len(counts)+1), counts...), c)
	r.counts.Store(&next)
	return c
}

// keyOf returns the id of the key that a ciphertext names. It is called before the ciphertext is overwritten.
func (r *Reads) keyOf(ciphertext []byte) (id uint32, ok bool) {
	if r == nil {
		return 0, false
	}
	return wire.KeyID(ciphertext)
}
