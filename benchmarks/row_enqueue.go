package main

import (
	"context"
	"time"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// enqueueManyCases compare EnqueueMany with Enqueue of each task, on loopback and over a round trip of 0.5 ms. Both sides are
// sealed, by one producer.
func enqueueManyCases(ctx context.Context, b *bench) {
	enqueueManyCase(ctx, b, "enqueue 100 x 1 KiB", 0)
	enqueueManyCase(ctx, b, "enqueue 100 x 1 KiB, round trip of 0.5 ms", roundTripTime)
}

func enqueueManyCase(ctx context.Context, b *bench, name string, roundTrip time.Duration) {
	if !b.wants(name) {
		return
	}
	_, rdb := b.redis(ctx, roundTrip)
	e, err := jobs.NewEncryptor(b.keys(ctx).envelope)
	b.Check(err)
	client, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), e, asynqjobs.WithPipeline(rdb))
	b.Check(err)
	tasks := make([]*asynq.Task, batchSize)
	for i := range tasks {
		tasks[i] = asynq.NewTask(jobType, payload(1<<10))
	}
	flush := func(ctx context.Context) error { return rdb.FlushDB(ctx).Err() } // on both sides
	samples := b.interleave(
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
	r := throughput(name, "EnqueueMany / Enqueue of each", samples[0], samples[1], nil)
	r.Figures = rate(batchSize*medianOf(samples[0], sample.perSecond)) + " / " + rate(batchSize*medianOf(samples[1], sample.perSecond)) + " jobs"
	b.report(r)
}
