package migrate

import "github.com/sealcache/sealcache/middleware/internal/rediswalk"

// Control changes a run while it runs. The zero value is ready for one run, and safe for concurrent use. Its methods also
// work before the run begins.
type Control struct{ c rediswalk.Control }

// Pause stops the run after the batches that it works on, until Resume.
func (c *Control) Pause() { c.c.Pause() }

// Resume ends Pause.
func (c *Control) Resume() { c.c.Resume() }

// SetRate replaces Config.Rate, in entries per second. 0 or less means no limit.
func (c *Control) SetRate(perSecond float64) { c.c.SetRate(perSecond) }
