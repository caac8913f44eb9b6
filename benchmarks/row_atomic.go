package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// counterClients is the number of clients that increment one counter.
const counterClients = 8

// atomicRow compares increments of one sealed counter with Redis' own INCR of a plaintext one.
func atomicRow(ctx context.Context, b *bench) error {
	const name = "increment, 8 clients"
	if !b.wants(name) {
		return nil
	}
	return withSealed(ctx, func(client *redis.Client, s *middleware.Store) error {
		var sealedCalls, plainCalls atomic.Int64
		sides := []side{
			{name: "sealed", do: func(ctx context.Context, _, _ int) error {
				sealedCalls.Add(1)
				_, err := s.Increment(ctx, "counter:sealed", 1)
				return err
			}},
			{name: "INCR", do: func(ctx context.Context, _, _ int) error {
				plainCalls.Add(1)
				return client.Incr(ctx, "counter:plain_").Err()
			}},
		}
		p := b.plan(21, 75*time.Millisecond)
		p.workers = counterClients
		samples, err := interleave(ctx, p, sides...)
		if err != nil {
			return err
		}
		counted, err := s.Increment(ctx, "counter:sealed", 0)
		if err != nil {
			return err
		}
		if calls := sealedCalls.Load(); counted != calls {
			return fmt.Errorf("%d of %d increments are lost", calls-counted, calls)
		}
		b.report(Result{
			Case: name, What: "one sealed counter / Redis INCR, none lost", Unit: "x",
			Value:   ratios(samples[0], samples[1], sample.perSecond),
			Budget:  atLeast(0.3),
			Figures: rate(medianOf(samples[0], sample.perSecond)) + " / " + rate(medianOf(samples[1], sample.perSecond)),
		})
		return nil
	})
}

// batchSize is the number of entries of a measured batch.
const batchSize = 100

// batchRow compares batches with the same entries one by one. Both sides are sealed.
func batchRow(ctx context.Context, b *bench) error {
	return withSealed(ctx, func(_ *redis.Client, s *middleware.Store) error {
		value := payload(1 << 10)
		keys, items := make([]string, batchSize), make(map[string]any, batchSize)
		for i := range keys {
			keys[i] = "batch:" + strconv.Itoa(i)
			items[keys[i]] = value
		}
		if err := s.SetMany(ctx, items); err != nil {
			return err
		}
		for _, c := range []struct {
			name, what    string
			batch, single func(ctx context.Context, worker, i int) error
			budget        float64
		}{
			{
				"get 100 x 1 KiB", "GetMany / Get of each",
				func(ctx context.Context, _, _ int) error {
					got, err := s.GetMany(ctx, keys)
					if err == nil && len(got) != batchSize {
						err = errors.New("GetMany left out entries")
					}
					return err
				},
				func(ctx context.Context, _, _ int) error {
					for _, key := range keys {
						if _, err := s.Get(ctx, key); err != nil {
							return err
						}
					}
					return nil
				},
				4,
			},
			{
				"set 100 x 1 KiB", "SetMany / Set of each",
				func(ctx context.Context, _, _ int) error { return s.SetMany(ctx, items) },
				func(ctx context.Context, _, _ int) error {
					for _, key := range keys {
						if err := s.Set(ctx, key, value); err != nil {
							return err
						}
					}
					return nil
				},
				3,
			},
		} {
			if !b.wants(c.name) {
				continue
			}
			samples, err := interleave(ctx, b.plan(21, 75*time.Millisecond), side{name: "batch", do: c.batch}, side{name: "single", do: c.single})
			if err != nil {
				return err
			}
			b.report(Result{
				Case: c.name, What: c.what, Unit: "x",
				Value:   ratios(samples[0], samples[1], sample.perSecond),
				Budget:  atLeast(c.budget),
				Figures: rate(medianOf(samples[0], sample.perSecond)) + " / " + rate(medianOf(samples[1], sample.perSecond)),
			})
		}
		return nil
	})
}

// withSealed calls measure with a sealed redisstore over a separate server.
func withSealed(ctx context.Context, measure func(client *redis.Client, s *middleware.Store) error) error {
	k, err := newKeys(ctx)
	if err != nil {
		return err
	}
	defer k.close()
	server, err := startRedis(ctx, false)
	if err != nil {
		return err
	}
	defer server.Close()
	client := redis.NewClient(server.ClientOptions())
	defer client.Close()
	backing, err := redisstore.New(client)
	if err != nil {
		return err
	}
	s, err := middleware.New(backing, k.envelope)
	if err != nil {
		return err
	}
	return measure(client, s)
}
