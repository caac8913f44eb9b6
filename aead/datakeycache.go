package aead

import (
	"crypto/sha256"
	"slices"
	"sync"
)

// maxUnproven bounds how many wrapped data keys are held that no value has proved, and other wrapped forms of proved ones.
const maxUnproven = 1024

// dataKeyCache holds unwrapped data keys by their header.
//
// It has two parts. One holds one wrapped form of each proved data key. The other holds data keys that no value has proved, and
// further wrapped forms of proved ones: a key service may accept one wrapped data key in many spellings. The parts do not
// displace each other, so planted values evict only what is planted.
//
// Eviction is by second chance, an approximation of least recently used that lets a lookup do with a read lock.
type dataKeyCache struct {
	mu         sync.RWMutex
	byHeader   map[string]*dataKey
	identities map[[sha256.Size]byte]*identity
	proved     clockList
	others     clockList
}

// identity is what all wrapped forms of one data key share. The cache's lock guards it.
type identity struct {
	prim   *primitive
	proved bool     // a value authenticated under it, or this process made it
	main   *dataKey // its form in the first part of the cache, or nil
	forms  int      // in both parts
}

func newDataKeyCache(maximum int) *dataKeyCache {
	return &dataKeyCache{
		byHeader:   make(map[string]*dataKey),
		identities: make(map[[sha256.Size]byte]*identity),
		proved:     clockList{max: maximum},
		others:     clockList{max: min(maximum, maxUnproven)},
	}
}

// lookup does not allocate.
func (c *dataKeyCache) lookup(header []byte) *dataKey {
	c.mu.RLock()
	k := c.byHeader[string(header)]
	c.mu.RUnlock()
	if k != nil && !k.used.Load() {
		k.used.Store(true)
	}
	return k
}

// insert holds a data key that the KEK unwrapped. If the same one is held under the same header, it extends that one and
// returns it; if another is, it replaces it.
func (c *dataKeyCache) insert(k *dataKey) *dataKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.byHeader[string(k.header)]; old != nil {
		if old == k || old.same(k) {
			old.confirm(k.confirmed.Load())
			return old
		}
		c.drop(old)
	}
	if known := c.identities[k.digest]; known != nil {
		k.identity = known
		if !k.seals {
			k.prim = known.prim // one in memory
		}
	} else {
		c.identities[k.digest] = k.identity
	}
	c.byHeader[string(k.header)] = k
	k.identity.forms++
	if k.proved.Load() && k.identity.main == nil {
		c.promote(k)
	} else {
		c.push(&c.others, k)
	}
	return k
}

// prove notes that a value has authenticated under a data key. It reports whether it is the first one, under any form.
func (c *dataKeyCache) prove(k *dataKey) (first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := k.identity
	first = !id.proved
	id.proved = true
	k.proved.Store(true)
	if c.byHeader[string(k.header)] == k && id.main == nil {
		c.others.remove(k)
		c.promote(k)
	}
	return first
}

// promote puts a proved data key into the first part. c.mu is held.
func (c *dataKeyCache) promote(k *dataKey) {
	k.identity.main, k.identity.proved = k, true
	c.push(&c.proved, k)
}

func (c *dataKeyCache) push(part *clockList, k *dataKey) {
	if evicted := part.push(k); evicted != nil {
		c.forget(evicted)
	}
}

// drop takes a data key out of its part. c.mu is held.
func (c *dataKeyCache) drop(k *dataKey) {
	if k.identity.main == k {
		c.proved.remove(k)
	} else {
		c.others.remove(k)
	}
	c.forget(k)
}

// forget is for a data key that is in neither part any more. With the form in the first part go all forms: left in the second
// part, a data key in use would compete with planted ones. c.mu is held.
func (c *dataKeyCache) forget(k *dataKey) {
	delete(c.byHeader, string(k.header))
	k.identity.forms--
	if k.identity.main == k {
		k.identity.main = nil
		if k.identity.forms > 0 {
			c.others.removeIf(func(form *dataKey) bool {
				if form.identity != k.identity {
					return false
				}
				c.forget(form)
				return true
			})
		}
	}
	if k.identity.forms == 0 {
		delete(c.identities, k.digest)
	}
}

// remove drops a data key. For one that is not there, as garbage never is, it takes a read lock only.
func (c *dataKeyCache) remove(header []byte) {
	c.mu.RLock()
	_, ok := c.byHeader[string(header)]
	c.mu.RUnlock()
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.byHeader[string(header)]; k != nil {
		c.drop(k)
	}
}

// removeIf drops the data keys for which a condition is true.
func (c *dataKeyCache) removeIf(condition func(*dataKey) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, part := range []*clockList{&c.proved, &c.others} {
		part.removeIf(func(k *dataKey) bool {
			if !condition(k) {
				return false
			}
			c.forget(k)
			return true
		})
	}
}

func (c *dataKeyCache) clear() { c.removeIf(func(*dataKey) bool { return true }) }

// len returns the number of data keys, not of wrapped forms.
func (c *dataKeyCache) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.identities)
}

// clockList is a bounded list of data keys with second-chance eviction.
type clockList struct {
	max  int
	keys []*dataKey
	hand int
}

// push adds a data key, and returns the one that it evicts, or nil.
func (l *clockList) push(k *dataKey) (evicted *dataKey) {
	if len(l.keys) < l.max {
		l.keys = append(l.keys, k)
		return nil
	}
	for l.keys[l.hand].used.CompareAndSwap(true, false) {
		l.hand = (l.hand + 1) % len(l.keys)
	}
	evicted = l.keys[l.hand]
	l.keys[l.hand] = k
	l.hand = (l.hand + 1) % len(l.keys)
	return evicted
}

func (l *clockList) remove(k *dataKey) {
	l.removeIf(func(x *dataKey) bool { return x == k })
}

func (l *clockList) removeIf(condition func(*dataKey) bool) {
	l.keys = slices.DeleteFunc(l.keys, condition)
	if l.hand >= len(l.keys) {
		l.hand = 0
	}
}
