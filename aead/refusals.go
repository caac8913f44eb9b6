package aead

import (
	"crypto/sha256"
	"time"
)

const (
	// refusalMemory is how long a definite refusal of a data key is given again without asking the KEK. It is long enough that
	// a planted value that is read in a loop costs nothing, and short enough that a new keyset is noticed.
	refusalMemory = 15 * time.Second
	// maxRefusals bounds how many are remembered; the oldest go first.
	maxRefusals = 4096
)

// refusals remembers the data keys that the KEK definitely refused. Its owner locks it. Any other failure may be over the next
// moment and is not remembered; the gate bounds those calls.
type refusals struct {
	recent[[sha256.Size]byte, refusal]
}

type refusal struct {
	err   error
	until int64
}

func (r *refusals) remember(header []byte, err error, now int64) {
	for len(r.order) > 0 && r.m[r.order[0]].until <= now {
		r.dropOldest()
	}
	name := sha256.Sum256(header)
	if _, ok := r.m[name]; !ok {
		r.set(name, refusal{err, now + int64(refusalMemory)}, maxRefusals)
	}
}

// recall returns the remembered refusal of a data key, or nil.
func (r *refusals) recall(header []byte, now int64) error {
	if len(r.m) == 0 {
		return nil
	}
	if x, ok := r.m[sha256.Sum256(header)]; ok && now < x.until {
		return x.err
	}
	return nil
}

func (r *refusals) forget() { *r = refusals{} }
