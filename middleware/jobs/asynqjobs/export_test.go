package asynqjobs

import (
	"context"
	"time"
)

// WithNow is the clock of dates and of patience with groups.
func WithNow(now func() time.Time) Option {
	return func(c *config) error {
		c.now = now
		return nil
	}
}

// WithGroupOpening bounds the opening of a group.
func WithGroupOpening(d time.Duration) Option {
	return func(c *config) error {
		c.opening = d
		return nil
	}
}

const (
	GroupPatience = groupPatience
	PatienceAgain = patienceAgain
	MaxImpatient  = maxImpatient
)

// WithHeldUp bounds the age of the last ticks that a scheduler goes by.
func WithHeldUp(d time.Duration) SchedulerOption {
	return func(s *Scheduler) error {
		s.heldUp = d
		return nil
	}
}

// Settle does what Run does, until everything that is stored has been opened and what
// is due has been enqueued, and looks once more.
func (s *Scheduler) Settle(ctx context.Context) {
	r := s.newRun()
	for range 3 {
		r.pass(ctx)
		r.opener.workers.Wait()
	}
}
