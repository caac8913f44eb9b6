package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/sealcache/sealcache/middleware"
)

// batchSize is the number of entries of a measured batch.
const batchSize = 100

// batchRow compares batches with the same entries one by one, on loopback and over a round trip of 0.5 ms. Both sides are
// sealed.
func batchRow(ctx context.Context, b *bench) {
	_, near := b.sealed(ctx, 0)
	batchCases(ctx, b, near, "", 4, 3)
	_, far := b.sealed(ctx, roundTripTime)
	batchCases(ctx, b, far, ", round trip of 0.5 ms", 20, 20)
}

// batchCases measures the batches of one store, with the budgets of get and set.
func batchCases(ctx context.Context, b *bench, s *middleware.Store, suffix string, get, set float64) {
	value := payload(1 << 10)
	keys, items := make([]string, batchSize), make(map[string]any, batchSize)
	for i := range keys {
		keys[i] = "batch:" + strconv.Itoa(i)
		items[keys[i]] = value
	}
	b.Check(s.SetMany(ctx, items))
	each := func(do func(ctx context.Context, key string) error) func(ctx context.Context, _, _ int) error {
		return func(ctx context.Context, _, _ int) error {
			for _, key := range keys {
				if err := do(ctx, key); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, c := range []struct {
		name, what    string
		batch, single func(ctx context.Context, worker, i int) error
		budget        float64
	}{
		{
			"get 100 x 1 KiB" + suffix, "GetMany / Get of each",
			func(ctx context.Context, _, _ int) error {
				got, err := s.GetMany(ctx, keys)
				if err == nil && len(got) != batchSize {
					err = errors.New("GetMany did not return all entries")
				}
				return err
			},
			each(func(ctx context.Context, key string) error {
				_, err := s.Get(ctx, key)
				return err
			}),
			get,
		},
		{
			"set 100 x 1 KiB" + suffix, "SetMany / Set of each",
			func(ctx context.Context, _, _ int) error { return s.SetMany(ctx, items) },
			each(func(ctx context.Context, key string) error { return s.Set(ctx, key, value) }),
			set,
		},
	} {
		if !b.wants(c.name) {
			continue
		}
		samples := b.interleave(ctx, b.plan(21, 75*time.Millisecond), side{name: "batch", do: c.batch}, side{name: "single", do: c.single})
		b.report(throughput(c.name, c.what, samples[0], samples[1], atLeast(c.budget)))
	}
}
