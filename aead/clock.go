package aead

import (
	"sync/atomic"
	"time"
)

// clock measures ages. Its readings never decrease.
//
// Go's monotonic clock stands still while a machine is suspended, and the wall clock can be set back. Neither may extend the age
// of a key. A reading is therefore the monotonic time plus the largest lead of the wall clock over it. If the wall clock jumps
// ahead, keys age at once.
type clock struct {
	base time.Time
	wall atomic.Int64 // base by the wall clock, in Unix nanoseconds
	lead atomic.Int64
}

func newClock() *clock {
	c := &clock{base: time.Now()}
	c.wall.Store(c.base.UnixNano())
	return c
}

// now returns the nanoseconds since the clock was made. It reads the monotonic clock only, for speed.
func (c *clock) now() int64 { return int64(time.Since(c.base)) + c.lead.Load() }

// catchUp takes account of a wall clock that has moved ahead, and reports whether it has. It is called at least once a minute.
func (c *clock) catchUp() (resumed bool) {
	now := time.Now()
	return c.observe(time.Duration(now.UnixNano()-c.wall.Load()), now.Sub(c.base))
}

// observe records the time since base, as each of the two clocks shows it.
func (c *clock) observe(wall, monotonic time.Duration) (resumed bool) {
	lead := int64(wall - monotonic)
	for {
		old := c.lead.Load()
		if lead < old+int64(time.Second) { // the two drift apart by some parts in a million
			return false
		}
		if c.lead.CompareAndSwap(old, lead) {
			return true
		}
	}
}
