package migrate

import (
	"sync"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// claims are the entries that batches of this run are renaming. SCAN may return a name twice, so two batches may get it. Its
// methods are safe for concurrent use.
type claims struct {
	mu    sync.Mutex
	names map[string]bool
	open  map[string]*unfinished
	stay  []*rediswalk.Call // that delete copies, and have failed
}

// unfinished is what a run knows of the copies of an entry that it has not finished. A lost answer leaves it open whether a copy
// exists, or whether the original is still there.
type unfinished struct {
	copies  map[identity]lifetimes // of entries under the new name that held what the original held
	mayDrop bool                   // the deletion of the original was sent, and may be executed at any time
}

// identity tells one sealed value from all others. See value.expected.
type identity struct {
	tail string
	size int
}

// lifetimes are when a copy and its original expired when the run wrote or saw the copy, -1 for never.
type lifetimes struct{ copied, original int64 }

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
func (c *claims) know(name string, stored []byte, at lifetimes) {
	if !wire.IsSealed(stored) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.of(name)
	if of.copies == nil {
		of.copies = make(map[identity]lifetimes)
	}
	of.copies[identityOf(stored)] = at
}

// knows reports whether a value under the new name holds what the original held before, and returns when both expired then.
func (c *claims) knows(name string, stored []byte) (at lifetimes, known bool) {
	if !wire.IsSealed(stored) {
		return at, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if of := c.open[name]; of != nil {
		at, known = of.copies[identityOf(stored)]
	}
	return at, known
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

// forget drops the record of an entry that is finished.
func (c *claims) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, name)
}

// failed records calls that delete copies, and have failed.
func (c *claims) failed(calls []*rediswalk.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stay = append(c.stay, calls...)
}

// takeFailed returns the calls of failed, and forgets them.
func (c *claims) takeFailed() []*rediswalk.Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.stay
	c.stay = nil
	return calls
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
