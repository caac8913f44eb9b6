package rediswalk

import (
	"context"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediserr"
)

// Untouched returns the same servers with a client whose reads do not change the idle times of entries (CLIENT NO-TOUCH,
// Redis 7.2). So the reads do not delay their eviction. The caller closes its Client. It is nil if the servers do not
// offer this or the client cannot be copied.
func (s *Servers) Untouched(ctx context.Context) *Servers {
	var refused atomic.Bool
	noTouch := func(next func(ctx context.Context, cn *redis.Conn) error) func(ctx context.Context, cn *redis.Conn) error {
		return func(ctx context.Context, cn *redis.Conn) error {
			if next != nil {
				if err := next(ctx, cn); err != nil {
					return err
				}
			}
			err := cn.Do(ctx, "client", "no-touch", "on").Err()
			if rediserr.Unavailable(err) {
				refused.Store(true)
				return nil
			}
			return err
		}
	}
	other := *s
	switch c := s.Client.(type) {
	case *redis.Client:
		o := *c.Options()
		restoreDefaults(&o)
		o.OnConnect = noTouch(o.OnConnect)
		other.Client = redis.NewClient(&o)
	case *redis.ClusterClient:
		o := *c.Options()
		o.OnConnect = noTouch(o.OnConnect)
		client := redis.NewClusterClient(&o)
		other.Client, other.cluster = client, client
	default:
		return nil
	}
	if err := other.EachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error { return node.Ping(ctx).Err() }); err != nil || refused.Load() {
		_ = other.Client.Close()
		return nil
	}
	return &other
}
