package migrate

import (
	"slices"
	"sync"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// claims are the entries that batches of this run are renaming. SCAN may return a name twice, so two batches may get it. Its
// methods are safe for concurrent use.
type claims struct {
	mu    sync.Mutex
	names map[string]bool
	open  map[string]*unfinished
}

// unfinished is what a run knows of the copies of an entry that it has not finished. A lost answer leaves it open whether a copy
// exists, or whether the original is still there.
type unfinished struct {
	identities []identity // of entries under the new name that held what the original held
	mayDrop    bool       // the deletion of the original was sent, and may be executed at any time
}

// identity tells one sealed value from all others. See value.expected.
type identity struct {
	tail string
	size int
}

func identityOf(sealed []byte) identity {
	v := value{old: sealed}
	tail, size := v.expected()
	return identity{string(tail), size}
}

// claim returns those entries that no other batch is renaming, and a function that ends the claim. The other batch answers for
// the rest: it renames them, or its error ends or repeats it.
func (c *claims) claim(moves []renamed) (own []renamed, release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.names == nil {
		c.names = make(map[string]bool)
	}
	own = make([]renamed, 0, len(moves))
	for _, v := range moves {
		if !c.names[v.name] {
			c.names[v.name] = true
			own = append(own, v)
		}
	}
	return own, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for i := range own {
			delete(c.names, own[i].name)
		}
	}
}

// know records that a value, which is or may be stored under the new name, holds what the original held. Plaintext has no
// identity.
func (c *claims) know(name string, stored []byte) {
	if !wire.IsSealed(stored) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.of(name)
	if id := identityOf(stored); !slices.Contains(of.identities, id) {
		of.identities = append(of.identities, id)
	}
}

// knows reports whether a value under the new name holds what the original held before.
func (c *claims) knows(name string, stored []byte) bool {
	if !wire.IsSealed(stored) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.open[name]
	return of != nil && slices.Contains(of.identities, identityOf(stored))
}

// dropping records that the deletion of the original was sent, and that its answer was lost.
func (c *claims) dropping(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(name).mayDrop = true
}

func (c *claims) mayDrop(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.open[name]
	return of != nil && of.mayDrop
}

// forget drops what is known of an entry that is finished.
func (c *claims) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, name)
}

// of returns what is known of an entry. c.mu is held.
func (c *claims) of(name string) *unfinished {
	if c.open == nil {
		c.open = make(map[string]*unfinished)
	}
	if c.open[name] == nil {
		c.open[name] = new(unfinished)
	}
	return c.open[name]
}
