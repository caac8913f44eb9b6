package audit

import "github.com/sealcache/sealcache/middleware/internal/rediswalk"

// Control changes an audit while it runs. The zero value is ready for one audit, and safe for concurrent use. Its methods also
// work before the audit begins.
type Control struct{ c rediswalk.Control }

// Pause stops the audit after the batches that it works on, until Resume.
func (c *Control) Pause() { c.c.Pause() }

// Resume ends Pause.
func (c *Control) Resume() { c.c.Resume() }

// SetRate replaces Config.Rate, in names per second. 0 or less means no limit.
func (c *Control) SetRate(perSecond float64) { c.c.SetRate(perSecond) }
