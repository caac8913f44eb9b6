package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
)

// keyCallers is how many callers a process has at once in the cases of this row.
const keyCallers = 64

// keysRow counts the calls to a key service of 5 ms, and what requests wait for it. It does so for a few processes at work,
// for a reader that meets only unknown data keys, and for many tenants.
func keysRow(ctx context.Context, b *bench) {
	keyCalls(ctx, b)
	coldReader(ctx, b)
	manyTenants(ctx, b)
}

// keyCalls lets three processes seal, and open each other's values, with the default limits.
func keyCalls(ctx context.Context, b *bench) {
	const processes = 3
	operations := b.count(1_000_000)
	name := fmt.Sprintf("%d processes, %d operations", processes, operations)
	if !b.wants(name) {
		return
	}
	service := newSlowService(ctx, b)
	envelopes := make([]*aead.Envelope, processes)
	for i := range envelopes {
		envelopes[i] = b.envelope(ctx, service)
	}
	value, ad := payload(64), []byte("associated")
	var latencies []time.Duration
	timed := func(do func() error) {
		begin := time.Now()
		err := do()
		latencies = append(latencies, time.Since(begin))
		b.Check(err)
	}
	sealed := make([][]byte, processes)
	for i := range operations / 2 {
		writer, reader := i%processes, i/processes%processes
		timed(func() (err error) {
			sealed[writer], err = envelopes[writer].SealTo(ctx, sealed[writer][:0], value, ad)
			return err
		})
		timed(func() error {
			_, err := envelopes[reader].DecryptWithContext(ctx, sealed[writer], ad)
			return err
		})
	}
	first := latencies[0]
	waited := 0
	for _, d := range latencies {
		if d >= keyServiceDelay {
			waited++
		}
	}
	slices.Sort(latencies)
	b.report(Result{
		Case: name, What: "calls to the key service per million operations", Unit: "calls",
		Value:   exactly(float64(service.calls.Load()) / float64(operations) * 1e6),
		Figures: fmt.Sprintf("%d calls in all, those at start included", service.calls.Load()),
	})
	b.report(Result{
		Case: name, What: "requests that took as long as a call to the key service", Unit: "requests",
		Value: exactly(float64(waited)),
		Figures: fmt.Sprintf("first seal %s, median %s, worst %s (a first read of an unknown data key waits for one call)",
			took(first), took(latencies[len(latencies)/2]), took(latencies[len(latencies)-1])),
	})
}

// coldReader opens values under many data keys in a new process. Several callers ask for each data key at once.
func coldReader(ctx context.Context, b *bench) {
	const callersOfEach = 4
	n := b.count(10_000)
	name := fmt.Sprintf("cold reader of %d data keys", n)
	if !b.wants(name) {
		return
	}
	service := newSlowService(ctx, b)
	ad := []byte("associated")
	theirs := tinkaead.NewKMSEnvelopeAEAD2(tinkaead.AES256GCMKeyTemplate(), service.kek) // it makes a data key for each value
	values := make([][]byte, n)
	for i := range values {
		var err error
		if values[i], err = theirs.Encrypt(payload(64), ad); err != nil {
			b.Check(fmt.Errorf("seal with Tink's KMS envelope: %w", err))
		}
	}
	envelope := b.envelope(ctx, service)
	atStart := service.calls.Load()
	all := func() (elapsed, worst time.Duration) {
		begin := time.Now()
		worst, err := concurrently(n*callersOfEach, func(i int) error {
			_, err := envelope.DecryptWithContext(ctx, values[i/callersOfEach], ad)
			return err
		})
		b.Check(err)
		return time.Since(begin), worst
	}
	cold, worst := all()
	calls := service.calls.Load() - atStart
	warm, warmWorst := all()
	b.report(Result{
		Case: name, What: "calls to the key service for each data key", Unit: "calls",
		Value: exactly(float64(calls) / float64(n)), Budget: atMost(1),
		Figures: fmt.Sprintf("%d requests, %d callers at once, %d for each data key", n*callersOfEach, keyCallers, callersOfEach),
	})
	b.report(Result{
		Case: name, What: "time for all of them", Unit: "seconds",
		Value: exactly(cold.Seconds()),
		Figures: fmt.Sprintf("16 calls at a time: %s at least; worst request %s; again, all known: %s, worst %s",
			took(time.Duration(n)*keyServiceDelay/16), took(worst), took(warm), took(warmWorst)),
	})
	b.report(Result{
		Case: name, What: "calls to the key service when all are known", Unit: "calls",
		Value: exactly(float64(service.calls.Load() - atStart - calls)), Budget: atMost(0),
	})
}

// manyTenants makes tenants, each with its own key-encryption key.
func manyTenants(ctx context.Context, b *bench) {
	n := b.count(10_000)
	name := fmt.Sprintf("%d tenants", n)
	if !b.wants(name) {
		return
	}
	services := make(map[string]*slowService, n)
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("tenant-%d", i)
		handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
		b.Check(err)
		primitive, err := tinkaead.New(handle)
		b.Check(err)
		services[ids[i]] = &slowService{kek: primitive}
	}
	main := newSlowService(ctx, b)
	open := func(_ context.Context, id string) (tink.AEADWithContext, error) { return services[id], nil }
	before := liveHeap()
	envelope := b.envelope(ctx, main, aead.WithTenants(open))
	tenants := make([]tink.AEADWithContext, n)
	begin := time.Now()
	for i, id := range ids {
		var err error
		tenants[i], err = envelope.Tenant(id)
		b.Check(err)
	}
	started := time.Since(begin)
	calls := func() (sum int64) {
		for _, s := range services {
			sum += s.calls.Load()
		}
		return sum
	}
	atStart := calls()
	begin = time.Now()
	worst, err := concurrently(n, func(i int) error {
		_, err := tenants[i].EncryptWithContext(ctx, []byte("first message"), nil)
		return err
	})
	b.Check(err)
	first := time.Since(begin)
	used := liveHeap() - before
	b.report(Result{
		Case: name, What: "calls to key services before a first message", Unit: "calls",
		Value: exactly(float64(atStart)), Budget: atMost(0), Figures: "made in " + took(started),
	})
	b.report(Result{
		Case: name, What: "calls for the first message of each", Unit: "calls",
		Value: exactly(float64(calls()) / float64(n)), Budget: atMost(2),
		Figures: fmt.Sprintf("all in %s with %d callers, worst request %s", took(first), keyCallers, took(worst)),
	})
	b.report(Result{
		Case: name, What: "live heap, each with a data key in use", Unit: "MiB",
		Value: exactly(float64(used) / (1 << 20)), Budget: atMost(200),
		Figures: fmt.Sprintf("%d bytes for each", used/int64(n)),
	})
	runtime.KeepAlive(tenants)
}

// concurrently calls do for each number below n from several callers at once, in order, and returns the longest call.
func concurrently(n int, do func(i int) error) (worst time.Duration, err error) {
	var (
		mu   sync.Mutex
		next int
		wait sync.WaitGroup
	)
	for range keyCallers {
		wait.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				failed := err != nil
				mu.Unlock()
				if i >= n || failed {
					return
				}
				begin := time.Now()
				failure := do(i)
				took := time.Since(begin)
				mu.Lock()
				worst = max(worst, took)
				if failure != nil && err == nil {
					err = failure
				}
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	return worst, err
}

// liveHeap returns the bytes that are in use after a collection.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
