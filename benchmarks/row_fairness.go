package main

import (
	"context"
	"time"
)

// fairnessWriters is the number of goroutines that set next to one that gets.
const fairnessWriters = 64

// fairnessRow compares the latency of one reader next to 64 writers with that over the baseline.
func fairnessRow(ctx context.Context, b *bench) {
	const name = "1 reader, 64 writers, 1 KiB"
	if !b.wants(name) {
		return
	}
	kinds, value := combineContenders, payload(1<<10)
	sides := make([]side, len(kinds))
	for i, c := range b.contenders(ctx, deployment{}, kinds) {
		b.Check(c.fill(ctx, 256, value))
		get, set := c.get(1, value), c.set(fairnessWriters, value)
		sides[i] = c.side(func(ctx context.Context, worker, i int) error {
			if worker == 0 {
				return get.do(ctx, 0, i)
			}
			return set.do(ctx, worker-1, i)
		})
	}
	p := b.plan(21, 100*time.Millisecond)
	p.workers, p.latencies, p.observed = fairnessWriters+1, true, 1
	samples := b.interleave(ctx, p, sides...)
	for i, kind := range kinds[1:] {
		var budget *Budget
		if kind.sealed && !kind.alone {
			budget = atMost(1)
		}
		median := ratios(samples[i+1], samples[0], sample.p50Nanoseconds)
		b.report(Result{
			Case: name, What: "p99 of the reader, " + kind.what + " / " + kinds[0].what, Unit: "x",
			Value: ratios(samples[i+1], samples[0], sample.p99Nanoseconds), P50: &median, Budget: budget,
			Figures: took(time.Duration(medianOf(samples[i+1], sample.p99Nanoseconds))) + " / " + took(time.Duration(medianOf(samples[0], sample.p99Nanoseconds))),
		})
	}
}
