package aead

import "sync"

// dataKeyCache holds unwrapped data keys by their header, a bounded number of them. What is evicted is found by second
// chance, an approximation of least recently used that lets a lookup do with a read lock. Only data keys that the KEK
// unwrapped get in, so garbage in the store evicts nothing.
type dataKeyCache struct {
	max  int
	mu   sync.RWMutex
	m    map[string]*dataKey
	ring []*dataKey // the same keys, in the order of the hand
	hand int
}

func newDataKeyCache(maximum int) *dataKeyCache {
	return &dataKeyCache{max: maximum, m: make(map[string]*dataKey)}
}

// lookup does not allocate.
func (c *dataKeyCache) lookup(header []byte) *dataKey {
	c.mu.RLock()
	k := c.m[string(header)]
	c.mu.RUnlock()
	if k != nil && !k.used.Load() {
		k.used.Store(true)
	}
	return k
}

func (c *dataKeyCache) insert(k *dataKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := string(k.header)
	if old, ok := c.m[name]; ok {
		if old == k {
			return
		}
		for i := range c.ring {
			if c.ring[i] == old {
				c.ring[i] = k
			}
		}
		c.m[name] = k
		return
	}
	c.m[name] = k
	if len(c.ring) < c.max {
		c.ring = append(c.ring, k)
		return
	}
	for c.ring[c.hand].used.CompareAndSwap(true, false) {
		c.hand = (c.hand + 1) % len(c.ring)
	}
	delete(c.m, string(c.ring[c.hand].header))
	c.ring[c.hand] = k
	c.hand = (c.hand + 1) % len(c.ring)
}

// remove drops a key. For one that is not there, as garbage never is, it holds nobody up.
func (c *dataKeyCache) remove(header []byte) {
	c.mu.RLock()
	key, ok := c.m[string(header)]
	c.mu.RUnlock()
	if ok {
		c.removeIf(func(k *dataKey) bool { return k == key })
	}
}

// removeIf drops the keys that a condition is true of.
func (c *dataKeyCache) removeIf(drop func(*dataKey) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.ring[:0]
	for _, k := range c.ring {
		if drop(k) {
			delete(c.m, string(k.header))
		} else {
			kept = append(kept, k)
		}
	}
	clear(c.ring[len(kept):])
	c.ring = kept
	if c.hand >= len(c.ring) {
		c.hand = 0
	}
}

func (c *dataKeyCache) clear() { c.removeIf(func(*dataKey) bool { return true }) }

func (c *dataKeyCache) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.m)
}
