package aead

import (
	"sync/atomic"
	"unsafe"
)

// stripedCounter counts events of all processors. A single counter would be one cache line that each opened message takes from
// another processor. Such a transfer costs more than opening a small message.
type stripedCounter struct {
	stripes [1 << stripeBits]struct {
		n atomic.Uint64
		_ [120]byte // two cache lines: processors fetch them in pairs
	}
}

const stripeBits = 4

// inc picks a stripe by the address of the goroutine's stack. One goroutine therefore mostly uses one stripe.
func (c *stripedCounter) inc() {
	var here byte
	address := uint64(uintptr(unsafe.Pointer(&here)))
	// Stacks have 2 KiB and more. The multiplier is 2^64 divided by the golden ratio (Knuth, section 6.4).
	c.stripes[(address>>11)*0x9e3779b97f4a7c15>>(64-stripeBits)].n.Add(1)
}

func (c *stripedCounter) load() (sum uint64) {
	for i := range c.stripes {
		sum += c.stripes[i].n.Load()
	}
	return sum
}
