package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/benchmarks/internal/steps"
)

// scale is the time that a run may take.
type scale int

const (
	fullScale     scale = iota // about a quarter of an hour for all rows
	quickScale                 // about a minute
	smallestScale              // a few seconds, for tests
)

func (s scale) String() string {
	return [...]string{"full", "quick", "smallest"}[s]
}

// bench measures a row and collects its results. It is not safe for concurrent use.
type bench struct {
	scale   scale
	rounds  int // as the user asked, or 0
	match   *regexp.Regexp
	log     io.Writer
	row     string
	results []Result

	*steps.Steps // of the present row
}

// measure runs a row. It returns the error that ended the row, or nil.
func (b *bench) measure(ctx context.Context, r row) error {
	b.row = r.name
	return steps.Run(func(s *steps.Steps) {
		b.Steps = s
		r.run(ctx, b)
	})
}

// keys returns new keys for the row.
func (b *bench) keys(ctx context.Context) *keys {
	k, err := newKeys(ctx)
	b.Check(err)
	b.Cleanup(k.close)
	return k
}

// envelope returns an Envelope under a key-encryption key for the row.
func (b *bench) envelope(ctx context.Context, kek tink.AEADWithContext, opts ...aead.EnvelopeOption) *aead.Envelope {
	e, err := aead.NewEnvelope(ctx, kek, opts...)
	b.Check(err)
	b.Cleanup(func() { _ = e.Close() })
	return e
}

// interleave measures sides as the function interleave does.
func (b *bench) interleave(ctx context.Context, p plan, sides ...side) [][]sample {
	samples, err := interleave(ctx, p, sides...)
	b.Check(err)
	return samples
}

// wants reports whether the user asked for a case of the present row, and logs that it begins.
func (b *bench) wants(name string) bool {
	if !b.matches(name) {
		return false
	}
	fmt.Fprintf(b.log, "%s: %s\n", b.row, name)
	return true
}

// matches is wants without the log.
func (b *bench) matches(name string) bool { return b.match.MatchString(b.row + "/" + name) }

// plan returns the number of rounds and the length of a slice at the present scale. The given ones are for a full run.
func (b *bench) plan(rounds int, slice time.Duration) plan {
	switch b.scale {
	case quickScale:
		rounds, slice = min(rounds, 5), slice/2
	case smallestScale:
		rounds, slice = 1, time.Millisecond
	}
	if b.rounds > 0 {
		rounds = b.rounds
	}
	return plan{rounds: rounds, slice: slice, workers: 1}
}

// count returns n, or less at smaller scales.
func (b *bench) count(n int) int {
	switch b.scale {
	case quickScale:
		return max(n/4, 1)
	case smallestScale:
		return max(n/100, 1)
	}
	return n
}

// report adds a figure to the table and compares it with its budget.
func (b *bench) report(r Result) {
	r.Row = b.row
	if r.Budget != nil {
		r.Verdict = okVerdict
		if !r.Budget.kept(r.Value.Median) {
			r.Verdict = missedVerdict
		}
	}
	b.results = append(b.results, r)
}
