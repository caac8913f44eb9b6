package main

import (
	"context"
	"time"
)

// fairnessWriters is the number of goroutines that set next to one that gets.
const fairnessWriters = 64

// fairnessRow compares the latency of one reader next to 64 writers with that over the baseline.
func fairnessRow(ctx context.Context, b *bench) error {
	const name = "1 reader, 64 writers, 1 KiB"
	if !b.wants(name) {
		return nil
	}
	kinds := combineContenders
	return withContenders(ctx, deployment{}, kinds, func(contenders []*contender) error {
		value := payload(1 << 10)
		sides := make([]side, len(contenders))
		for i, c := range contenders {
			if err := c.fill(ctx, 256, value); err != nil {
				return err
			}
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
		samples, err := interleave(ctx, p, sides...)
		if err != nil {
			return err
		}
		p99 := func(s sample) float64 { return float64(s.p99) }
		p50 := func(s sample) float64 { return float64(s.p50) }
		for i, kind := range kinds[1:] {
			var budget *Budget
			if kind.sealed && !kind.alone {
				budget = atMost(1)
			}
			median := ratios(samples[i+1], samples[0], p50)
			b.report(Result{
				Case: name, What: "p99 of the reader, " + kind.what + " / " + kinds[0].what, Unit: "x",
				Value: ratios(samples[i+1], samples[0], p99), P50: &median, Budget: budget,
				Figures: took(time.Duration(medianOf(samples[i+1], p99))) + " / " + took(time.Duration(medianOf(samples[0], p99))),
			})
		}
		return nil
	})
}
