package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"

	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sleep"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// migrateRow seals plaintext entries in place, on the processors of the redis-server that holds them. It measures
// entries per second, the memory for few and for many entries, and the latency of a client that works at the same time.
func migrateRow(ctx context.Context, b *bench) {
	server, client := b.redis(ctx, 0)
	m := &mover{b: b, k: b.keys(ctx), server: server, client: client}
	for _, c := range []struct {
		name string
		run  func(ctx context.Context, name string)
	}{
		{"256 B", m.speed(256, 400_000, atLeast(50_000))},
		{"4 KiB", m.speed(4<<10, 50_000, nil)},
		{"memory", m.memory},
		{"live client", m.live},
	} {
		if b.wants(c.name) {
			c.run(ctx, c.name)
		}
	}
}

type mover struct {
	b      *bench
	k      *keys
	server *redistest.Server
	client *redis.Client
}

// fill empties the database and sets n plaintext entries.
func (m *mover) fill(ctx context.Context, n, size int) {
	m.b.Check(m.client.FlushDB(ctx).Err())
	value := payload(size)
	value[0] = 'x' // a random value must not start like a sealed one
	const part = 1000
	for start := 0; start < n; start += part {
		pipe := m.client.Pipeline()
		for i := start; i < min(start+part, n); i++ {
			pipe.Set(ctx, "m:"+strconv.Itoa(i), value, time.Hour)
		}
		_, err := pipe.Exec(ctx)
		m.b.Check(err)
	}
}

// seal runs a migration over n entries and checks its report.
func (m *mover) seal(ctx context.Context, n int, rate float64) (time.Duration, error) {
	begin := time.Now()
	r, err := migrate.Run(ctx, m.client, migrate.Config{
		Operation: migrate.Seal, From: migrate.Space{Prefix: "m:"}, Keys: m.k.envelope, AllowUnproven: true, Rate: rate,
	})
	elapsed := time.Since(begin)
	if err != nil {
		return 0, err
	}
	if !r.Done() || r.Written != int64(n) {
		return 0, fmt.Errorf("the migration is not complete: it wrote %d of %d entries", r.Written, n)
	}
	return elapsed, nil
}

// speed measures entries per second, sealed and audited.
func (m *mover) speed(size, entries int, budget *Budget) func(ctx context.Context, name string) {
	return func(ctx context.Context, name string) {
		n := m.b.count(entries)
		var sealing, auditing []float64
		for range m.rounds() {
			m.fill(ctx, n, size)
			elapsed, err := m.seal(ctx, n, 0)
			m.b.Check(err)
			sealing = append(sealing, float64(n)/elapsed.Seconds())
			r, err := audit.Run(ctx, m.client, audit.Config{})
			m.b.Check(err)
			if answer, _ := r.AnythingPlaintext(); answer != audit.No || r.Total.Sealed.Values < int64(n) {
				m.b.Check(errors.New("the audit did not find all values sealed"))
			}
			auditing = append(auditing, float64(n)/r.Elapsed.Seconds())
		}
		m.b.report(Result{Case: name, What: "entries sealed in place", Unit: "per second", Value: spreadOf(sealing), Budget: budget,
			Figures: strconv.Itoa(n) + " entries"})
		m.b.report(Result{Case: name, What: "names audited", Unit: "per second", Value: spreadOf(auditing),
			Figures: strconv.Itoa(n) + " entries"})
	}
}

func (m *mover) rounds() int { return m.b.plan(3, time.Second).rounds }

// memory measures the peak of the command's resident memory while it seals many entries, over that while it seals a
// hundredth of them. The command runs in a separate process, so that no other memory counts.
func (m *mover) memory(ctx context.Context, name string) {
	if runtime.GOOS != "linux" {
		fmt.Fprintln(m.b.log, "resident memory is measured on Linux only")
		return
	}
	dir, err := os.MkdirTemp("", "sealcache-bench")
	m.b.Check(err)
	defer os.RemoveAll(dir)
	command, kek := filepath.Join(dir, "sealcache"), filepath.Join(dir, "kek.json")
	m.b.Check(buildCommand(ctx, command))
	var keyset bytes.Buffer
	m.b.Check(insecurecleartextkeyset.CreateKeyset(&keyset, tinkaead.AES256GCMKeyTemplate()))
	m.b.Check(os.WriteFile(kek, keyset.Bytes(), 0o600))
	most := func(n int) float64 {
		m.fill(ctx, n, 256)
		resident, err := residentWhile(exec.CommandContext(ctx, command, "migrate", "--allow-unproven", "--redis", m.server.URL(), "--kek", "file://"+kek,
			"--prefix", "m:", "--checkpoint", filepath.Join(dir, "checkpoint"), "--progress", "none"))
		m.b.Check(err)
		return resident
	}
	many := m.b.count(1_000_000)
	few := many / 100
	var ratio, mib []float64
	for range m.rounds() {
		small, large := most(few), most(many)
		ratio, mib = append(ratio, large/small), append(mib, large/(1<<20))
	}
	m.b.report(Result{
		Case: name, What: fmt.Sprintf("most resident memory of the command, %d entries / %d entries", many, few), Unit: "x",
		Value: spreadOf(ratio), Budget: atMost(1.25), Figures: fmt.Sprintf("%.0f MiB with %d entries", spreadOf(mib).Median, many),
	})
}

// buildCommand builds cmd/sealcache, a separate module, from the tree of the working directory.
func buildCommand(ctx context.Context, path string) error {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("find the folder cmd/sealcache: %w", err)
	}
	dir := filepath.Join(strings.TrimSpace(string(root)), "cmd", "sealcache")
	if out, err := exec.CommandContext(ctx, "go", "build", "-C", dir, "-o", path, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("build cmd/sealcache: %w: %s", err, out)
	}
	return nil
}

// residentWhile runs a command and returns the peak of its resident memory in bytes. It reads /proc, because the figure
// of wait includes the parent's memory up to exec.
func residentWhile(cmd *exec.Cmd) (float64, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var kib float64
	for {
		select {
		case err := <-done:
			if err != nil {
				return 0, fmt.Errorf("the sealcache command failed: %w: %s", err, out.Bytes())
			}
			if kib == 0 {
				return 0, errors.New("the sealcache command finished too fast to measure its memory (use more entries)")
			}
			return kib * (1 << 10), nil
		case <-tick.C:
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
			if err != nil {
				continue // the process has ended
			}
			_, peak, _ := strings.Cut(string(status), "VmHWM:")
			var now float64
			if _, err := fmt.Sscanf(peak, "%f kB", &now); err == nil {
				kib = max(kib, now)
			}
		}
	}
}

// live measures the 99th percentile of a client that gets 1 KiB values, during a migration over without one.
func (m *mover) live(ctx context.Context, name string) {
	app := redis.NewClient(m.server.ClientOptions())
	defer app.Close()
	n := m.b.count(200_000)
	for _, rate := range []float64{0, 5000} {
		entries, how := n, "as fast as it can"
		if rate > 0 {
			entries, how = max(n/40, 1), fmt.Sprintf("at %.0f entries/s", rate)
		}
		var ratio, alone, beside []float64
		for range m.rounds() {
			m.fill(ctx, entries, 256)
			m.b.Check(app.Set(ctx, "live", payload(1<<10), 0).Err())
			quiet, err := p99While(ctx, app, func() error { return sleep.For(ctx, m.b.plan(1, time.Second).slice) })
			m.b.Check(err)
			busy, err := p99While(ctx, app, func() error {
				_, err := m.seal(ctx, entries, rate)
				return err
			})
			m.b.Check(err)
			ratio = append(ratio, float64(busy)/float64(quiet))
			alone, beside = append(alone, float64(quiet)), append(beside, float64(busy))
		}
		m.b.report(Result{
			Case: name, What: "p99 of get beside a migration " + how + " / alone", Unit: "x", Value: spreadOf(ratio),
			Figures: took(time.Duration(spreadOf(beside).Median)) + " / " + took(time.Duration(spreadOf(alone).Median)),
		})
	}
}

// p99While gets a value about once a millisecond while do runs, and returns the 99th percentile of the latency.
func p99While(ctx context.Context, client *redis.Client, do func() error) (time.Duration, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var latencies []time.Duration
	var failed error
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(500 * time.Microsecond)
		defer tick.Stop()
		for first := true; first || ctx.Err() == nil; first = false {
			begin := time.Now()
			if err := client.Get(context.WithoutCancel(ctx), "live").Err(); err != nil {
				failed = err
				return
			}
			latencies = append(latencies, time.Since(begin))
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	err := do()
	stop()
	group.Wait()
	slices.Sort(latencies)
	return percentile(latencies, 99), errors.Join(err, failed)
}
