package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strconv"
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

// predecessorResult is what the script prints.
type predecessorResult struct {
	Size   int     `json:"size"`
	Set    float64 `json:"set"` // operations per second
	Get    float64 `json:"get"`
	Stored int     `json:"stored"`

	Enqueue float64 `json:"enqueue"` // jobs per second; 0 without django-rq
	Job     int     `json:"job"`     // memory of one in Redis
}

// comparePredecessor runs the approach of django-secure-redis, Fernet in a serializer of django-redis, with one client, and
// then sealcache with one client.
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
	seconds := (time.Duration(e.rounds) * e.slice / 4).Seconds()
	cmd := exec.CommandContext(ctx, python, "-c", predecessorScript, server.Addr(), strconv.FormatFloat(seconds, 'f', 3, 64), "1024", "262144")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("predecessor: %w: %s", err, lastLine(stderr.Bytes()))
	}
	all, stop, err := newStores(server)
	if err != nil {
		return err
	}
	defer stop()
	inspect := redis.NewClient(server.ClientOptions())
	defer inspect.Close()
	for line := range bytes.Lines(out) {
		var theirs predecessorResult
		if err := json.Unmarshal(line, &theirs); err != nil {
			return fmt.Errorf("predecessor: %w", err)
		}
		value := random(theirs.Size)
		stored, err := fill(ctx, all[0], inspect, value)
		if err != nil {
			return err
		}
		key := all[0].name + ":0"
		for _, op := range []struct {
			name   string
			theirs float64
			do     func(ctx context.Context, worker, i int) error
		}{
			{"set", theirs.Set, func(ctx context.Context, _, _ int) error { return all[0].set(ctx, key, value) }},
			{"get", theirs.Get, func(ctx context.Context, _, _ int) error {
				_, err := all[0].get(ctx, key)
				return err
			}},
		} {
			var rates []float64
			for range e.rounds {
				perSecond, err := slice(ctx, e.slice, 1, way{do: op.do})
				if err != nil {
					return err
				}
				rates = append(rates, perSecond)
			}
			ratio := median(rates) / op.theirs
			fmt.Fprintf(w, "%s %d B, 1 client\tpredecessor (Python)\t%.2fx\t\t%s\t%.0f/s / %.0f/s\t%d / %d\n", op.name, theirs.Size,
				ratio, budget(theirs.Size, ratio), median(rates), op.theirs, stored, theirs.Stored)
		}
		if err := compareEnqueue(ctx, e, server, theirs, w); err != nil {
			return fmt.Errorf("jobs of the predecessor: %w", err)
		}
	}
	return nil
}

// compareEnqueue enqueues sealed jobs on asynq with one client. Bytes are the memory of a job's hash in Redis.
func compareEnqueue(ctx context.Context, e extent, server *redistest.Server, theirs predecessorResult, w io.Writer) error {
	if theirs.Enqueue == 0 {
		_, err := fmt.Fprintf(w, "enqueue %d B\tskipped: there is no django-rq\n", theirs.Size)
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
	task := asynq.NewTask("work", random(theirs.Size))
	var rates []float64
	for range e.rounds {
		perSecond, err := slice(ctx, e.slice, 1, way{do: func(ctx context.Context, _, _ int) error {
			_, err := client.EnqueueContext(ctx, task)
			return err
		}})
		if err != nil {
			return err
		}
		if err := rdb.FlushDB(ctx).Err(); err != nil {
			return err
		}
		rates = append(rates, perSecond)
	}
	info, err := client.EnqueueContext(ctx, task)
	if err != nil {
		return err
	}
	used, err := rdb.MemoryUsage(ctx, "asynq:{"+info.Queue+"}:t:"+info.ID, 0).Result()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "enqueue %d B, 1 client\tpredecessor (Python, django-rq)\t%.2fx\t\t\t%.0f/s / %.0f/s\t%d / %d\n", theirs.Size,
		median(rates)/theirs.Enqueue, median(rates), theirs.Enqueue, used, theirs.Job)
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
