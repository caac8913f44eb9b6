package aead

import (
	"crypto/sha256"
	"time"
)

const (
	// refusalMemory is for how long a definite refusal of a data key is given again without asking the KEK: long
	// enough that a poisoned value which is read in a loop costs nothing, short enough that a keyset which has since
	// been distributed is noticed.
	refusalMemory = 15 * time.Second
	// failureMemory is for how long after its last failure a data key is still held for one that fails.
	failureMemory = time.Minute
	// maxNotUnwrapped bounds how many data keys are remembered; the oldest go first.
	maxNotUnwrapped = 4096
)

// notUnwrapped remembers the data keys that the KEK did not unwrap. Its owner locks it.
//
// A definite refusal is given again for a while. Any other failure may be over the next moment, so that the first is
// not held against a data key; but one that fails time and again, such as one whose KEK this process may not use, is
// asked for ever more rarely, or reading its values in a loop would be a storm of calls.
type notUnwrapped struct {
	m     map[[sha256.Size]byte]outcome
	order [][sha256.Size]byte // as they came; the oldest first; may hold some that are forgotten
}

type outcome struct {
	err      error
	until    int64 // it is given again before
	forget   int64 // it counts for nothing from here on
	failures int   // in a row, without an answer
}

// refused remembers a definite no.
func (r *notUnwrapped) refused(header []byte, err error, now int64) {
	until := now + int64(refusalMemory)
	r.remember(sha256.Sum256(header), outcome{err: err, until: until, forget: until}, now)
}

// failed remembers that there was no answer.
func (r *notUnwrapped) failed(header []byte, err error, now int64) {
	name := sha256.Sum256(header)
	x := outcome{err: err, until: now, forget: now + int64(failureMemory), failures: 1}
	if before, ok := r.m[name]; ok && now < before.forget {
		x.failures = before.failures + 1
		x.until += int64(backoff(before.failures - 1))
	}
	r.remember(name, x, now)
}

func (r *notUnwrapped) remember(name [sha256.Size]byte, x outcome, now int64) {
	if r.m == nil {
		r.m = make(map[[sha256.Size]byte]outcome)
	}
	if _, ok := r.m[name]; ok {
		r.m[name] = x
		return
	}
	for len(r.order) > 0 && (len(r.order) >= maxNotUnwrapped || r.m[r.order[0]].forget <= now) {
		delete(r.m, r.order[0])
		r.order = r.order[1:]
	}
	r.m[name] = x
	r.order = append(r.order, name)
}

// unwrapped forgets a data key.
func (r *notUnwrapped) unwrapped(header []byte) {
	if len(r.m) > 0 {
		delete(r.m, sha256.Sum256(header))
	}
}

// recall returns what to say of a data key without asking the KEK, or nil.
func (r *notUnwrapped) recall(header []byte, now int64) error {
	if len(r.m) == 0 {
		return nil
	}
	if x, ok := r.m[sha256.Sum256(header)]; ok && now < x.until {
		return x.err
	}
	return nil
}

func (r *notUnwrapped) clear() { *r = notUnwrapped{} }
