package asynqjobs_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/stores/storetest/redistest"
)

// BenchmarkEnqueue enqueues with asynq's own client and sealed, over a real Redis. stored-B is what a job's hash holds.
func BenchmarkEnqueue(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 16 << 10, 64 << 10} {
		for _, kind := range []string{"clear", "sealed", "hidden"} {
			b.Run(fmt.Sprintf("%d/%s", size, kind), func(b *testing.B) {
				srv := redistest.Start(b)
				conn := asynq.RedisClientOpt{Addr: srv.Addr()}
				e, err := jobs.NewEncryptor(newKeyring(b), jobs.WithPRF(newPRF(b)))
				require.NoError(b, err)
				plain := asynq.NewClient(conn)
				defer plain.Close()
				var c enqueuer = plain
				switch kind {
				case "sealed":
					c = newClient(b, conn, e)
				case "hidden":
					c = newClient(b, conn, e, asynqjobs.WithHiddenTypes())
				}
				payload := bytes.Repeat([]byte("x"), size)
				var last *asynq.TaskInfo
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if last, err = c.Enqueue(asynq.NewTask("mail:send", payload)); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				stored, err := srv.Client(b).HGet(context.Background(), "asynq:{default}:t:"+last.ID, "msg").Bytes()
				require.NoError(b, err)
				b.ReportMetric(float64(len(stored)), "stored-B")
			})
		}
	}
}

// BenchmarkEnqueueAndProcess enqueues from four goroutines while a server processes, over a real Redis.
func BenchmarkEnqueueAndProcess(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 16 << 10, 64 << 10} {
		for _, kind := range []string{"clear", "sealed"} {
			b.Run(fmt.Sprintf("%d/%s", size, kind), func(b *testing.B) {
				srv := redistest.Start(b)
				conn := asynq.RedisClientOpt{Addr: srv.Addr()}
				e, err := jobs.NewEncryptor(newKeyring(b), jobs.WithPRF(newPRF(b)))
				require.NoError(b, err)
				plain := asynq.NewClient(conn)
				defer plain.Close()
				payload := bytes.Repeat([]byte("x"), size)
				var processed atomic.Int64
				done := make(chan struct{})
				h := asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
					if len(t.Payload()) == size && processed.Add(1) == int64(b.N) {
						close(done)
					}
					return nil
				})
				var c enqueuer = plain
				cfg := fast(asynq.Config{Concurrency: 8})
				if kind == "sealed" {
					c = newClient(b, conn, e)
					sealed, err := asynqjobs.Config(e, cfg)
					require.NoError(b, err)
					handler, err := asynqjobs.Handler(e, h)
					require.NoError(b, err)
					server := asynq.NewServer(conn, sealed)
					require.NoError(b, server.Start(handler))
					defer server.Shutdown()
				} else {
					server := asynq.NewServer(conn, cfg)
					require.NoError(b, server.Start(h))
					defer server.Shutdown()
				}
				b.SetBytes(int64(size))
				b.ResetTimer()
				var wg sync.WaitGroup
				for p := range 4 {
					wg.Go(func() {
						for i := p; i < b.N; i += 4 {
							if _, err := c.Enqueue(asynq.NewTask("mail:send", payload)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				<-done
				b.StopTimer()
			})
		}
	}
}
