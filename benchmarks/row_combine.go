package main

import (
	"context"
	"fmt"
	"slices"
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
	return measureCallers(ctx, b, cases, deployment{}, combineContenders)
}

// tlsRow is combineRow over TLS, for the baseline as well.
func tlsRow(ctx context.Context, b *bench) error {
	var cases []callersCase
	for _, callers := range []int{8, 64} {
		cases = append(cases, callersCase{callers: callers, size: 1 << 10, tls: true}, callersCase{callers: callers, size: 1 << 10, get: true, tls: true})
	}
	return measureCallers(ctx, b, cases, deployment{tls: true}, combineContenders)
}

// clusterRow is combineRow over a Cluster of three masters.
func clusterRow(ctx context.Context, b *bench) error {
	cases := []callersCase{{callers: 64, size: 1 << 10, cluster: true}, {callers: 64, size: 1 << 10, get: true, cluster: true}}
	return measureCallers(ctx, b, cases, deployment{cluster: true}, combineContenders)
}

// networkRow is combineRow over a round trip of 0.5 ms, with go-redis's default pool and with a pool of 300.
func networkRow(ctx context.Context, b *bench) error {
	for _, pool := range []int{0, 300} {
		var cases []callersCase
		for _, callers := range []int{8, 64, 256} {
			for _, get := range []bool{false, true} {
				cases = append(cases, callersCase{callers: callers, size: 1 << 10, get: get, pool: pool, network: true})
			}
		}
		err := measureCallers(ctx, b, cases, deployment{roundTrip: roundTripTime, pool: pool}, combineContenders)
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
	err := measureCallers(ctx, b, cases, deployment{}, []contenderKind{
		{name: "base", what: "baseline"},
		{name: "near", what: "sealed, near cache", own: true, sealed: true, change: withNearCache},
	})
	if err != nil {
		return err
	}
	return nearFreshness(ctx, b)
}

func withNearCache(o *redis.Options) error {
	near, err := redisstore.NewNearCache(256<<20, time.Minute)
	o.ClientSideCache = near
	return err
}

// deployment is where the contenders of a case find Redis.
type deployment struct {
	roundTrip time.Duration // of an emulated network, 0 for none
	pool      int           // connections of each client, 0 for go-redis's default
	tls       bool
	cluster   bool
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
	tls, cluster        bool
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
	case c.tls && c.callers == 64:
		return atLeast(1)
	case c.tls:
		return nil
	case c.cluster:
		return atLeast(1.3)
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

// measureCallers measures the cases over separate servers.
func measureCallers(ctx context.Context, b *bench, cases []callersCase, d deployment, kinds []contenderKind) error {
	wanted := slices.DeleteFunc(cases, func(c callersCase) bool { return !b.matches(c.name()) })
	if len(wanted) == 0 {
		return nil
	}
	return withContenders(ctx, d, kinds, func(contenders []*contender) error {
		for _, c := range wanted {
			if b.wants(c.name()) {
				if err := c.measure(ctx, b, kinds, contenders); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// withContenders calls measure with a contender of each kind, over servers that it starts.
func withContenders(ctx context.Context, d deployment, kinds []contenderKind, measure func([]*contender) error) error {
	k, err := newKeys(ctx)
	if err != nil {
		return err
	}
	defer k.close()
	connect, nodes, stop, err := d.start(ctx)
	if err != nil {
		return err
	}
	defer stop()
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
		client, err := connect(kind)
		if err != nil {
			return err
		}
		c, err := newContenderOver(kind.name, nodes, client, kind.own, redisstore.Config{DisableCombining: kind.alone}, a)
		if err != nil {
			return err
		}
		contenders = append(contenders, c)
	}
	return measure(contenders)
}

// start starts the servers. connect makes a client for a kind of contender.
func (d deployment) start(ctx context.Context) (
	connect func(contenderKind) (redis.UniversalClient, error), nodes []*redistest.Server, stop func(), err error,
) {
	if d.cluster {
		c, err := redistest.RunCluster(ctx, redistest.Options{})
		if err != nil {
			return nil, nil, nil, err
		}
		return func(kind contenderKind) (redis.UniversalClient, error) {
			o := c.ClientOptions()
			o.ContextTimeoutEnabled = kind.own
			return redis.NewClusterClient(o), nil
		}, c.Nodes(), func() { _ = c.Close() }, nil
	}
	server, err := startRedis(ctx, d.tls)
	if err != nil {
		return nil, nil, nil, err
	}
	addr, stop := server.Addr(), func() { _ = server.Close() }
	if d.roundTrip > 0 {
		proxy, err := startDelay(addr, d.roundTrip)
		if err != nil {
			stop()
			return nil, nil, nil, err
		}
		addr, stop = proxy.addr(), func() {
			proxy.close()
			_ = server.Close()
		}
	}
	return func(kind contenderKind) (redis.UniversalClient, error) {
		o := server.ClientOptions()
		o.Addr, o.ContextTimeoutEnabled, o.PoolSize = addr, kind.own, d.pool
		if kind.change != nil {
			if err := kind.change(o); err != nil {
				return nil, err
			}
		}
		return redis.NewClient(o), nil
	}, []*redistest.Server{server}, stop, nil
}

func (c callersCase) measure(ctx context.Context, b *bench, kinds []contenderKind, contenders []*contender) error {
	value := payload(c.size)
	keys := 256
	if b.scale == smallestScale {
		keys = 8
	}
	sides, err := sidesOf(ctx, contenders, c.get, c.callers, keys, value)
	if err != nil {
		return err
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
