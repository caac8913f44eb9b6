//go:build unix

package asynqjobs_test

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
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

// BenchmarkEnqueueAndProcess enqueues a batch over a real Redis, and then a server processes it. Plaintext and sealed
// batches take turns, so that both run under the same conditions. An operation is one batch of each. Read the extra
// metrics. They are the microseconds of wall-clock time and of CPU time for a job of each kind. The last one is the
// throughput of sealed jobs divided by that of plaintext jobs.
func BenchmarkEnqueueAndProcess(b *testing.B) {
	const batch = 500
	for _, size := range []int{64, 1 << 10, 16 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			srv := redistest.Start(b)
			conn := asynq.RedisClientOpt{Addr: srv.Addr()}
			e, err := jobs.NewEncryptor(newKeyring(b), jobs.WithPRF(newPRF(b)))
			require.NoError(b, err)
			plain := asynq.NewClient(conn)
			defer plain.Close()
			sealed := newClient(b, conn, e)
			payload := bytes.Repeat([]byte("x"), size)
			var wall, cpu [2]time.Duration
			for n := 0; b.Loop(); n++ {
				for i := range 2 {
					kind := (i + n) % 2 // who comes first changes
					var w, c time.Duration
					if kind == 0 {
						w, c = fillAndDrain(b, conn, plain, batch, payload, nil)
					} else {
						w, c = fillAndDrain(b, conn, sealed, batch, payload, e)
					}
					wall[kind] += w
					cpu[kind] += c
				}
			}
			for kind, name := range []string{"clear", "sealed"} {
				jobs := float64(b.N * batch)
				b.ReportMetric(float64(wall[kind].Microseconds())/jobs, name+"-us/job")
				b.ReportMetric(float64(cpu[kind].Microseconds())/jobs, name+"-cpu-us/job")
			}
			b.ReportMetric(float64(wall[0])/float64(wall[1]), "sealed/clear")
		})
	}
}

// fillAndDrain enqueues n jobs with c, and has a server work them off: sealed if e is given. It
// returns what that took until the last one was processed.
func fillAndDrain(b *testing.B, conn asynq.RedisConnOpt, c enqueuer, n int64, payload []byte, e *jobs.Encryptor) (wall, cpu time.Duration) {
	began, burnt := time.Now(), cpuTime(b)
	for range n {
		if _, err := c.Enqueue(asynq.NewTask("mail:send", payload)); err != nil {
			b.Fatal(err)
		}
	}
	var processed atomic.Int64
	done := make(chan struct{})
	var h asynq.Handler = asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
		if len(t.Payload()) == len(payload) && processed.Add(1) == n {
			close(done)
		}
		return nil
	})
	cfg := fast(asynq.Config{Concurrency: 8})
	if e != nil {
		var err error
		cfg, err = asynqjobs.Config(e, cfg)
		require.NoError(b, err)
		h, err = asynqjobs.Handler(e, h)
		require.NoError(b, err)
	}
	server := asynq.NewServer(conn, cfg)
	require.NoError(b, server.Start(h))
	<-done
	wall, cpu = time.Since(began), cpuTime(b)-burnt
	server.Shutdown()
	return wall, cpu
}

// cpuTime is what the process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
