package main

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// roundTripTime is the round trip time of the emulated network.
const roundTripTime = 500 * time.Microsecond

// combineRow compares stores under many callers with what users have today: gocache's own store in plaintext over go-redis
// with default options. The redis-server runs on the processors of the callers.
func combineRow(ctx context.Context, b *bench) error {
	var cases []callersCase
	for _, callers := range []int{8, 32, 64, 256} {
		for _, size := range []int{64, 1 << 10, 16 << 10} {
			cases = append(cases, callersCase{callers: callers, size: size}, callersCase{callers: callers, size: size, get: true})
		}
	}
	return measureCallers(ctx, b, cases, 0, nil, combineContenders)
}

// networkRow is combineRow over a round trip of 0.5 ms, with go-redis's default pool and with a pool of 300.
func networkRow(ctx context.Context, b *bench) error {
	for _, pool := range []int{0, 300} {
		var cases []callersCase
		for _, callers := range []int{8, 64, 256} {
			cases = append(cases, callersCase{callers: callers, size: 1 << 10, get: true, pool: pool, network: true})
		}
		err := measureCallers(ctx, b, cases, roundTripTime, func(o *redis.Options) { o.PoolSize = pool }, combineContenders)
		if err != nil {
			return err
		}
	}
	return nil
}

// nearRow compares hot reads from a near cache with the same baseline.
func nearRow(ctx context.Context, b *bench) error {
	var cases []callersCase
	for _, size := range []int{64, 1 << 10, 16 << 10} {
		cases = append(cases, callersCase{callers: 8, size: size, get: true, near: true})
	}
	return measureCallers(ctx, b, cases, 0, nil, []contenderKind{
		{name: "base", what: "baseline"},
		{name: "near", what: "sealed, near cache", own: true, sealed: true, change: func(o *redis.Options) error {
			near, err := redisstore.NewNearCache(256<<20, time.Minute)
			o.ClientSideCache = near
			return err
		}},
	})
}

// contenderKind is a way to reach Redis. Names are equally long, because they become keys.
type contenderKind struct {
	name, what         string
	own, sealed, alone bool
	change             func(o *redis.Options) error
}

var combineContenders = []contenderKind{ //nolint:gochecknoglobals // a table
	{name: "base", what: "baseline"},
	{name: "seal", what: "sealed, combined", own: true, sealed: true},
	{name: "plai", what: "plaintext, combined", own: true},
	{name: "pool", what: "sealed, over the pool", own: true, sealed: true, alone: true},
}

type callersCase struct {
	callers, size, pool int
	get, network, near  bool
}

func (c callersCase) name() string {
	op := "set"
	if c.get {
		op = "get"
	}
	name := fmt.Sprintf("%s, %s, %d callers", op, sizeName(c.size), c.callers)
	switch {
	case c.pool > 0:
		return fmt.Sprintf("%s, pool of %d", name, c.pool)
	case c.network:
		return name + ", default pool"
	}
	return name
}

// budget returns the bound for a sealed store against the baseline, or nil.
func (c callersCase) budget() *Budget {
	switch {
	case c.near:
		return atLeast(map[int]float64{64: 8, 1 << 10: 3.5, 16 << 10: 1.7}[c.size])
	case c.pool > 0 && c.callers == 64:
		return atLeast(0.90)
	case c.pool > 0:
		return nil
	case c.network:
		return atLeast(map[int]float64{8: 0.95, 64: 2, 256: 5}[c.callers])
	case c.size == 16<<10 && (c.callers == 32 || c.callers == 64) && c.get:
		return atLeast(0.80)
	case c.size == 16<<10 && (c.callers == 32 || c.callers == 64):
		return atLeast(1)
	case c.size == 16<<10:
		return nil
	case c.callers == 8 && c.size == 1<<10 && c.get:
		return atLeast(0.85)
	case c.callers == 8 && c.size == 1<<10:
		return atLeast(0.90)
	case c.callers == 32:
		return atLeast(1.5)
	case c.callers == 64:
		return atLeast(2)
	case c.callers == 256 && c.size == 1<<10:
		return atLeast(2.5)
	}
	return nil
}

// measureCallers measures the cases over a separate server, behind a network of that round trip if it is not 0.
func measureCallers(
	ctx context.Context, b *bench, cases []callersCase, roundTrip time.Duration, change func(o *redis.Options), kinds []contenderKind,
) error {
	wanted := cases[:0:0]
	for _, c := range cases {
		if b.match.MatchString(b.row + "/" + c.name()) {
			wanted = append(wanted, c)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
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
	addr := server.Addr()
	if roundTrip > 0 {
		d, err := startDelay(addr, roundTrip)
		if err != nil {
			return err
		}
		defer d.close()
		addr = d.addr()
	}
	var contenders []*contender
	defer func() {
		for _, c := range contenders {
			c.close()
		}
	}()
	for _, kind := range kinds {
		var a tink.AEADWithContext
		if kind.sealed {
			a = k.envelope
		}
		c, err := kind.contender(server, addr, change, a)
		if err != nil {
			return err
		}
		contenders = append(contenders, c)
	}
	for _, c := range wanted {
		if b.wants(c.name()) {
			if err := c.measure(ctx, b, kinds, contenders); err != nil {
				return err
			}
		}
	}
	return nil
}

func (kind contenderKind) contender(
	server *redistest.Server, addr string, change func(o *redis.Options), a tink.AEADWithContext,
) (*contender, error) {
	o := server.ClientOptions()
	o.Addr, o.ContextTimeoutEnabled = addr, kind.own
	if change != nil {
		change(o)
	}
	if kind.change != nil {
		if err := kind.change(o); err != nil {
			return nil, err
		}
	}
	return newContenderOver(kind.name, server, redis.NewClient(o), kind.own, redisstore.Config{DisableCombining: kind.alone}, a)
}

func (c callersCase) measure(ctx context.Context, b *bench, kinds []contenderKind, contenders []*contender) error {
	value := payload(c.size)
	sides := make([]side, len(contenders))
	for i, s := range contenders {
		if err := s.fill(ctx, max(256, c.callers), value); err != nil {
			return err
		}
		if c.get {
			sides[i] = s.get(c.callers, value)
		} else {
			sides[i] = s.set(c.callers, value)
		}
	}
	p := b.plan(21, 100*time.Millisecond)
	p.workers, p.latencies = c.callers, true
	samples, err := interleave(ctx, p, sides...)
	if err != nil {
		return err
	}
	for i, kind := range kinds[1:] {
		budget := c.budget()
		if kind.alone || !kind.sealed {
			budget = nil
		}
		compare(b, c.name(), kind.what+" / "+kinds[0].what, samples[i+1], samples[0], budget)
		if c.get && c.callers == 64 && c.size == 1<<10 && !c.network && budget != nil {
			p99 := ratios(samples[i+1], samples[0], func(s sample) float64 { return float64(s.p99) })
			b.report(Result{Case: c.name(), What: kind.what + " / " + kinds[0].what + ", p99", Unit: "x", Value: p99, Budget: atMost(1)})
		}
	}
	return nil
}
