package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/middleware"
)

// batchSize is the number of entries of a measured batch.
const batchSize = 100

// batchRow compares batches with the same entries one by one, on loopback and over a round trip of 0.5 ms. Both sides are
// sealed.
func batchRow(ctx context.Context, b *bench) error {
	for _, network := range []struct {
		suffix    string
		roundTrip time.Duration
		get, set  float64 // budgets
	}{
		{"", 0, 4, 3},
		{", round trip of 0.5 ms", roundTripTime, 20, 20},
	} {
		err := withSealed(ctx, network.roundTrip, func(_ *redis.Client, s *middleware.Store) error {
			return batchCases(ctx, b, s, network.suffix, network.get, network.set)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func batchCases(ctx context.Context, b *bench, s *middleware.Store, suffix string, get, set float64) error {
	value := payload(1 << 10)
	keys, items := make([]string, batchSize), make(map[string]any, batchSize)
	for i := range keys {
		keys[i] = "batch:" + strconv.Itoa(i)
		items[keys[i]] = value
	}
	if err := s.SetMany(ctx, items); err != nil {
		return err
	}
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
		samples, err := interleave(ctx, b.plan(21, 75*time.Millisecond), side{name: "batch", do: c.batch}, side{name: "single", do: c.single})
		if err != nil {
			return err
		}
		b.report(throughput(c.name, c.what, samples[0], samples[1], atLeast(c.budget)))
	}
	return nil
}
