package rediswalk

import "sync"

// Control pauses a run and changes its rate while it runs. The zero value is ready for one run, and safe for concurrent use.
type Control struct {
	mu       sync.Mutex
	throttle *Throttle
	paused   bool
	rate     *float64
}

// reasonControl is the reason of a pause by Control.
const reasonControl = "paused by the operator"

// Pause stops the run after the batches that it works on.
func (c *Control) Pause() { c.change(func() { c.paused = true }) }

// Resume ends Pause.
func (c *Control) Resume() { c.change(func() { c.paused = false }) }

// SetRate changes the entries per second. 0 or less means no limit.
func (c *Control) SetRate(perSecond float64) { c.change(func() { c.rate = &perSecond }) }

func (c *Control) change(set func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set()
	c.apply()
}

// Attach applies what was set before and what is set from now on to the throttle of a run.
func (c *Control) Attach(t *Throttle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.throttle = t
	c.apply()
}

// apply gives the state to the run, if there is one. c.mu is held.
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
