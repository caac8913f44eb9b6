package asynqjobs

import "time"

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
