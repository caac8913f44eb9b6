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
	"github.com/redis/go-redis/v9"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
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
	questions io.WriteCloser
	answers   *bufio.Reader
	cmd       *exec.Cmd
	stderr    bytes.Buffer
}

func startPredecessor(ctx context.Context, e extent, python, addr string) (*predecessor, error) {
	p := &predecessor{cmd: exec.CommandContext(ctx, python, "-c", predecessorScript, addr, strconv.FormatFloat(e.slice.Seconds(), 'f', 3, 64))}
	p.cmd.Stderr = &p.stderr
	var err error
	if p.questions, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.answers = bufio.NewReader(out)
	return p, p.cmd.Start()
}

// ask returns the script's answer about values of a size: operations per second for set, get and enqueue, bytes for stored and
// job.
func (p *predecessor) ask(what string, size int) (float64, error) {
	if _, err := fmt.Fprintln(p.questions, what, size); err != nil {
		return 0, err
	}
	line, err := p.answers.ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(line), 64)
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
func comparePredecessor(ctx context.Context, e extent, python string, w io.Writer) error {
	if out, err := exec.CommandContext(ctx, python, "-c", "import django_redis, cryptography.fernet").CombinedOutput(); err != nil {
		_, err := fmt.Fprintf(w, "predecessor\tskipped: %s has no django_redis (%s)\n", python, lastLine(out))
		return err
	}
	server, err := redistest.Run(ctx, redistest.Options{})
	if err != nil {
		return err
	}
	defer server.Close()
	p, err := startPredecessor(ctx, e, python, server.Addr())
	if err != nil {
		return fmt.Errorf("start the Python script for django-redis: %w", err)
	}
	for _, size := range []int{1 << 10, 256 << 10} {
		if err = errors.Join(comparePredecessorStore(ctx, e, server, p, size, w), ctx.Err()); err != nil {
			break
		}
		if err = compareEnqueue(ctx, e, server, p, size, w); err != nil {
			err = fmt.Errorf("compare the jobs with those of django-rq: %w", err)
			break
		}
	}
	return errors.Join(err, p.stop())
}

// comparePredecessorStore compares set and get.
func comparePredecessorStore(ctx context.Context, e extent, server *redistest.Server, p *predecessor, size int, w io.Writer) error {
	all, stop, err := newStores(server)
	if err != nil {
		return err
	}
	defer stop()
	inspect := redis.NewClient(server.ClientOptions())
	defer inspect.Close()
	value := random(size)
	stored, err := fill(ctx, all[0], inspect, value)
	if err != nil {
		return err
	}
	key := all[0].name + ":0"
	for _, op := range []struct {
		name string
		do   func(ctx context.Context, worker, i int) error
	}{
		{"set", func(ctx context.Context, _, _ int) error { return all[0].set(ctx, key, value) }},
		{"get", func(ctx context.Context, _, _ int) error {
			_, err := all[0].get(ctx, key)
			return err
		}},
	} {
		r, err := turns(ctx, e, p, op.name, size, op.do, func() error { return nil })
		if err != nil {
			return err
		}
		theirs, err := p.ask("stored", size)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s %d B, 1 client\tpredecessor (Python)\t%.2fx\t%s\t%s\t%s\t%d / %.0f\n", op.name, size, r.ratio, r.spread,
			budget(size, r.ratio), r.rates, stored, theirs)
	}
	return nil
}

// rounds is the outcome of turns.
type rounds struct {
	ratio         float64
	spread, rates string
}

// turns measures an operation of the predecessor and ours in turn. It calls after when ours has run.
func turns(
	ctx context.Context, e extent, p *predecessor, op string, size int, do func(ctx context.Context, worker, i int) error, after func() error,
) (rounds, error) {
	var ours, theirs, ratios []float64
	for range e.rounds {
		t, err := p.ask(op, size)
		if err != nil {
			return rounds{}, err
		}
		o, err := slice(ctx, e.slice, 1, way{do: do})
		if err = errors.Join(err, after()); err != nil {
			return rounds{}, err
		}
		ours, theirs, ratios = append(ours, o), append(theirs, t), append(ratios, o/t)
	}
	return rounds{
		ratio: median(ratios), spread: fmt.Sprintf("%.2f..%.2f", slices.Min(ratios), slices.Max(ratios)),
		rates: fmt.Sprintf("%.0f/s / %.0f/s", median(ours), median(theirs)),
	}, nil
}

// compareEnqueue enqueues sealed jobs on asynq with one client. Bytes are the memory of a job's hash in Redis.
func compareEnqueue(ctx context.Context, e extent, server *redistest.Server, p *predecessor, size int, w io.Writer) error {
	theirs, err := p.ask("job", size)
	if err != nil {
		return err
	}
	if theirs == 0 {
		_, err := fmt.Fprintf(w, "enqueue %d B\tskipped: there is no django-rq\n", size)
		return err
	}
	handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		return err
	}
	keyring, err := aead.NewKeyring(handle)
	if err != nil {
		return err
	}
	defer keyring.Close()
	encryptor, err := jobs.NewEncryptor(keyring)
	if err != nil {
		return err
	}
	o := server.ClientOptions()
	o.DB = 2
	rdb := redis.NewClient(o)
	defer rdb.Close()
	client, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), encryptor)
	if err != nil {
		return err
	}
	task := asynq.NewTask("work", random(size))
	r, err := turns(ctx, e, p, "enqueue", size, func(ctx context.Context, _, _ int) error {
		_, err := client.EnqueueContext(ctx, task)
		return err
	}, func() error { return rdb.FlushDB(ctx).Err() })
	if err != nil {
		return err
	}
	info, err := client.EnqueueContext(ctx, task)
	if err != nil {
		return err
	}
	used, err := rdb.MemoryUsage(ctx, "asynq:{"+info.Queue+"}:t:"+info.ID, 0).Result()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "enqueue %d B, 1 client\tpredecessor (Python, django-rq)\t%.2fx\t%s\t\t%s\t%d / %.0f\n", size, r.ratio, r.spread,
		r.rates, used, theirs)
	return err
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
