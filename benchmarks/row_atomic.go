package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/redistest"
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
	return withSealed(ctx, 0, func(client *redis.Client, s *middleware.Store) error {
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
			return fmt.Errorf("%d of %d increments were lost", calls-counted, calls)
		}
		b.report(throughput(name, "one sealed counter / Redis INCR, none lost", samples[0], samples[1], atLeast(0.3)))
		return nil
	})
}

// withSealed calls measure with a sealed redisstore over a separate server, behind a network of that round trip if it is
// not 0.
func withSealed(ctx context.Context, roundTrip time.Duration, measure func(client *redis.Client, s *middleware.Store) error) error {
	return withServer(ctx, roundTrip, func(k *keys, _ *redistest.Server, client *redis.Client) error {
		backing, err := redisstore.New(client)
		if err != nil {
			return err
		}
		s, err := middleware.New(backing, k.envelope)
		if err != nil {
			return err
		}
		return measure(client, s)
	})
}
