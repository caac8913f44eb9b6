// Package plaintext decides whether to accept a value that is stored without encryption. Packages middleware, jobs and
// asynqjobs ask this package when they read such a value. If the answer is no, they return an error.
//
// A [Policy] is the rule. For example, [Reject] refuses every such value. A [Window] applies a Policy until a set time,
// and then Reject. Begin with [NewWindow]. Before you decode an accepted value as MessagePack, call [CheckMsgPack]. An
// attacker may have written the value, and a few malformed bytes could crash the decoder.
package plaintext

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Policy sets how plaintext values are treated. Packages middleware and jobs export it and describe its values.
type Policy int

// The policies, from the strictest on.
const (
	Reject Policy = iota
	Read
	SealOnRead
	Write
)

// Valid reports whether p is one of the policies.
func (p Policy) Valid() bool { return p >= Reject && p <= Write }

func (p Policy) String() string {
	switch p {
	case Reject:
		return "reject"
	case Read:
		return "read"
	case SealOnRead:
		return "seal-on-read"
	case Write:
		return "write"
	default:
		return fmt.Sprintf("policy %d", int(p))
	}
}

// errUnknown reports a text that names no policy. fxmodule recognizes it as what UnmarshalText(nil) returns.
var errUnknown = errors.New("the plaintext policy must be \"reject\", \"read\", \"write\" or (for caches only) \"seal-on-read\"")

// UnmarshalText reads what String returns.
func (p *Policy) UnmarshalText(text []byte) error {
	for known := Reject; known.Valid(); known++ {
		if known.String() == string(text) {
			*p = known
			return nil
		}
	}
	return errUnknown
}

// A Window is a policy with an end. The end is final: a wall clock that is set back later does not open it again.
type Window struct {
	policy   Policy
	until    time.Time // zero: no end
	deadline time.Time // until on the monotonic clock
	now      func() time.Time
	ended    atomic.Bool
}

// NewWindow returns a Window that ends at until. A zero until means no end.
func NewWindow(p Policy, until time.Time, now func() time.Time) *Window {
	w := &Window{policy: p, until: until, now: now}
	if start := now(); !until.IsZero() {
		w.deadline = start.Add(until.Sub(start))
	}
	return w
}

// Policy returns the policy of this moment, which is Reject after the end.
func (w *Window) Policy() Policy {
	if w.policy == Reject || w.until.IsZero() {
		return w.policy
	}
	if w.ended.Load() {
		return Reject
	}
	// The wall clock continues while a machine sleeps. The monotonic clock is never set back.
	if now := w.now(); !now.Round(0).Before(w.until) || !now.Before(w.deadline) {
		w.ended.Store(true)
		return Reject
	}
	return w.policy
}
