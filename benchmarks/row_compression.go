package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sealcache/sealcache/middleware"
)

// compressionRow compares JSON that is compressed and sealed with plaintext, in bytes, and with sealing alone, in processor
// time.
func compressionRow(ctx context.Context, b *bench) {
	k := b.keys(ctx)
	for _, size := range []int{1 << 10, 16 << 10} {
		value := jsonPayload(size)
		for _, codec := range []struct {
			name   string
			option middleware.Option
			budget *Budget
		}{
			{"zstd", middleware.WithCompression(512), atMost(0.75)},
			{"s2", middleware.WithFastCompression(512), nil},
		} {
			name := sizeName(size) + " of JSON, " + codec.name
			if !b.wants(name) {
				continue
			}
			alone, _ := b.storeSide(ctx, "sealed", "set + get", k.envelope, value)
			compressed, stored := b.storeSide(ctx, codec.name, "set + get", k.envelope, value, codec.option)
			samples := b.interleave(ctx, b.plan(21, 20*time.Millisecond), alone, compressed)
			budget := codec.budget
			if size != 1<<10 {
				budget = nil
			}
			b.report(Result{
				Case: name, What: "bytes, compressed and sealed / plaintext", Unit: "x", Value: exactly(float64(stored) / float64(size)),
				Budget: budget, Figures: fmt.Sprintf("%d / %d bytes", stored, size),
			})
			what, figure := workTime(samples...)
			b.report(Result{
				Case: name, What: "set + get, " + what + ", compressed and sealed / sealed", Unit: "x",
				Value:   ratios(samples[1], samples[0], figure),
				Figures: took(time.Duration(medianOf(samples[1], figure))) + " / " + took(time.Duration(medianOf(samples[0], figure))),
			})
		}
	}
}
