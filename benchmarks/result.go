package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Result is one figure of the table.
type Result struct {
	Row  string `json:"row"`
	Case string `json:"case"`
	// The field names the two things that are compared, or the thing that is counted.
	What string `json:"what"`
	// Unit is the unit of Value and of the budget: "x" for ratios.
	Unit   string  `json:"unit"`
	Value  Spread  `json:"value"`
	Budget *Budget `json:"budget,omitempty"`
	// Verdict is "ok", "MISSED", or empty without a budget.
	Verdict string `json:"verdict,omitempty"`
	// CPU is the ratio of the processor time per operation, of this process and the server together. It is nil if
	// unknown. Below 1 is less. On processors that are fully used it is the inverse of the ratio of throughputs.
	CPU *Spread `json:"cpu,omitempty"`
	// P50 and P99 are ratios of percentiles of the latency: below 1 is faster. They are nil if no latency was taken.
	P50 *Spread `json:"p50,omitempty"`
	P99 *Spread `json:"p99,omitempty"`
	// Figures are the medians that make the ratio. They hold only for the machine of the run.
	Figures string `json:"figures,omitempty"`
}

// throughput returns the ratio of two throughputs.
func throughput(name, what string, numerator, denominator []sample, budget *Budget) Result {
	return Result{
		Case: name, What: what, Unit: "x",
		Value:   ratios(numerator, denominator, sample.perSecond),
		Budget:  budget,
		Figures: rate(medianOf(numerator, sample.perSecond)) + " / " + rate(medianOf(denominator, sample.perSecond)),
	}
}

const (
	okVerdict     = "ok"
	missedVerdict = "MISSED"
)

// Spread is a median of several rounds, with the extremes. The median of an even number of rounds is the mean of the
// two in the middle.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// exactly returns the Spread of a constant.
func exactly(v float64) Spread { return Spread{v, v, v} }

// spreadOf returns the Spread of the values. It panics if there are none.
func spreadOf(values []float64) Spread {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return Spread{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Max: sorted[n-1]}
}

// Budget is a bound for the median of a figure.
type Budget struct {
	// Op is "<=" or ">=".
	Op    string  `json:"op"`
	Bound float64 `json:"bound"`
}

func atMost(v float64) *Budget  { return &Budget{"<=", v} }
func atLeast(v float64) *Budget { return &Budget{">=", v} }

func (b Budget) kept(v float64) bool {
	if math.IsNaN(v) {
		return false
	}
	if b.Op == "<=" {
		return v <= b.Bound
	}
	return v >= b.Bound
}

func (b Budget) String() string { return b.Op + " " + number(b.Bound) }

// number returns three or four significant digits, and whole numbers without a fraction.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v == math.Trunc(v) && a >= 10:
		return fmt.Sprintf("%.0f", v)
	case a >= 100:
		return fmt.Sprintf("%.1f", v)
	case a >= 10:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}

// sizeName returns a size with its unit.
func sizeName(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	default:
		return fmt.Sprintf("%d B", n)
	}
}

// rate returns operations per second with their unit.
func rate(perSecond float64) string {
	switch {
	case perSecond >= 1e6:
		return fmt.Sprintf("%.2fM/s", perSecond/1e6)
	case perSecond >= 1e4:
		return fmt.Sprintf("%.1fk/s", perSecond/1e3)
	default:
		return fmt.Sprintf("%.0f/s", perSecond)
	}
}

// took returns the time of one operation with its unit.
func took(d time.Duration) string {
	switch {
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	case d >= 10*time.Microsecond:
		return d.Round(100 * time.Nanosecond).String()
	default:
		return d.Round(time.Nanosecond).String()
	}
}
