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
	to      string                 // the new name
	copies  map[identity]knownCopy // of entries under the new name that held what the original held
	mayDrop bool                   // the deletion of the original was sent, and may be executed at any time
}

// identity tells one sealed value from all others. See value.expected.
type identity struct {
	tail string
	size int
}

// knownCopy is a copy that the run wrote or saw.
type knownCopy struct {
	copied, original int64 // when the copy and its original expired then, -1 for never
	own              bool  // this run has written it, or may have
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
func (c *claims) know(v *renamed, stored []byte, found knownCopy) {
	if !wire.IsSealed(stored) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	of := c.of(v.name)
	of.to = v.to
	if of.copies == nil {
		of.copies = make(map[identity]knownCopy)
	}
	of.copies[identityOf(stored)] = found
}

// knows reports whether a value under the new name holds what the original held before, and returns what know was told.
func (c *claims) knows(name string, stored []byte) (found knownCopy, known bool) {
	if !wire.IsSealed(stored) {
		return found, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if of := c.open[name]; of != nil {
		found, known = of.copies[identityOf(stored)]
	}
	return found, known
}

// dropping records whether the deletion of the original was sent, and may be executed at any time.
func (c *claims) dropping(name string, may bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(name).mayDrop = may
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

// unfinishedCopies returns calls that delete the copies that this run wrote of entries that it has not finished. It leaves out
// entries whose originals the run may have deleted, and copies to which the application has given another expiry or value.
func (c *claims) unfinishedCopies() (calls []*rediswalk.Call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range c.open {
		if of.mayDrop {
			continue
		}
		for id, found := range of.copies {
			if found.own {
				calls = append(calls, &rediswalk.Call{Keys: []string{of.to}, Args: []any{id.tail, id.size, found.copied}})
			}
		}
	}
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
