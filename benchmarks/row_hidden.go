package main

import (
	"context"
	"time"

	"github.com/sealcache/sealcache/middleware"
)

// hiddenRow measures the processor time that hidden names add to a set and to a get of 1 KiB.
func hiddenRow(ctx context.Context, b *bench) {
	k := b.keys(ctx)
	names := b.names(ctx, k)
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
			s, _ := b.storeSide(ctx, c.name, operation, k.envelope, value, opts...)
			sides = append(sides, s)
		}
		samples := b.interleave(ctx, b.plan(41, 20*time.Millisecond), sides...)
		_, figure := workTime(samples...)
		for i, s := range sides[1:] {
			hidden, visible := samples[i+1], samples[0]
			b.report(Result{
				Case: name, What: s.name + " - visible names", Unit: "µs", Value: differences(hidden, visible, figure, time.Microsecond),
				Budget:  atMost(1.5),
				Figures: took(time.Duration(medianOf(hidden, figure))) + " - " + took(time.Duration(medianOf(visible, figure))),
			})
		}
	}
}
