package main

import (
	"context"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// enqueueManyCases compare EnqueueMany with Enqueue of each task, on loopback and over a round trip of 0.5 ms. Both sides are
// sealed, by one producer.
func enqueueManyCases(ctx context.Context, b *bench) error {
	for _, c := range []struct {
		name      string
		roundTrip time.Duration
	}{
		{"enqueue 100 x 1 KiB", 0},
		{"enqueue 100 x 1 KiB, round trip of 0.5 ms", roundTripTime},
	} {
		if !b.wants(c.name) {
			continue
		}
		err := withServer(ctx, c.roundTrip, func(k *keys, _ *redistest.Server, rdb *redis.Client) error {
			return enqueueManyCase(ctx, b, c.name, k, rdb)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func enqueueManyCase(ctx context.Context, b *bench, name string, k *keys, rdb *redis.Client) error {
	e, err := jobs.NewEncryptor(k.envelope)
	if err != nil {
		return err
	}
	client, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), e, asynqjobs.WithPipeline(rdb))
	if err != nil {
		return err
	}
	tasks := make([]*asynq.Task, batchSize)
	for i := range tasks {
		tasks[i] = asynq.NewTask(jobType, payload(1<<10))
	}
	flush := func(ctx context.Context) error { return rdb.FlushDB(ctx).Err() } // on both sides
	samples, err := interleave(
		ctx, b.plan(21, 75*time.Millisecond),
		side{name: "EnqueueMany", do: func(ctx context.Context, _, _ int) error {
			if _, err := client.EnqueueMany(ctx, tasks); err != nil {
				return err
			}
			return flush(ctx)
		}},
		side{name: "Enqueue", do: func(ctx context.Context, _, _ int) error {
			for _, t := range tasks {
				if _, err := client.EnqueueContext(ctx, t); err != nil {
					return err
				}
			}
			return flush(ctx)
		}},
	)
	if err != nil {
		return err
	}
	r := throughput(name, "EnqueueMany / Enqueue of each", samples[0], samples[1], nil)
	r.Figures = rate(batchSize*medianOf(samples[0], sample.perSecond)) + " / " + rate(batchSize*medianOf(samples[1], sample.perSecond)) + " jobs"
	b.report(r)
	return nil
}
