package main

import (
	"bytes"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

const (
	jobType = "mail:send"
	// jobWorkers is the number of producers, and the Concurrency of the server.
	jobWorkers = 8
	// drainTimeout ends a run whose jobs do not reach the handler.
	drainTimeout = time.Minute
)

// queue is an asynq queue, plaintext or sealed, with a separate Redis database.
type queue struct {
	name   string
	conn   asynq.RedisClientOpt
	rdb    *redis.Client
	client enqueuer
	e      *jobs.Encryptor // nil for plaintext
	gcm    cipher.AEAD     // of newAESQueue, or nil
	server *redistest.Server
}

// enqueuer is asynq's client, or a sealing one.
type enqueuer interface {
	EnqueueContext(ctx context.Context, t *asynq.Task, opts ...asynq.Option) (*asynq.TaskInfo, error)
	Close() error
}

func newQueue(name string, server *redistest.Server, db int, e *jobs.Encryptor, opts ...asynqjobs.Option) (*queue, error) {
	options := server.ClientOptions()
	options.DB = db
	q := &queue{name: name, conn: asynq.RedisClientOpt{Addr: server.Addr(), DB: db}, rdb: redis.NewClient(options), e: e, server: server}
	plain := asynq.NewClient(q.conn)
	q.client = plain
	if e != nil {
		sealed, err := asynqjobs.NewClient(plain, e, opts...)
		if err != nil {
			return nil, errors.Join(err, plain.Close(), q.rdb.Close())
		}
		q.client = sealed
	}
	return q, nil
}

func (q *queue) close() {
	_ = q.client.Close()
	_ = q.rdb.Close()
}

// run enqueues n jobs and processes them.
func (q *queue) run(ctx context.Context, n int, payload []byte) (enqueued, processed sample, err error) {
	if err := q.rdb.FlushDB(ctx).Err(); err != nil {
		return sample{}, sample{}, err
	}
	if enqueued, err = q.enqueue(ctx, n, payload); err != nil {
		return sample{}, sample{}, err
	}
	processed, err = q.process(ctx, n, payload)
	return enqueued, processed, err
}

// enqueue enqueues n jobs with all producers together.
func (q *queue) enqueue(ctx context.Context, n int, payload []byte) (sample, error) {
	runtime.GC() // each side pays for its own garbage
	errs := make([]error, jobWorkers)
	var next atomic.Int64
	var wg sync.WaitGroup
	m := q.start()
	for w := range jobWorkers {
		wg.Go(func() {
			for errs[w] == nil && next.Add(1) <= int64(n) {
				_, errs[w] = q.client.EnqueueContext(ctx, asynq.NewTask(jobType, payload))
			}
		})
	}
	wg.Wait()
	return m.stop(n), errors.Join(errs...)
}

// process runs a server until it has processed the n jobs of the queue. The time starts when the first job reaches the
// handler, because the start of the server does not count. It ends when the last job reaches the handler.
func (q *queue) process(ctx context.Context, n int, payload []byte) (sample, error) {
	runtime.GC()
	var (
		handled atomic.Int64
		first   sync.Once
		m       meter
		result  sample
		done    = make(chan error, 1)
	)
	end := func(err error) { // the first one counts
		select {
		case done <- err:
		default:
		}
	}
	var handler asynq.Handler = asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
		first.Do(func() {
			if t.Type() != jobType || !bytes.Equal(t.Payload(), payload) {
				end(errOtherJob)
			}
			m = q.start()
		})
		if len(t.Payload()) != len(payload) {
			end(errOtherJob)
		}
		if handled.Add(1) == int64(n) {
			result = m.stop(n - 1)
			end(nil)
		}
		return nil
	})
	server, handler, err := q.newServer(handler, end) //nolint:contextcheck // asynq.RetryDelayFunc is given no context
	if err != nil {
		return sample{}, err
	}
	if err := server.Start(handler); err != nil {
		return sample{}, err
	}
	defer server.Shutdown()
	select {
	case err := <-done:
		if err != nil {
			return sample{}, err
		}
		return result, nil
	case <-ctx.Done():
		return sample{}, ctx.Err()
	case <-time.After(drainTimeout):
		return sample{}, fmt.Errorf("only %d of %d jobs reached the handler within %v", handled.Load(), n, drainTimeout)
	}
}

func (q *queue) newServer(handler asynq.Handler, failed func(error)) (*asynq.Server, asynq.Handler, error) {
	cfg := asynq.Config{
		Concurrency:       jobWorkers,
		TaskCheckInterval: 5 * time.Millisecond, // asynq waits so long only if the queue is empty, which is after the measurement
		Logger:            silent{},
		ErrorHandler:      asynq.ErrorHandlerFunc(func(_ context.Context, _ *asynq.Task, err error) { failed(err) }),
	}
	if q.gcm != nil {
		handler = aesHandler(q.gcm, handler)
	}
	if q.e == nil {
		return asynq.NewServer(q.conn, cfg), handler, nil
	}
	cfg, err := asynqjobs.Config(q.e, cfg)
	if err != nil {
		return nil, nil, err
	}
	handler, err = asynqjobs.Handler(q.e, handler)
	if err != nil {
		return nil, nil, err
	}
	return asynq.NewServer(q.conn, cfg), handler, nil
}

// check enqueues one job and checks that Redis holds it sealed or as plaintext, as the queue says.
func (q *queue) check(ctx context.Context, payload []byte, opts ...asynq.Option) error {
	stored, _, err := q.stored(ctx, payload, opts...)
	if err != nil {
		return err
	}
	want := q.e == nil && q.gcm == nil
	switch readable := bytes.Contains(stored, payload[:min(len(payload), 32)]); {
	case readable && !want:
		return errors.New("the payload of a sealed job can be read in Redis")
	case !readable && want:
		return errors.New("the payload of a plaintext job cannot be read in Redis")
	}
	return nil
}

// sizes returns the number of bytes in the hash of a job, and its memory in Redis.
func (q *queue) sizes(ctx context.Context, payload []byte, opts ...asynq.Option) (contents, memory int64, err error) {
	stored, memory, err := q.stored(ctx, payload, opts...)
	return int64(len(stored)), memory, err
}

// stored enqueues one job. It returns the contents of its hash, and its memory in Redis.
func (q *queue) stored(ctx context.Context, payload []byte, opts ...asynq.Option) (contents []byte, memory int64, err error) {
	if err := q.rdb.FlushDB(ctx).Err(); err != nil {
		return nil, 0, err
	}
	info, err := q.client.EnqueueContext(ctx, asynq.NewTask(jobType, payload), opts...)
	if err != nil {
		return nil, 0, err
	}
	key := "asynq:{" + info.Queue + "}:t:" + info.ID
	fields, err := q.rdb.HGetAll(ctx, key).Result()
	if err != nil {
		return nil, 0, err
	}
	for name, value := range fields {
		contents = append(append(contents, name...), value...)
	}
	memory, err = q.rdb.MemoryUsage(ctx, key, 0).Result() // all fields, not a sample of them
	return contents, memory, err
}

// meter measures from start to stop.
type meter struct {
	q     *queue
	cpu   time.Duration
	began time.Time
}

func (q *queue) cpu() (time.Duration, bool) {
	return side{server: func() (time.Duration, bool) { return cpuTimeOf(q.server.Pid()) }}.cpu()
}

func (q *queue) start() meter {
	m := meter{q: q}
	m.cpu, _ = q.cpu()
	m.began = time.Now()
	return m
}

func (m meter) stop(ops int) sample {
	s := sample{ops: ops, elapsed: time.Since(m.began)}
	if cpu, known := m.q.cpu(); known {
		s.cpu = cpu - m.cpu
	}
	return s
}
