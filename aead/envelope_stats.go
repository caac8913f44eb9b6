package aead

import (
	"sync/atomic"
	"time"
)

// EnvelopeStats counts the events of an Envelope since it was made, those of its tenants included. The fields that begin with Key
// do not include tenants, because each tenant seals under its own data key. Fields may be added.
type EnvelopeStats struct {
	Wraps        uint64 // data keys that the KEK wrapped
	WrapFailures uint64 // calls to wrap that failed

	Unwraps        uint64 // data keys that the KEK unwrapped: to open messages, to confirm, and to prove new ones
	UnwrapFailures uint64 // calls to unwrap that failed, or answered with something that is not a data key: outages
	Refusals       uint64 // calls to unwrap that the KEK refused

	CacheHits          uint64 // messages whose data key was known
	CacheMisses        uint64 // messages that needed an unknown data key, those that joined another's call excepted
	RefusalsRemembered uint64 // refusals given again from memory
	TooManyDataKeys    uint64 // messages that failed with ErrTooManyDataKeys: throttling, not an outage

	DataKeys int // unwrapped data keys that are held, each counted once however it is wrapped

	// Of the data key that seals.
	KeyAge      time.Duration
	KeyMessages uint64
	KeyBytes    uint64
}

type envelopeCounters struct {
	wraps, wrapFailures               atomic.Uint64
	unwraps, unwrapFailures, refusals atomic.Uint64
	misses, remembered                atomic.Uint64
	turnedAway                        atomic.Uint64
	_                                 [64]byte // hits changes with every message that is opened
	hits                              stripedCounter
}

// Stats returns the counters. They are read one after the other, and may change in between.
func (e *Envelope) Stats() EnvelopeStats {
	s := EnvelopeStats{
		Wraps:              e.stats.wraps.Load(),
		WrapFailures:       e.stats.wrapFailures.Load(),
		Unwraps:            e.stats.unwraps.Load(),
		UnwrapFailures:     e.stats.unwrapFailures.Load(),
		Refusals:           e.stats.refusals.Load(),
		CacheHits:          e.stats.hits.load(),
		CacheMisses:        e.stats.misses.Load(),
		RefusalsRemembered: e.stats.remembered.Load(),
		TooManyDataKeys:    e.stats.turnedAway.Load(),
		DataKeys:           e.known.len(),
	}
	if key := e.current.Load(); key != nil {
		s.KeyAge = time.Duration(e.clock.now() - key.born)
		s.KeyMessages = key.messages.Load()
		s.KeyBytes = key.bytes.Load()
	}
	return s
}
