package migrate

import (
	"time"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// reporter returns a function that gives the present state of an inventory to the caller. It is nil if the caller does not want
// any.
func (p *planner) reporter(w *rediswalk.Walk[planTally]) func(final bool) {
	if p.Progress == nil {
		return nil
	}
	var pace rediswalk.Pace
	return func(final bool) {
		s := Progress{Phase: phaseEntries, Paused: w.Throttle.Paused(), Elapsed: time.Since(p.started), Final: final}
		w.Mu.Lock()
		for _, t := range w.Tracks {
			s.Seen += t.Tally.Seen
		}
		s.Fraction = w.Fraction()
		w.Mu.Unlock()
		s.Rate, s.Remaining = pace.Update(s.Elapsed, s.Seen, s.Fraction)
		p.Progress(s)
	}
}
