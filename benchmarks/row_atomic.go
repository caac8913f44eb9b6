package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// counterClients is the number of clients that increment one counter.
const counterClients = 8

// atomicRow compares increments of one sealed counter with Redis' own INCR of a plaintext one.
func atomicRow(ctx context.Context, b *bench) {
	const name = "increment, 8 clients"
	if !b.wants(name) {
		return
	}
	client, s := b.sealed(ctx, 0)
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
	samples := b.interleave(ctx, p, sides...)
	counted, err := s.Increment(ctx, "counter:sealed", 0)
	b.Check(err)
	if calls := sealedCalls.Load(); counted != calls {
		b.Check(fmt.Errorf("%d of %d increments were lost", calls-counted, calls))
	}
	b.report(throughput(name, "one sealed counter / Redis INCR, none lost", samples[0], samples[1], atLeast(0.3)))
}

// sealed returns a sealed redisstore over a separate server, behind a network of that round trip if it is not 0.
func (b *bench) sealed(ctx context.Context, roundTrip time.Duration) (*redis.Client, *middleware.Store) {
	_, client := b.redis(ctx, roundTrip)
	backing, err := redisstore.New(client)
	b.Check(err)
	s, err := middleware.New(backing, b.keys(ctx).envelope)
	b.Check(err)
	return client, s
}
