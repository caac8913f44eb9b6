package aead

import (
	"crypto/sha256"
	"slices"
	"sync"
)

// maxUnproven bounds the second part of the cache: unproven data keys, and further wrapped forms of proved ones.
const maxUnproven = 1024

// dataKeyCache holds unwrapped data keys by their header.
//
// It has two parts. One holds one wrapped form of each proved data key. The other holds data keys that no value has
// proved, and further wrapped forms of proved ones. A key service may accept one wrapped data key in many spellings.
// The parts do not displace each other, so planted data keys evict only other planted ones.
//
// Eviction is by second chance, an approximation of least recently used that lets a lookup do with a read lock.
type dataKeyCache struct {
	mu         sync.RWMutex
	byHeader   map[dataKeyName]*dataKey
	identities map[identityName]*identity
	proved     clockList
	others     clockList
}

// dataKeyName is a wrapped data key, and the tenant whose KEK unwraps it: "" for the Envelope's own.
type dataKeyName struct{ tenant, header string }

// identityName is a data key of a tenant, however it is wrapped.
type identityName struct {
	tenant string
	digest [sha256.Size]byte
}

// dataKeyView is one tenant's part of a dataKeyCache. Its methods prove, removeIf and len act on the whole cache.
type dataKeyView struct {
	*dataKeyCache

	tenant string
}

func (v dataKeyView) lookup(header []byte) *dataKey { return v.dataKeyCache.lookup(v.tenant, header) }
func (v dataKeyView) remove(header []byte)          { v.dataKeyCache.remove(v.tenant, header) }
func (v dataKeyView) clear()                        { v.removeIf(func(k *dataKey) bool { return k.tenant == v.tenant }) }

// identity is the state that all wrapped forms of one data key share. The cache's lock guards it.
type identity struct {
	prim   *primitive
	proved bool     // a value authenticated under it, or this process made it
	main   *dataKey // its form in the first part of the cache, or nil
	forms  int      // in both parts
}

func newDataKeyCache(maximum int) *dataKeyCache {
	return &dataKeyCache{
		byHeader:   make(map[dataKeyName]*dataKey),
		identities: make(map[identityName]*identity),
		proved:     clockList{max: maximum},
		others:     clockList{max: min(maximum, maxUnproven)},
	}
}

// lookup does not allocate.
func (c *dataKeyCache) lookup(tenant string, header []byte) *dataKey {
	c.mu.RLock()
	k := c.byHeader[dataKeyName{tenant, string(header)}]
	c.mu.RUnlock()
	if k != nil && !k.used.Load() {
		k.used.Store(true)
	}
	return k
}

// insert adds a data key that the KEK unwrapped. If the cache has the same data key under this header, insert extends it
// and returns it. If the cache has another one, insert replaces it.
func (c *dataKeyCache) insert(k *dataKey) *dataKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.byHeader[k.name()]; old != nil {
		if old == k || old.same(k) {
			old.confirm(k.confirmed.Load())
			return old
		}
		c.drop(old)
	}
	if known := c.identities[k.identityName()]; known != nil {
		k.identity = known
		if !k.seals {
			k.prim = known.prim // one in memory
		}
	} else {
		c.identities[k.identityName()] = k.identity
	}
	c.byHeader[k.name()] = k
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
	if c.byHeader[k.name()] == k && id.main == nil {
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

// drop removes a data key from its part. c.mu is held.
func (c *dataKeyCache) drop(k *dataKey) {
	if k.identity.main == k {
		c.proved.remove(k)
	} else {
		c.others.remove(k)
	}
	c.forget(k)
}

// forget updates the identity of a data key that left the cache. If its form in the first part is gone, all other
// forms go too. Otherwise a data key in use would compete with planted ones in the second part. c.mu is held.
func (c *dataKeyCache) forget(k *dataKey) {
	delete(c.byHeader, k.name())
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
		delete(c.identities, k.identityName())
	}
}

// remove drops a data key. If the key is not held, which is the rule for planted ones, it takes a read lock only.
func (c *dataKeyCache) remove(tenant string, header []byte) {
	c.mu.RLock()
	_, ok := c.byHeader[dataKeyName{tenant, string(header)}]
	c.mu.RUnlock()
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.byHeader[dataKeyName{tenant, string(header)}]; k != nil {
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

// len returns the number of data keys, not of wrapped forms.
func (c *dataKeyCache) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.identities)
}

// clockList is a bounded list of data keys with second-chance eviction. One tenant has an eighth of it at most, so that it
// cannot displace the data keys of all others.
type clockList struct {
	max      int
	keys     []*dataKey
	hand     int
	ofTenant map[string]int // how many there are of each tenant
}

const (
	tenantShare    = 8 // of a list, for one tenant: an eighth
	minTenantShare = 4
)

// push adds a data key, and returns the one that it evicts, or nil.
func (l *clockList) push(k *dataKey) (evicted *dataKey) {
	if k.tenant != "" {
		if l.ofTenant[k.tenant] >= max(l.max/tenantShare, minTenantShare) {
			i := l.oldestOf(k.tenant)
			evicted = l.keys[i]
			l.keys[i] = k
			return evicted
		}
		if l.ofTenant == nil {
			l.ofTenant = make(map[string]int)
		}
		l.ofTenant[k.tenant]++
	}
	evicted = l.pushAny(k)
	if evicted != nil {
		l.forget(evicted)
	}
	return evicted
}

// oldestOf returns a data key of a tenant that was not used lately, if there is one.
func (l *clockList) oldestOf(tenant string) int {
	found := -1
	for n := range l.keys {
		i := (l.hand + n) % len(l.keys)
		if k := l.keys[i]; k.tenant == tenant {
			if !k.used.CompareAndSwap(true, false) {
				return i
			}
			if found < 0 {
				found = i
			}
		}
	}
	return found
}

// forget updates the count of the tenant whose data key has left the list.
func (l *clockList) forget(k *dataKey) {
	if k.tenant == "" {
		return
	}
	if l.ofTenant[k.tenant]--; l.ofTenant[k.tenant] <= 0 {
		delete(l.ofTenant, k.tenant)
	}
}

func (l *clockList) pushAny(k *dataKey) (evicted *dataKey) {
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
	l.keys = slices.DeleteFunc(l.keys, func(k *dataKey) bool {
		if !condition(k) {
			return false
		}
		l.forget(k)
		return true
	})
	if l.hand >= len(l.keys) {
		l.hand = 0
	}
}
