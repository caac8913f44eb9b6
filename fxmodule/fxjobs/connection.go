package fxjobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/fxmodule"
	"github.com/sealcache/sealcache/fxmodule/internal/early"
	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// connection is the client of the Redis of the jobs that everything shares.
type connection struct {
	client redis.UniversalClient

	mu     sync.Mutex
	closed bool
	inUse  <-chan struct{} // open while a server that did not stop in time uses the client; nil without one
}

type connectionInputs struct {
	fx.In

	Settings  settings // first: its keys are then closed after the connection
	Lifecycle fx.Lifecycle
	Own       asynq.RedisConnOpt `optional:"true"`
}

var (
	errNoRedis     = errors.New("jobs have no Redis (set \"jobs.redis\", or provide an asynq.RedisConnOpt with fx.As)")
	errOtherConfig = errors.New("fxjobs: \"jobs.namespace\" is not the namespace of the *jobs.Encryptor (use the same namespace in both)")
	errSentinel    = errors.New("the server is a Sentinel and stores no jobs (use redis+sentinel:// or asynq.RedisFailoverClientOpt)")
	errTwoRedis    = errors.New("\"jobs.redis\" is set, but the application also provides an asynq.RedisConnOpt (remove one)")
)

// newConnection makes the client without connecting.
func newConnection(in connectionInputs) (*connection, error) {
	if err := checkConfig(in.Settings); err != nil {
		return nil, errors.Join(err, in.Settings.Caches.Close())
	}
	client, err := open(in)
	if err != nil {
		return nil, errors.Join(&fxmodule.JobsError{Part: fxmodule.PartStore, Err: err}, in.Settings.Caches.Close())
	}
	c := &connection{client: client}
	if in.Settings.Config.Jobs.PRFKeyset == "" {
		in.Settings.logger().Info("sealcache: jobs have no prf_keyset, so unique tasks are refused (set jobs.prf_keyset)")
	}
	in.Lifecycle.Append(fx.Hook{
		OnStart: func(ctx context.Context) error {
			checking, cancel := early.WithDeadline(ctx)
			defer cancel()
			if err := c.ask(checking, c.checkAtStart); err != nil {
				return early.Close(ctx, err, c.close) // fx stops only the hooks that have started
			}
			return nil
		},
		OnStop: func(ctx context.Context) error { return early.Do(ctx, "fxjobs: close the connection", c.close) },
	})
	return c, nil
}

// checkConfig checks the Config that this module gets. If it is decorated for this module only, fxmodule has not seen it.
func checkConfig(s settings) error {
	if err := s.Config.Validate(); err != nil {
		return err
	}
	if ns := s.Config.Jobs.Namespace; ns != "" && s.Encryptor != nil && ns != s.Encryptor.Namespace() {
		return errOtherConfig
	}
	return s.Config.ValidateJobs()
}

func open(in connectionInputs) (redis.UniversalClient, error) {
	url, own := in.Settings.Config.Jobs.Redis, in.Own
	if nilcheck.IsNil(own) {
		own = nil
	}
	switch {
	case url != "" && own != nil:
		return nil, errTwoRedis
	case url != "":
		ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(in.Settings.Config.KeyTimeout, fxmodule.DefaultKeyTimeout))
		defer cancel()
		return redisstore.OpenClient(ctx, url)
	case own == nil:
		return nil, errNoRedis
	}
	client, ok := own.MakeRedisClient().(redis.UniversalClient)
	if !ok || nilcheck.IsNil(client) {
		return nil, fmt.Errorf("the asynq.RedisConnOpt (type %T) makes no redis.UniversalClient (use the setting \"jobs.redis\")", own)
	}
	return client, nil
}

// MakeRedisClient gives the client to the admin page.
func (c *connection) MakeRedisClient() any { return c.client }

// groupClient returns the option with which handlers return group members to their group.
func (c *connection) groupClient() asynqjobs.Option {
	return asynqjobs.WithGroupClient(asynq.NewClientFromRedisClient(c.client))
}

// check pings Redis.
func (c *connection) check(ctx context.Context) error {
	return c.ask(ctx, func(ctx context.Context) error { return c.client.Ping(ctx).Err() })
}

// checkAtStart pings Redis, and refuses a Sentinel, which answers a ping, too. A server that does not answer INFO is accepted.
func (c *connection) checkAtStart(ctx context.Context) error {
	if err := c.client.Ping(ctx).Err(); err != nil {
		return err
	}
	if info, err := c.client.Info(ctx, "server").Result(); err == nil && rediscmd.Sentinel(info) {
		return errSentinel
	}
	return nil
}

// ask calls Redis for no longer than a readiness request takes. The clients of an asynq.RedisConnOpt ignore the deadline
// of a context.
func (c *connection) ask(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, fxmodule.HealthTimeout)
	defer cancel()
	err := early.Wait(ctx, func() error { return call(ctx) })
	switch {
	case errors.Is(err, errSentinel):
		return &fxmodule.JobsError{Part: fxmodule.PartStore, Err: err}
	case err != nil:
		return &fxmodule.JobsError{Part: fxmodule.PartStore, Err: fmt.Errorf("a PING to the Redis of the jobs failed: %w", rediserr.Wrap(err))}
	}
	return nil
}

// closeAfter makes close keep the client open until done is closed.
func (c *connection) closeAfter(done <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inUse = done
}

// close closes the client. A second call does nothing.
func (c *connection) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	if c.inUse != nil {
		go func() {
			<-c.inUse
			_ = c.client.Close() // the stop has already reported an error
		}()
		return nil
	}
	if err := c.client.Close(); !errors.Is(err, redis.ErrClosed) {
		return err
	}
	return nil
}
