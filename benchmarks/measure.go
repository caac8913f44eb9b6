package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// side is one of the ways that are compared.
type side struct {
	name string
	// do runs the operation once. Workers are numbered from 0, and calls with the same number never overlap. i counts
	// the calls of a worker within a slice.
	do func(ctx context.Context, worker, i int) error
	// server returns the processor time of the server that the operation uses. It may be nil.
	server func() (used time.Duration, known bool)
}

// cpu returns the processor time of this process and of the side's server.
func (s side) cpu() (used time.Duration, known bool) {
	used, known = cpuTime()
	if s.server == nil || !known {
		return used, known
	}
	more, known := s.server()
	return used + more, known
}

// plan is the extent of a comparison.
type plan struct {
	rounds  int
	slice   time.Duration // of one side in one round
	workers int
	// latencies makes each operation timed. A reading of the clock costs about 50 ns. For operations of less than some
	// microseconds that would pull the ratio towards 1.
	latencies bool
	// observed is the number of workers whose latencies make the percentiles, from worker 0; 0 for all.
	observed int
}

// sample is the result of one slice of one side.
type sample struct {
	ops      int
	elapsed  time.Duration
	cpu      time.Duration // of this process and the server; 0 if unknown
	p50, p99 time.Duration // with latencies
}

func (s sample) perSecond() float64 { return float64(s.ops) / s.elapsed.Seconds() }

// nanoseconds returns the time of one operation of one worker, by the clock.
func (s sample) nanoseconds() float64 { return float64(s.elapsed.Nanoseconds()) / float64(s.ops) }

// cpuNanoseconds returns the processor time of one operation, or 0 if it is unknown. Other processes change it little:
// they only evict parts of the caches.
func (s sample) cpuNanoseconds() float64 { return float64(s.cpu.Nanoseconds()) / float64(s.ops) }

// p50Nanoseconds and p99Nanoseconds return percentiles of the latency.
func (s sample) p50Nanoseconds() float64 { return float64(s.p50) }
func (s sample) p99Nanoseconds() float64 { return float64(s.p99) }

// workTime returns the figure by which the work of samples is compared, and its name: the processor time, or the time by the clock
// if the processor time is unknown.
func workTime(sides ...[]sample) (name string, figure func(sample) float64) {
	if cpuKnown(sides...) {
		return "CPU time", sample.cpuNanoseconds
	}
	return "time", sample.nanoseconds
}

// cpuKnown reports whether all samples know their processor time.
func cpuKnown(sides ...[]sample) bool {
	for _, samples := range sides {
		for _, s := range samples {
			if s.cpu <= 0 {
				return false
			}
		}
	}
	return true
}

// batchTime is the time between two readings of the clock when operations are not timed one by one.
const batchTime = 200 * time.Microsecond

// interleave measures the sides in turn, once per round, and returns the samples of each side in the order of the
// rounds. Every other round runs backwards, so that no side always follows the same other one.
func interleave(ctx context.Context, p plan, sides ...side) ([][]sample, error) {
	batches := make([]int, len(sides))
	for i, s := range sides {
		var err error
		if batches[i], err = warmUp(ctx, p, s); err != nil {
			return nil, fmt.Errorf("warm up %s: %w", s.name, err)
		}
	}
	samples := make([][]sample, len(sides))
	order := make([]int, len(sides))
	for i := range order {
		order[i] = i
	}
	for range p.rounds {
		for _, i := range order {
			got, err := slice(ctx, p, sides[i], batches[i])
			if err != nil {
				return nil, fmt.Errorf("measure %s: %w", sides[i].name, err)
			}
			samples[i] = append(samples[i], got)
		}
		slices.Reverse(order)
	}
	return samples, nil
}

// warmUp fills caches, pools and connections, and finds the size of a batch.
func warmUp(ctx context.Context, p plan, s side) (batch int, err error) {
	p.slice = min(p.slice, 20*time.Millisecond)
	p.latencies = false
	got, err := slice(ctx, p, s, 1)
	if err != nil {
		return 0, err
	}
	perWorker := time.Duration(got.nanoseconds()) * time.Duration(p.workers)
	return int(max(1, batchTime/max(perWorker, 1))), nil
}

// slice runs the operation on all workers for the length of a slice.
func slice(ctx context.Context, p plan, s side, batch int) (sample, error) {
	runtime.GC() // each side pays for its own garbage
	results := make([]sample, p.workers)
	errs := make([]error, p.workers)
	latencies := make([][]time.Duration, p.workers)
	var wg sync.WaitGroup
	cpuBefore, _ := s.cpu()
	begin := time.Now()
	for w := range p.workers {
		wg.Go(func() {
			if p.latencies {
				results[w].ops, latencies[w], errs[w] = timed(ctx, s, w, begin.Add(p.slice))
			} else {
				results[w].ops, errs[w] = counted(ctx, s, w, batch, begin.Add(p.slice))
			}
		})
	}
	wg.Wait()
	total := sample{elapsed: time.Since(begin)}
	if cpu, known := s.cpu(); known {
		total.cpu = cpu - cpuBefore
	}
	for w := range p.workers {
		if errs[w] != nil {
			return sample{}, errs[w]
		}
		total.ops += results[w].ops
	}
	if p.latencies {
		if p.observed > 0 {
			latencies = latencies[:p.observed]
		}
		all := slices.Concat(latencies...)
		slices.Sort(all)
		total.p50, total.p99 = percentile(all, 50), percentile(all, 99)
	}
	return total, ctx.Err()
}

func counted(ctx context.Context, s side, worker, batch int, until time.Time) (ops int, err error) {
	for {
		for range batch {
			if err := s.do(ctx, worker, ops); err != nil {
				return ops, err
			}
			ops++
		}
		if !time.Now().Before(until) {
			return ops, nil
		}
	}
}

func timed(ctx context.Context, s side, worker int, until time.Time) (ops int, latencies []time.Duration, err error) {
	latencies = make([]time.Duration, 0, 1<<14)
	before := time.Now()
	for {
		if err := s.do(ctx, worker, ops); err != nil {
			return ops, nil, err
		}
		ops++
		after := time.Now()
		latencies = append(latencies, after.Sub(before))
		if !after.Before(until) {
			return ops, latencies, nil
		}
		before = after
	}
}

// percentile returns a percentile of sorted values by the nearest rank: the smallest value that p percent of all do not
// exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(rank, 1)-1]
}

// ratios divides a figure of one side by the same figure of another, round by round.
func ratios(numerator, denominator []sample, figure func(sample) float64) Spread {
	values := make([]float64, len(numerator))
	for i := range numerator {
		values[i] = figure(numerator[i]) / figure(denominator[i])
	}
	return spreadOf(values)
}

// differences subtracts a figure of one side from the same figure of another, round by round, in a unit.
func differences(first, second []sample, figure func(sample) float64, unit time.Duration) Spread {
	values := make([]float64, len(first))
	for i := range first {
		values[i] = (figure(first[i]) - figure(second[i])) / float64(unit)
	}
	return spreadOf(values)
}

// medianOf returns the median of a figure over the rounds.
func medianOf(samples []sample, figure func(sample) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = figure(s)
	}
	return spreadOf(values).Median
}

// allocations returns the average number of allocations of one call by one worker. Call it while no other goroutine
// runs, because it counts theirs too.
func allocations(ctx context.Context, s side, n int) (float64, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // as testing.AllocsPerRun does
	for i := range 3 {                              // fill the pools
		if err := s.do(ctx, 0, i); err != nil {
			return 0, err
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range n {
		if err := s.do(ctx, 0, i); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n), nil
}
