package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// way is one implementation in a comparison. Calls with the same worker never overlap.
type way struct {
	name   string
	do     func(ctx context.Context, worker, i int) error
	stored int // bytes of a value
}

// compare measures the ways in turn, and prints the throughput of the first over that of each other one.
func (c *comparison) compare(ctx context.Context, name string, workers int, ways []way) {
	rates := make([][]float64, len(ways))
	order := make([]int, len(ways))
	for i := range ways {
		order[i] = i
		if _, err := slice(ctx, min(c.slice, 20*time.Millisecond), workers, ways[i]); err != nil { // warms up
			c.Check(fmt.Errorf("warm up %s: %s: %w", name, ways[i].name, err))
		}
	}
	for range c.rounds {
		for _, i := range order {
			perSecond, err := slice(ctx, c.slice, workers, ways[i])
			if err != nil {
				c.Check(fmt.Errorf("measure %s: %s: %w", name, ways[i].name, err))
			}
			rates[i] = append(rates[i], perSecond)
		}
		slices.Reverse(order) // no way always follows the same other one
	}
	for i := 1; i < len(ways); i++ {
		ratios := make([]float64, len(rates[i]))
		for round := range ratios {
			ratios[round] = rates[0][round] / rates[i][round]
		}
		slices.Sort(ratios)
		fmt.Fprintf(c.table, "%s\t%s\t%.2fx\t%.2f..%.2f\t\t%.0f/s / %.0f/s\t%d / %d\n", name, ways[i].name, median(ratios), ratios[0], ratios[len(ratios)-1],
			median(rates[0]), median(rates[i]), ways[0].stored, ways[i].stored)
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// slice runs a way on all workers for a time, and returns the operations per second.
func slice(ctx context.Context, d time.Duration, workers int, way way) (float64, error) {
	runtime.GC() // each way pays for its own garbage
	counts, errs := make([]int, workers), make([]error, workers)
	var wg sync.WaitGroup
	begin := time.Now()
	for w := range workers {
		wg.Go(func() {
			for time.Since(begin) < d {
				for range 4 {
					if errs[w] = way.do(ctx, w, counts[w]); errs[w] != nil {
						return
					}
					counts[w]++
				}
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(begin)
	total := 0
	for w := range workers {
		if errs[w] != nil {
			return 0, errs[w]
		}
		total += counts[w]
	}
	return float64(total) / elapsed.Seconds(), ctx.Err()
}
