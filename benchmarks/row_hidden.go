package main

import (
	"context"
	"time"

	"github.com/sealcache/sealcache/middleware"
)

// hiddenRow measures the processor time that hidden names add to a set and to a get of 1 KiB.
func hiddenRow(ctx context.Context, b *bench) error {
	k, err := newKeys(ctx)
	if err != nil {
		return err
	}
	defer k.close()
	names, err := newNames(ctx, k)
	if err != nil {
		return err
	}
	value := payload(1 << 10)
	for _, operation := range []string{"set", "get"} {
		name := operation + ", 1 KiB"
		if !b.wants(name) {
			continue
		}
		var sides []side
		for _, c := range []struct {
			name string
			opts []middleware.Option
		}{
			{"visible", nil},
			{"WithHiddenKeys", []middleware.Option{middleware.WithHiddenKeys(names)}},
			{"WithOneWayKeys", []middleware.Option{middleware.WithOneWayKeys(names)}},
		} {
			opts := append(c.opts, middleware.WithNamespace("benchmark"))
			s, _, err := storeSide(ctx, c.name, operation, k.envelope, value, opts...)
			if err != nil {
				return err
			}
			sides = append(sides, s)
		}
		samples, err := interleave(ctx, b.plan(41, 20*time.Millisecond), sides...)
		if err != nil {
			return err
		}
		time1 := sample.cpuNanoseconds
		if !cpuKnown(samples...) {
			time1 = sample.nanoseconds
		}
		for i, s := range sides[1:] {
			hidden, visible := samples[i+1], samples[0]
			b.report(Result{
				Case: name, What: s.name + " - visible names", Unit: "µs", Value: differences(hidden, visible, time1, time.Microsecond),
				Budget:  atMost(1.5),
				Figures: took(time.Duration(medianOf(hidden, time1))) + " - " + took(time.Duration(medianOf(visible, time1))),
			})
		}
	}
	return nil
}
