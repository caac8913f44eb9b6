package main

import (
	"fmt"
	"io"
	"regexp"
	"time"
)

// scale says how much time a run may take.
type scale int

const (
	fullScale     scale = iota // about five minutes for all rows
	quickScale                 // about a minute
	smallestScale              // a few seconds, for tests
)

func (s scale) String() string {
	return [...]string{"full", "quick", "smallest"}[s]
}

// bench is what a row works with. It is not safe for concurrent use.
type bench struct {
	scale   scale
	rounds  int // as the user asked, or 0
	match   *regexp.Regexp
	log     io.Writer
	row     string
	results []Result
}

// wants reports whether a case of the present row is to be measured, and says on the log that it begins.
func (b *bench) wants(name string) bool {
	if !b.match.MatchString(b.row + "/" + name) {
		return false
	}
	fmt.Fprintf(b.log, "%s: %s\n", b.row, name)
	return true
}

// plan is how long a comparison is measured: the given number of rounds and length of a slice, or less of both.
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

// count is n, or less at smaller scales.
func (b *bench) count(n int) int {
	switch b.scale {
	case quickScale:
		return max(n/4, 1)
	case smallestScale:
		return max(n/100, 1)
	}
	return n
}

// report adds a figure to the table and holds it against its budget.
func (b *bench) report(r Result) {
	r.Row = b.row
	if r.Budget != nil {
		r.Verdict = okVerdict
		if !r.Budget.met(r.Value.Median) {
			r.Verdict = missedVerdict
		}
	}
	b.results = append(b.results, r)
}
