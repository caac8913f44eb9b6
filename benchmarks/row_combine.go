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
func combineRow(ctx context.Context, b *bench) {
	measureCallers(ctx, b, deployment{}.cases([]int{8, 32, 64, 256}, 64, 1<<10, 16<<10), combineContenders)
}

// tlsRow is combineRow over TLS, for the baseline as well.
func tlsRow(ctx context.Context, b *bench) {
	measureCallers(ctx, b, deployment{tls: true}.cases([]int{8, 64}, 1<<10), combineContenders)
}

// clusterRow is combineRow over a Cluster of three masters.
func clusterRow(ctx context.Context, b *bench) {
	measureCallers(ctx, b, deployment{cluster: true}.cases([]int{64}, 1<<10), combineContenders)
}

// networkRow is combineRow over a round trip of 0.5 ms, with go-redis's default pool and with a pool of 300.
func networkRow(ctx context.Context, b *bench) {
	for _, pool := range []int{0, 300} {
		measureCallers(ctx, b, deployment{roundTrip: roundTripTime, pool: pool}.cases([]int{8, 64, 256}, 1<<10), combineContenders)
	}
}

// nearRow compares hot reads from a near cache with the same baseline.
func nearRow(ctx context.Context, b *bench) {
	var cases []callersCase
	for _, size := range []int{64, 1 << 10, 16 << 10} {
		cases = append(cases, callersCase{callers: 8, size: size, get: true, near: true})
	}
	measureCallers(ctx, b, cases, []contenderKind{
		{name: "base", what: "baseline"},
		{name: "near", what: "sealed, near cache", own: true, sealed: true, change: withNearCache},
	})
	nearFreshness(ctx, b)
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
	deployment
	callers, size int
	get, near     bool
}

// cases returns a set and a get for each number of callers and each size.
func (d deployment) cases(callers []int, sizes ...int) []callersCase {
	var cases []callersCase
	for _, n := range callers {
		for _, size := range sizes {
			cases = append(cases, callersCase{deployment: d, callers: n, size: size}, callersCase{deployment: d, callers: n, size: size, get: true})
		}
	}
	return cases
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
	case c.roundTrip > 0:
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
	case c.roundTrip > 0:
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

// measureCallers measures cases of one deployment over separate servers.
func measureCallers(ctx context.Context, b *bench, cases []callersCase, kinds []contenderKind) {
	wanted := slices.DeleteFunc(cases, func(c callersCase) bool { return !b.matches(c.name()) })
	if len(wanted) == 0 {
		return
	}
	contenders := b.contenders(ctx, wanted[0].deployment, kinds)
	for _, c := range wanted {
		if b.wants(c.name()) {
			c.measure(ctx, b, kinds, contenders)
		}
	}
}

// contenders returns a contender of each kind, over servers that it starts.
func (b *bench) contenders(ctx context.Context, d deployment, kinds []contenderKind) []*contender {
	k := b.keys(ctx)
	connect, nodes := b.deploy(ctx, d)
	contenders := make([]*contender, len(kinds))
	for i, kind := range kinds {
		var a tink.AEADWithContext
		if kind.sealed {
			a = k.envelope
		}
		client, err := connect(kind)
		b.Check(err)
		c, err := newContenderOver(kind.name, nodes, client, kind.own, redisstore.Config{DisableCombining: kind.alone}, a)
		b.Check(err)
		b.Cleanup(c.close)
		contenders[i] = c
	}
	return contenders
}

// deploy starts the servers of a deployment. connect makes a client for a kind of contender.
func (b *bench) deploy(ctx context.Context, d deployment) (
	connect func(contenderKind) (redis.UniversalClient, error), nodes []*redistest.Server,
) {
	if d.cluster {
		c, err := redistest.RunCluster(ctx, redistest.Options{})
		b.Check(err)
		b.Cleanup(func() { _ = c.Close() })
		return func(kind contenderKind) (redis.UniversalClient, error) {
			o := c.ClientOptions()
			o.ContextTimeoutEnabled = kind.own
			return redis.NewClusterClient(o), nil
		}, c.Nodes()
	}
	server := b.server(ctx, redistest.Options{TLS: d.tls})
	addr := b.delayed(server.Addr(), d.roundTrip)
	return func(kind contenderKind) (redis.UniversalClient, error) {
		o := server.ClientOptions()
		o.Addr, o.ContextTimeoutEnabled, o.PoolSize = addr, kind.own, d.pool
		if kind.change != nil {
			if err := kind.change(o); err != nil {
				return nil, err
			}
		}
		return redis.NewClient(o), nil
	}, []*redistest.Server{server}
}

func (c callersCase) measure(ctx context.Context, b *bench, kinds []contenderKind, contenders []*contender) {
	value := payload(c.size)
	keys := 256
	if b.scale == smallestScale {
		keys = 8
	}
	p := b.plan(21, 100*time.Millisecond)
	p.workers, p.latencies = c.callers, true
	samples := b.interleave(ctx, p, b.sidesOf(ctx, contenders, c.get, c.callers, keys, value)...)
	for i, kind := range kinds[1:] {
		budget := c.budget()
		if kind.alone || !kind.sealed {
			budget = nil
		}
		compare(b, c.name(), kind.what+" / "+kinds[0].what, samples[i+1], samples[0], budget)
		if c.get && c.callers == 64 && c.size == 1<<10 && c.roundTrip == 0 && budget != nil {
			b.report(Result{
				Case: c.name(), What: kind.what + " / " + kinds[0].what + ", p99", Unit: "x",
				Value: ratios(samples[i+1], samples[0], sample.p99Nanoseconds), Budget: atMost(1),
			})
		}
	}
}
