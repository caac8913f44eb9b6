package migrate

import (
	"sync"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// Control changes a run while it runs. The zero value is ready for use by one run, and safe for concurrent use. Its
// methods also work before the run begins.
type Control struct {
	mu       sync.Mutex
	throttle *rediswalk.Throttle
	paused   bool
	rate     *float64
}

const reasonControl = "paused by the operator"

// Pause stops the run after the batches that it works on, until Resume.
func (c *Control) Pause() { c.set(func() { c.paused = true }) }

// Resume ends Pause.
func (c *Control) Resume() { c.set(func() { c.paused = false }) }

// SetRate replaces Config.Rate. 0 is no bound.
func (c *Control) SetRate(entriesPerSecond float64) { c.set(func() { c.rate = &entriesPerSecond }) }

func (c *Control) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	c.apply()
}

// apply gives the state to the run, if there is one.
func (c *Control) apply() {
	if c.throttle == nil {
		return
	}
	if c.paused {
		c.throttle.Pause(reasonControl)
	} else {
		c.throttle.Resume(reasonControl)
	}
	if c.rate != nil {
		c.throttle.SetEntries(*c.rate)
	}
}

func (c *Control) attach(t *rediswalk.Throttle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.throttle = t
	c.apply()
}
