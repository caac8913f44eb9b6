package migrate

import "sync"

// claims are the entries that batches of this run are renaming. SCAN may return a name twice, so two batches may get it. Its
// methods are safe for concurrent use.
type claims struct {
	mu    sync.Mutex
	names map[string]bool
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
