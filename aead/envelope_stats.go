package aead

import (
	"sync/atomic"
	"time"
)

// EnvelopeStats counts what an Envelope has done since it was made. Fields may be added.
type EnvelopeStats struct {
	Wraps        uint64 // data keys made and wrapped
	WrapFailures uint64 // calls to wrap that failed

	Unwraps        uint64 // data keys unwrapped or confirmed by the KEK
	UnwrapFailures uint64 // calls to unwrap that failed without an answer: outages
	Refusals       uint64 // calls to unwrap that the KEK answered with no

	CacheHits          uint64 // messages whose data key was known
	CacheMisses        uint64 // data keys that were not, and had to be asked for
	RefusalsRemembered uint64 // refusals given again from memory
	GateRejections     uint64 // unknown data keys turned away because too many came at once, or failed

	DataKeys int // unwrapped data keys held now

	// Of the data key that seals now.
	KeyAge      time.Duration
	KeyMessages uint64
	KeyBytes    uint64
}

type envelopeCounters struct {
	wraps, wrapFailures               atomic.Uint64
	unwraps, unwrapFailures, refusals atomic.Uint64
	misses, remembered                atomic.Uint64
	turnedAway                        atomic.Uint64
	_                                 [64]byte       // what follows changes with every message
	hits                              stripedCounter // of the messages that are opened
}

// Stats returns the counters. They are read one after the other, while others may be counting.
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
		GateRejections:     e.stats.turnedAway.Load(),
		DataKeys:           e.known.len(),
	}
	if key := e.current.Load(); key != nil {
		s.KeyAge = time.Duration(e.clock.now() - key.born)
		s.KeyMessages = key.messages.Load()
		s.KeyBytes = key.bytes.Load()
	}
	return s
}
