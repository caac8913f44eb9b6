package main

import (
	"context"
	"time"

	"github.com/alicebob/miniredis/v2" //nolint:depguard // the Redis in this process
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// newRedis connects to the Redis of the settings, or starts one in this process.
func newRedis(lc fx.Lifecycle, s settings) (redis.UniversalClient, error) {
	address := s.redis
	if address == "" {
		server, err := miniredis.Run()
		if err != nil {
			return nil, err
		}
		address = server.Addr()
		lc.Append(fx.StopHook(server.Close))
	}
	rdb := redis.NewClient(&redis.Options{Addr: address})
	lc.Append(fx.StartStopHook(
		func(ctx context.Context) error { return rdb.Ping(ctx).Err() },
		rdb.Close,
	))
	return rdb, nil
}

// newClient is where a clear application would say asynq.NewClient.
func newClient(rdb redis.UniversalClient, e *jobs.Encryptor) (*asynqjobs.Client, error) {
	return asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), e, asynqjobs.WithHiddenTypes())
}

// newServer processes jobs for as long as the application lives.
func newServer(lc fx.Lifecycle, rdb redis.UniversalClient, e *jobs.Encryptor, mux *asynq.ServeMux) (*asynq.Server, error) {
	cfg, err := asynqjobs.Config(e, asynq.Config{
		Concurrency:              4,
		TaskCheckInterval:        50 * time.Millisecond,
		DelayedTaskCheckInterval: 200 * time.Millisecond,
		RetryDelayFunc:           func(int, error, *asynq.Task) time.Duration { return time.Second },
		LogLevel:                 asynq.FatalLevel,
	})
	if err != nil {
		return nil, err
	}
	handler, err := asynqjobs.Handler(e, mux)
	if err != nil {
		return nil, err
	}
	srv := asynq.NewServerFromRedisClient(rdb, cfg)
	lc.Append(fx.StartStopHook(func() error { return srv.Start(handler) }, srv.Shutdown))
	return srv, nil
}

// newScheduler runs periodic jobs for as long as the application lives, beside however many other processes.
func newScheduler(lc fx.Lifecycle, rdb redis.UniversalClient, c *asynqjobs.Client) (*asynqjobs.Scheduler, error) {
	s, err := asynqjobs.NewScheduler(rdb, c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	lc.Append(fx.StartStopHook(
		func() { go func() { ended <- s.Run(ctx) }() },
		func() error {
			cancel()
			return <-ended
		},
	))
	return s, nil
}
