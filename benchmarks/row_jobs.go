package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// jobsRow compares sealed jobs on asynq with plaintext ones, over a redis-server on the same processors. It measures
// the time in which eight producers enqueue a batch and a server processes it, and the memory of one job in Redis.
func jobsRow(ctx context.Context, b *bench) {
	enqueueManyCases(ctx, b)
	cases := append(jobTimes(), jobMemories()...)
	wanted := slices.DeleteFunc(cases, func(c jobCase) bool { return !b.matches(c.name) })
	if len(wanted) == 0 {
		return
	}
	k, server := b.keys(ctx), b.server(ctx, redistest.Options{})
	tokens := b.names(ctx, k)
	for _, c := range wanted {
		if !b.wants(c.name) {
			continue
		}
		e, err := jobs.NewEncryptor(k.envelope, append(c.sealing, jobs.WithPRF(tokens))...)
		b.Check(err)
		c.compare(ctx, b, server, e)
	}
}

// jobCase compares a plaintext queue with a sealed one.
type jobCase struct {
	name    string
	payload []byte
	sealing []jobs.Option
	client  []asynqjobs.Option
	enqueue []asynq.Option
	batch   int // jobs enqueued and processed in a round; 0 compares memory instead
	budget  *Budget
	// budgetOfAES makes the budget what AES-GCM alone leaves.
	budgetOfAES bool
}

func jobTimes() []jobCase {
	var cases []jobCase
	for _, size := range jobSizes() {
		c := jobCase{name: sizeName(size), payload: payload(size), batch: jobBatch(size)}
		if c.budgetOfAES = size >= 16<<10; !c.budgetOfAES {
			c.budget = atLeast(0.95)
		}
		cases = append(cases, c)
	}
	for _, size := range jobSizes()[1:] {
		cases = append(cases, jobCase{
			name: sizeName(size) + " of JSON, compressed", payload: jsonPayload(size), batch: jobBatch(size),
			sealing: []jobs.Option{jobs.WithCompression(compressFrom)},
		})
	}
	return cases
}

func jobMemories() []jobCase {
	var cases []jobCase
	for _, size := range jobSizes() {
		unique := []asynq.Option{asynq.Unique(time.Hour)}
		hidden := []asynqjobs.Option{asynqjobs.WithHiddenTypes()}
		cases = append(
			cases,
			jobCase{name: "memory, " + sizeName(size), payload: payload(size)},
			jobCase{name: "memory, " + sizeName(size) + ", type hidden", payload: payload(size), client: hidden},
			jobCase{name: "memory, " + sizeName(size) + ", unique", payload: payload(size), enqueue: unique},
		)
		if size >= compressFrom {
			cases = append(cases, jobCase{
				name: "memory, " + sizeName(size) + " of JSON, compressed", payload: jsonPayload(size),
				sealing: []jobs.Option{jobs.WithCompression(compressFrom)},
			})
		}
	}
	return cases
}

// jobSizes returns the sizes of payloads, in bytes.
func jobSizes() []int { return []int{64, 1 << 10, 16 << 10, 64 << 10} }

// jobBatch returns the number of jobs of a size that take some tenths of a second together.
func jobBatch(size int) int { return min(1500, 20<<20/size) }

// compressFrom is the size from which compressed cases compress.
const compressFrom = 256

// jsonPayload returns about n bytes of JSON as applications send it: many records of a few fields. Half of it are names
// and words that repeat.
func jsonPayload(n int) []byte {
	type record struct {
		Order   string  `json:"order_id"`
		Name    string  `json:"customer_name"`
		Mail    string  `json:"customer_email"`
		Amount  float64 `json:"amount"`
		Country string  `json:"country"`
		Paid    bool    `json:"paid"`
	}
	var out bytes.Buffer
	for i := 0; out.Len() < n; i++ {
		r := payload(12)
		id := base64.RawURLEncoding.EncodeToString(r)
		line, err := json.Marshal(record{
			Order: id, Name: "Customer " + id[:6], Mail: id[6:14] + "@example.com", Amount: float64(r[0]) + 0.99,
			Country: []string{"DE", "FR", "NO", "JP"}[r[1]%4], Paid: r[2]%8 != 0,
		})
		if err != nil {
			panic(err) // cannot happen: strings, numbers and a bool
		}
		out.Write(append(line, '\n'))
	}
	return out.Bytes()[:n]
}

func (c jobCase) compare(ctx context.Context, b *bench, server *redistest.Server, e *jobs.Encryptor) {
	plain, err := newQueue("plaintext", server, 0, nil)
	b.Check(err)
	defer plain.close()
	sealed, err := newQueue("sealed", server, 1, e, c.client...)
	b.Check(err)
	defer sealed.close()
	queues := []*queue{sealed, plain}
	if c.batch > 0 && len(c.sealing) == 0 { // AES-GCM alone would have to process more bytes than are left after compression
		aes, err := newAESQueue(server, 2)
		b.Check(err)
		defer aes.close()
		queues = append(queues, aes)
	}
	for _, q := range queues {
		if err := q.check(ctx, c.payload, c.enqueue...); err != nil {
			b.Check(fmt.Errorf("check a job of %s: %w", q.name, err))
		}
	}
	if c.batch == 0 {
		c.memory(ctx, b, plain, sealed)
	} else {
		c.times(ctx, b, queues)
	}
}

// times enqueues and processes batches in turn: sealed, in plaintext, and, if there is a third queue, with AES-GCM alone.
func (c jobCase) times(ctx context.Context, b *bench, queues []*queue) {
	rounds := b.plan(21, 0).rounds
	batch := max(b.count(c.batch), 2)
	enqueued, processed, both := make([][]sample, 3), make([][]sample, 3), make([][]sample, 3)
	for round := -1; round < rounds; round++ { // round -1 fills pools and connections
		for i := range queues {
			if round%2 == 0 {
				i = len(queues) - 1 - i
			}
			in, out, err := queues[i].run(ctx, batch, c.payload)
			if err != nil {
				b.Check(fmt.Errorf("run the jobs of %s: %w", queues[i].name, err))
			}
			if round < 0 {
				continue
			}
			enqueued[i] = append(enqueued[i], in)
			processed[i] = append(processed[i], out)
			both[i] = append(both[i], sample{ops: batch, elapsed: in.elapsed + out.elapsed, cpu: in.cpu + out.cpu})
		}
	}
	budget := c.budget
	if c.budgetOfAES {
		budget = atLeast(ratios(both[2], both[1], sample.perSecond).Median)
	}
	c.report(b, "enqueued and processed, sealed / plaintext", both[0], both[1], budget)
	c.report(b, "enqueued, sealed / plaintext", enqueued[0], enqueued[1], nil)
	c.report(b, "processed, sealed / plaintext", processed[0], processed[1], nil)
	if len(queues) > 2 {
		c.report(b, "enqueued and processed, AES-GCM alone / plaintext", both[2], both[1], nil)
	}
}

func (c jobCase) report(b *bench, what string, first, second []sample, budget *Budget) {
	r := throughput(c.name, what, first, second, budget)
	if cpuKnown(first, second) {
		used := ratios(first, second, sample.cpuNanoseconds)
		r.CPU = &used
	}
	b.report(r)
}

// memory asks Redis for the memory of a job.
func (c jobCase) memory(ctx context.Context, b *bench, plain, sealed *queue) {
	var bytes, memory [2]int64
	for i, q := range []*queue{sealed, plain} {
		var err error
		if bytes[i], memory[i], err = q.sizes(ctx, c.payload, c.enqueue...); err != nil {
			b.Check(fmt.Errorf("measure the memory of a job of %s: %w", q.name, err))
		}
	}
	b.report(Result{
		Case: c.name, What: "MEMORY USAGE of a job, sealed / plaintext", Unit: "x", Value: exactly(float64(memory[0]) / float64(memory[1])),
		Figures: fmt.Sprintf("%d / %d bytes", memory[0], memory[1]),
	})
	b.report(Result{
		Case: c.name, What: "contents of the job's hash, sealed - plaintext", Unit: "bytes", Value: exactly(float64(bytes[0] - bytes[1])),
		Figures: fmt.Sprintf("%d - %d bytes", bytes[0], bytes[1]),
	})
}

var errOtherJob = errors.New("the handler received a different job than was enqueued")

// silent is a logger for asynq that discards everything. Faults that matter come as errors.
type silent struct{}

func (silent) Debug(...any) {}
func (silent) Info(...any)  {}
func (silent) Warn(...any)  {}
func (silent) Error(...any) {}
func (silent) Fatal(...any) {}
