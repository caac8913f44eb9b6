package migrate

import (
	"slices"
	"time"

	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

// Progress is the state of a run.
type Progress struct {
	Counts
	// Phase describes the present step of the run in words.
	Phase string
	// Paused lists the reasons for which the run is paused.
	Paused []string
	// Fraction is the part of the scan that is done, from 0 to 1, by the positions of the cursors.
	Fraction float64
	Elapsed  time.Duration // of this run
	// Rate is entries per second, over the last few calls. Remaining is 0 while it is unknown.
	Rate      float64
	Remaining time.Duration
	// Final marks the last call.
	Final bool
}

// counts returns what all runs have counted. walk.Mu must be held.
func (m *migration) counts() Counts {
	c := m.work.clone()
	for _, t := range m.walk.Tracks {
		c.add(&t.Tally)
	}
	if len(m.walk.Tracks) == 0 {
		for _, p := range m.before.Positions { // the scan has not begun
			c.add(&p.Tally)
		}
	}
	// Entries that an earlier scan wrote count as AlreadyDone in a later scan.
	n := min(m.rewritten, c.AlreadyDone)
	c.Written, c.AlreadyDone = c.Written+n, c.AlreadyDone-n
	return c
}

// keepProgress calls Config.Progress until stop is closed.
func (m *migration) keepProgress(stop <-chan struct{}) {
	var pace rediswalk.Pace
	rediswalk.KeepReporting(m.tuning.ProgressEvery, stop, func(final bool) {
		p := m.progress(&pace)
		p.Final = final
		m.Progress(p)
	})
}

func (m *migration) progress(pace *rediswalk.Pace) Progress {
	m.walk.Mu.Lock()
	p := Progress{Counts: m.counts(), Phase: m.phase, Fraction: m.walk.Fraction(), Elapsed: time.Since(m.started)}
	m.walk.Mu.Unlock()
	p.Paused = m.throttle.Paused()
	p.Rate, p.Remaining = pace.Update(p.Elapsed, p.Seen, p.Fraction)
	return p
}

func (m *migration) report(complete bool) *Report {
	m.walk.Mu.Lock()
	defer m.walk.Mu.Unlock()
	r := &Report{
		Operation:         m.Operation.String(),
		Servers:           m.servers.Addresses(),
		Databases:         []int{m.servers.Database()},
		Key:               m.present.String(),
		From:              m.From.stored(),
		DryRun:            m.DryRun,
		LeaveNumbers:      m.LeaveNumbers,
		MovedNames:        !m.inPlace(),
		KeysProvenBy:      m.provenBy,
		UnmatchedExcludes: m.exclude.Unmatched(m.Exclude),
		Complete:          complete,
		Runs:              m.before.Runs,
		Started:           m.before.Started,
		Elapsed:           m.before.Elapsed + time.Since(m.started),
		Masters:           len(m.walk.Tracks),
		Restarts:          m.before.Restarts + m.walk.Restarts,
		PrimaryChanged:    m.primaryChanged,
		Moved:             m.moved,
		OppositeLeft:      m.oppositeLeft,
		Warnings:          slices.Clone(m.warnings),
		Counts:            m.counts(),
	}
	if m.present.HasID {
		r.KeyID = m.present.ID
	}
	if m.names != nil {
		r.HiddenNames, r.PRFKey = true, m.prfSet().PrimaryID
	}
	if m.To != nil {
		r.To = m.To.stored()
	}
	if r.Runs == 0 { // it ended before the scan
		r.Started, r.UnmatchedExcludes = m.started.UTC(), nil
	}
	return r
}
