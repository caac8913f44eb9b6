package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	gocacheredis "github.com/eko/gocache/store/redis/v4"
	"github.com/redis/go-redis/v9"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// contender is a store over a real Redis, with a client and its own names.
type contender struct {
	name   string
	store  store.StoreInterface
	client redis.UniversalClient
	nodes  []*redistest.Server
	sealed bool

	names      []any // of the entries of fill
	valueBytes int   // of their values
}

// redis starts a server without persistence for the row, and returns a client of it. The client is behind a network of that round
// trip if it is not 0.
func (b *bench) redis(ctx context.Context, roundTrip time.Duration) (*redistest.Server, *redis.Client) {
	server := b.server(ctx, redistest.Options{})
	o := server.ClientOptions()
	o.Addr = b.delayed(o.Addr, roundTrip)
	client := redis.NewClient(o)
	b.Cleanup(func() { _ = client.Close() })
	return server, client
}

// server starts a redis-server for the row.
func (b *bench) server(ctx context.Context, options redistest.Options) *redistest.Server {
	server, err := redistest.Run(ctx, options)
	b.Check(err)
	b.Cleanup(func() { _ = server.Close() })
	return server
}

// delayed returns an address at which a server answers after a round trip, or its own address if the round trip is 0.
func (b *bench) delayed(addr string, roundTrip time.Duration) string {
	if roundTrip == 0 {
		return addr
	}
	proxy, err := startDelay(addr, roundTrip)
	b.Check(err)
	b.Cleanup(proxy.close)
	return proxy.addr()
}

// newContender returns a store over a server: redisstore if own is set, otherwise gocache's store. It is sealed if a is
// not nil.
func newContender(name string, server *redistest.Server, own bool, a tink.AEADWithContext) (*contender, error) {
	o := server.ClientOptions()
	o.ContextTimeoutEnabled = own
	return newContenderOver(name, []*redistest.Server{server}, redis.NewClient(o), own, redisstore.Config{}, a)
}

// newContenderOver is newContender over a client, which it closes if it fails.
func newContenderOver(
	name string, nodes []*redistest.Server, client redis.UniversalClient, own bool, cfg redisstore.Config, a tink.AEADWithContext,
) (*contender, error) {
	c := &contender{name: name, client: client, nodes: nodes}
	var err error
	if own {
		c.store, err = redisstore.NewWithConfig(c.client, cfg)
	} else {
		c.store = gocacheredis.NewRedis(c.client)
	}
	if err == nil && a != nil {
		c.sealed = true
		c.store, err = middleware.New(c.store, a)
	}
	if err != nil {
		return nil, errors.Join(err, c.client.Close())
	}
	return c, nil
}

func (c *contender) close() { _ = c.client.Close() }

// fill sets n keys to value, and checks that Redis holds them sealed or as plaintext.
func (c *contender) fill(ctx context.Context, n int, value []byte) error {
	c.names, c.valueBytes = c.names[:0], len(value)
	for i := range n {
		name := c.name + ":" + strconv.Itoa(i)
		c.names = append(c.names, name)
		if err := roundTrip(ctx, c.store, name, value); err != nil {
			return fmt.Errorf("set and get a value over %s: %w", c.name, err)
		}
	}
	stored, err := c.client.Get(ctx, c.name+":0").Bytes()
	if err != nil {
		return fmt.Errorf("read a stored value of %s from Redis: %w", c.name, err)
	}
	check := checkPlaintext
	if c.sealed {
		check = checkSealed
	}
	if err := check(stored, value); err != nil {
		return fmt.Errorf("check a stored value of %s: %w", c.name, err)
	}
	return nil
}

// set returns the side that sets. Each worker has its own keys.
func (c *contender) set(workers int, value []byte) side {
	boxed := any(value)
	return c.side(func(ctx context.Context, worker, i int) error {
		return c.store.Set(ctx, c.names[(i*workers+worker)%len(c.names)], boxed)
	})
}

// get returns the side that gets.
func (c *contender) get(workers int, value []byte) side {
	return c.side(func(ctx context.Context, worker, i int) error {
		got, err := c.store.Get(ctx, c.names[(i*workers+worker)%len(c.names)])
		if err == nil && lengthOf(got) != len(value) {
			err = errAnotherValue
		}
		return err
	})
}

// sidesOf returns the sides that get, or set. It fills contenders that do not have as many keys with values of this size.
func (b *bench) sidesOf(ctx context.Context, contenders []*contender, get bool, workers, keys int, value []byte) []side {
	sides := make([]side, len(contenders))
	for i, c := range contenders {
		if len(c.names) != keys || c.valueBytes != len(value) {
			b.Check(c.fill(ctx, keys, value))
		}
		if get {
			sides[i] = c.get(workers, value)
		} else {
			sides[i] = c.set(workers, value)
		}
	}
	return sides
}

func (c *contender) side(do func(ctx context.Context, worker, i int) error) side {
	return side{name: c.name, do: do, server: func() (total time.Duration, known bool) {
		for _, node := range c.nodes {
			used, known := cpuTimeOf(node.Pid())
			if !known {
				return 0, false
			}
			total += used
		}
		return total, true
	}}
}
