package audit

import (
	"time"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// Progress is the state of an audit.
type Progress struct {
	Seen      int64 // names
	Plaintext int64 // values
	// Paused lists the reasons for which the audit is paused.
	Paused []string
	// Fraction is the part of the scan that is done, from 0 to 1, by the positions of the cursors.
	Fraction float64
	Elapsed  time.Duration
	// Rate is names per second, over the last few calls. Remaining is 0 while it is unknown.
	Rate      float64
	Remaining time.Duration
	// Final marks the last call.
	Final bool
}

// reporter returns a function that gives the present state to the caller. It is nil if the caller does not want any.
func (a *auditor) reporter(started time.Time) func(final bool) {
	if a.Progress == nil {
		return nil
	}
	var pace rediswalk.Pace
	return func(final bool) {
		p := Progress{Final: final, Paused: a.throttle.Paused()}
		a.mu.Lock()
		for _, s := range a.scans {
			s.walk.Mu.Lock()
			for _, t := range s.walk.Tracks {
				p.Seen += t.Tally.seen
				p.Plaintext += t.Tally.total.Plaintext.Values
			}
			p.Fraction += s.walk.Fraction() / float64(a.databases)
			s.walk.Mu.Unlock()
		}
		a.mu.Unlock()
		p.Elapsed = time.Since(started)
		p.Rate, p.Remaining = pace.Update(p.Elapsed, p.Seen, p.Fraction)
		a.Progress(p)
	}
}
