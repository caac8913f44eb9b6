package rediswalk

import (
	"context"
	"time"
)

// Tuning holds numbers that only tests change, to meet rare states with few entries.
type Tuning struct {
	Workers         int           // batches that are worked on at the same time
	BatchSize       int           // names in a batch
	Attempts        int           // of an entry that changes
	CheckpointEvery time.Duration // also the longest time that a resumed run repeats
	ProgressEvery   time.Duration
	RetryFor        time.Duration // how long a call is repeated after its first failure
	MaxRead         int           // bytes of a task or a collection that an audit reads: an attacker may have planted a huge one
	ConfirmFor      time.Duration // how long replicas may take to confirm the writes
	CleanupTimeout  time.Duration // bounds each last step of a run (copies, records, replicas), which an ended context does not stop
}

type tuningKey struct{}

// WithTuning returns a context for tests. Zero fields keep their defaults.
func WithTuning(ctx context.Context, t Tuning) context.Context {
	return context.WithValue(ctx, tuningKey{}, t)
}

// TuningOf returns the numbers for a run with a bound of entries per second, or 0 for no bound.
func TuningOf(ctx context.Context, rate float64) Tuning {
	t, _ := ctx.Value(tuningKey{}).(Tuning)
	setDefault(&t.Workers, 4)
	setDefault(&t.BatchSize, batchFor(rate))
	setDefault(&t.Attempts, 8)
	setDefault(&t.CheckpointEvery, time.Second)
	setDefault(&t.ProgressEvery, 200*time.Millisecond)
	setDefault(&t.RetryFor, retryFor)
	setDefault(&t.MaxRead, 64<<20)
	setDefault(&t.ConfirmFor, 15*time.Second) // a replica confirms once a second
	setDefault(&t.CleanupTimeout, 10*time.Second)
	return t
}

func setDefault[T int | time.Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}

// batchFor returns how many names are asked for at a time. With a rate it is the number for a hundredth of a second, if
// that is less. A large burst would load the server more than its rate suggests.
func batchFor(perSecond float64) int {
	const usual, least = 500, 10
	if perSecond > 0 && perSecond < 100*usual {
		return max(int(perSecond/100), least)
	}
	return usual
}
