package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// expiry is the expiration of entries in stores that need one.
const expiry = time.Hour

//go:embed predecessor.py
var predecessorScript string

// predecessor is the running script. It answers one question at a time.
type predecessor struct {
	*comparison
	questions io.WriteCloser
	answers   *bufio.Reader
	cmd       *exec.Cmd
	stderr    bytes.Buffer
}

func startPredecessor(ctx context.Context, c *comparison, python, addr string) *predecessor {
	p := &predecessor{
		comparison: c,
		cmd:        exec.CommandContext(ctx, python, "-c", predecessorScript, addr, strconv.FormatFloat(c.slice.Seconds(), 'f', 3, 64)),
	}
	p.cmd.Stderr = &p.stderr
	var err error
	p.questions, err = p.cmd.StdinPipe()
	c.Check(err)
	out, err := p.cmd.StdoutPipe()
	c.Check(err)
	p.answers = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		c.Check(fmt.Errorf("start the Python script for django-redis: %w", err))
	}
	c.Cleanup(func() { _ = p.stop() })
	return p
}

// ask returns the script's answer about values of a size: operations per second for set, get and enqueue, bytes for stored and
// job.
func (p *predecessor) ask(what string, size int) float64 {
	_, err := fmt.Fprintln(p.questions, what, size)
	line := ""
	if err == nil {
		line, err = p.answers.ReadString('\n')
	}
	if err != nil {
		p.Check(errors.Join(err, p.stop()))
	}
	answer, err := strconv.ParseFloat(strings.TrimSpace(line), 64)
	p.Check(err)
	return answer
}

// stop ends the script, and returns its error.
func (p *predecessor) stop() error {
	_ = p.questions.Close()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("the Python script for django-redis failed: %w: %s", err, lastLine(p.stderr.Bytes()))
	}
	return nil
}

// comparePredecessor compares sealcache with the approach of django-secure-redis, Fernet in a serializer of django-redis. Each
// has one client. They take turns.
func comparePredecessor(ctx context.Context, c *comparison, python string) {
	if out, err := exec.CommandContext(ctx, python, "-c", "import django_redis, cryptography.fernet").CombinedOutput(); err != nil {
		_, err := fmt.Fprintf(c.table, "predecessor\tskipped: %s has no django_redis (%s)\n", python, lastLine(out))
		c.Check(err)
		return
	}
	server := c.server(ctx)
	p := startPredecessor(ctx, c, python, server.Addr())
	stores := newStores(c, server)
	for _, size := range []int{1 << 10, 256 << 10} {
		compareStore(ctx, p, server, stores[0], size)
		c.Check(ctx.Err())
		compareEnqueue(ctx, p, server, size)
	}
	c.Check(p.stop())
}

// compareStore compares set and get.
func compareStore(ctx context.Context, p *predecessor, server *redistest.Server, ours access, size int) {
	value := random(size)
	stored := p.fill(ctx, ours, p.client(server.ClientOptions()), value)
	key := ours.name + ":0"
	for _, op := range []struct {
		name string
		do   func(ctx context.Context, worker, i int) error
	}{
		{"set", func(ctx context.Context, _, _ int) error { return ours.set(ctx, key, value) }},
		{"get", func(ctx context.Context, _, _ int) error {
			_, err := ours.get(ctx, key)
			return err
		}},
	} {
		r := p.turns(ctx, op.name, size, op.do, func() error { return nil })
		fmt.Fprintf(p.table, "%s %d B, 1 client\tpredecessor (Python)\t%.2fx\t%s\t%s\t%s\t%d / %.0f\n", op.name, size, r.ratio, r.spread,
			budget(size, r.ratio), r.rates, stored, p.ask("stored", size))
	}
}

// rounds is the outcome of turns.
type rounds struct {
	ratio         float64
	spread, rates string
}

// turns measures an operation of the predecessor and ours in turn. It calls after when ours has run.
func (p *predecessor) turns(
	ctx context.Context, op string, size int, do func(ctx context.Context, worker, i int) error, after func() error,
) rounds {
	var ours, theirs, ratios []float64
	for range p.rounds {
		t := p.ask(op, size)
		o, err := slice(ctx, p.slice, 1, way{do: do})
		p.Check(errors.Join(err, after()))
		ours, theirs, ratios = append(ours, o), append(theirs, t), append(ratios, o/t)
	}
	return rounds{
		ratio: median(ratios), spread: fmt.Sprintf("%.2f..%.2f", slices.Min(ratios), slices.Max(ratios)),
		rates: fmt.Sprintf("%.0f/s / %.0f/s", median(ours), median(theirs)),
	}
}

// compareEnqueue enqueues sealed jobs on asynq with one client, next to those of django-rq. Bytes are the memory of a job's hash in
// Redis.
func compareEnqueue(ctx context.Context, p *predecessor, server *redistest.Server, size int) {
	theirs := p.ask("job", size)
	if theirs == 0 {
		fmt.Fprintf(p.table, "enqueue %d B\tskipped: there is no django-rq\n", size)
		return
	}
	_, keyring := p.keyring()
	encryptor, err := jobs.NewEncryptor(keyring)
	p.Check(err)
	o := server.ClientOptions()
	o.DB = 2
	rdb := p.client(o)
	client, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), encryptor)
	p.Check(err)
	task := asynq.NewTask("work", random(size))
	r := p.turns(ctx, "enqueue", size, func(ctx context.Context, _, _ int) error {
		_, err := client.EnqueueContext(ctx, task)
		return err
	}, func() error { return rdb.FlushDB(ctx).Err() })
	info, err := client.EnqueueContext(ctx, task)
	p.Check(err)
	used, err := rdb.MemoryUsage(ctx, "asynq:{"+info.Queue+"}:t:"+info.ID, 0).Result()
	p.Check(err)
	fmt.Fprintf(p.table, "enqueue %d B, 1 client\tpredecessor (Python, django-rq)\t%.2fx\t%s\t\t%s\t%d / %.0f\n", size, r.ratio, r.spread,
		r.rates, used, theirs)
}

// budget returns the least ratio to the predecessor's throughput, and whether it holds.
func budget(size int, ratio float64) string {
	least := 4.0
	if size > 1<<10 {
		least = 6
	}
	verdict := "ok"
	if ratio < least {
		verdict = "MISSED"
	}
	return fmt.Sprintf(">= %.0f %s", least, verdict)
}

func lastLine(out []byte) string {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return string(lines[len(lines)-1])
}
