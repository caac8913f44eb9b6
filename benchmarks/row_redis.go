package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/redistest"
)

// redisRow compares sealed stores with plaintext ones, and with plaintext ones over TLS. The redis-server runs on the
// processors of the clients.
func redisRow(ctx context.Context, b *bench) {
	wanted := slices.DeleteFunc(redisCases(), func(c redisCase) bool { return !b.matches(c.name()) })
	if len(wanted) == 0 {
		return
	}
	k := b.keys(ctx)
	plain, encrypted := b.server(ctx, redistest.Options{}), b.server(ctx, redistest.Options{TLS: true})

	// Neighbours in this list are measured one after the other. Their names are equally long, because they become keys
	// in Redis.
	var contenders []*contender
	for _, kind := range []struct {
		name   string
		server *redistest.Server
		own    bool
		aead   tink.AEADWithContext
	}{
		{"theirs:sealed", plain, false, k.envelope},
		{"theirs:plain_", plain, false, nil},
		{"redisst:plain", plain, true, nil},
		{"redisst:seald", plain, true, k.envelope},
		{"redisst:tls__", encrypted, true, nil},
	} {
		c, err := newContender(kind.name, kind.server, kind.own, kind.aead)
		b.Check(err)
		b.Cleanup(c.close)
		contenders = append(contenders, c)
	}
	for _, c := range wanted {
		if b.wants(c.name()) {
			c.measure(ctx, b, contenders)
		}
	}
}

type redisCase struct {
	size, clients int
	get           bool
}

func redisCases() []redisCase {
	var cases []redisCase
	for _, clients := range []int{8, 1} {
		for _, size := range sizes() {
			cases = append(cases, redisCase{size, clients, false}, redisCase{size, clients, true})
		}
	}
	return cases
}

func (c redisCase) name() string {
	op, clients := "set", "8 clients"
	if c.get {
		op = "get"
	}
	if c.clients == 1 {
		clients = "1 client"
	}
	return fmt.Sprintf("%s, %s, %s", op, sizeName(c.size), clients)
}

// budget returns the bound for sealed over plaintext throughput, or nil if there is none. Only cases with eight clients
// have one.
func (c redisCase) budget(own bool) *Budget {
	if c.clients != 8 {
		return nil
	}
	switch {
	case c.size == 1<<10 && own:
		return atLeast(0.95)
	case c.size == 1<<10:
		return atLeast(0.90)
	case c.size == 16<<10 && own:
		return atLeast(0.80)
	case c.size == 16<<10:
		return atLeast(0.65)
	}
	return nil
}

// keys returns the number of keys of a case: so many that clients rarely share one, and few enough to fill quickly.
func (c redisCase) keys() int { return min(max(8<<20/c.size, 32), 512) }

func (c redisCase) measure(ctx context.Context, b *bench, contenders []*contender) {
	value := payload(c.size)
	keys := c.keys()
	if b.scale == smallestScale {
		keys = c.clients
	}
	p := b.plan(21, 75*time.Millisecond)
	p.workers, p.latencies = c.clients, true
	samples := b.interleave(ctx, p, b.sidesOf(ctx, contenders, c.get, c.clients, keys, value)...)
	theirsSealed, theirsPlain, plain, sealed, tls := samples[0], samples[1], samples[2], samples[3], samples[4]
	var ahead *Budget
	if c.clients == 8 {
		ahead = atLeast(1)
	}
	compare(b, c.name(), "redisstore, sealed / plaintext", sealed, plain, c.budget(true))
	compare(b, c.name(), "gocache's Redis store, sealed / plaintext", theirsSealed, theirsPlain, c.budget(false))
	compare(b, c.name(), "redisstore, sealed / plaintext over TLS", sealed, tls, ahead)
	compare(b, c.name(), "redisstore, plaintext over TLS / plaintext", tls, plain, nil)
}

// compare reports the ratio of two throughputs, with those of processor time and latency.
func compare(b *bench, name, what string, numerator, denominator []sample, budget *Budget) {
	p50 := ratios(numerator, denominator, sample.p50Nanoseconds)
	p99 := ratios(numerator, denominator, sample.p99Nanoseconds)
	r := throughput(name, what, numerator, denominator, budget)
	r.P50, r.P99 = &p50, &p99
	if cpuKnown(numerator, denominator) {
		used := ratios(numerator, denominator, sample.cpuNanoseconds)
		r.CPU = &used
	}
	b.report(r)
}
