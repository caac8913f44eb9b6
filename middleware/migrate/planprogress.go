package migrate

import (
	"context"
	"sync"
	"time"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// startBackground watches the servers and reports the progress of an inventory until end is called.
func (p *planner) startBackground(ctx context.Context, w *rediswalk.Walk[*planTally]) (end func()) {
	watching, done := context.WithCancel(ctx)
	stop := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() { rediswalk.Guard{MaxLatency: p.MaxLatency}.Watch(watching, p.servers, w.Throttle) })
	if p.Progress != nil {
		background.Go(func() { p.keepProgress(w, stop) })
	}
	return func() {
		done()
		close(stop)
		background.Wait()
	}
}

func (p *planner) keepProgress(w *rediswalk.Walk[*planTally], stop <-chan struct{}) {
	tick := time.NewTicker(w.Tuning.ProgressEvery)
	defer tick.Stop()
	var pace rediswalk.Pace
	report := func(final bool) {
		s := Progress{Phase: phaseEntries, Paused: w.Throttle.Paused(), Elapsed: time.Since(p.started), Final: final}
		w.Mu.Lock()
		for _, t := range w.Tracks {
			if t.Tally != nil {
				s.Seen += t.Tally.Seen
			}
		}
		s.Fraction = w.Fraction()
		w.Mu.Unlock()
		s.Rate, s.Remaining = pace.Update(s.Elapsed, s.Seen, s.Fraction)
		p.Progress(s)
	}
	for {
		report(false)
		select {
		case <-stop:
			report(true)
			return
		case <-tick.C:
		}
	}
}
