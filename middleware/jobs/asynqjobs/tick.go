package asynqjobs

import (
	"context"
	"time"
)

// Tick identifies one run of a schedule.
type Tick struct {
	Name string    // of the schedule
	Time time.Time // at which it was due, by the clock of Redis
}

// TickOf returns the tick whose task a handler processes. ctx is the handler's. It reports false
// for a task that is not a tick. Name and time are in the sealed task. They are missing while the
// Scheduler's client writes plaintext.
func TickOf(ctx context.Context) (Tick, bool) {
	d, ok := ctx.Value(deliveryKey{}).(*delivery)
	if !ok || d.tick == nil {
		return Tick{}, false
	}
	return *d.tick, true
}
