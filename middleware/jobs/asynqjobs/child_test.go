package asynqjobs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// This test binary also plays other processes of an application.
const (
	roleVariable  = "ASYNQJOBS_TEST_ROLE"
	keysVariable  = "ASYNQJOBS_TEST_KEYS"
	redisVariable = "ASYNQJOBS_TEST_REDIS"
)

var quiet = slog.New(slog.DiscardHandler)

// process is a child, and what it printed.
type process struct {
	cmd *exec.Cmd
	in  io.Closer
	out sealtest.Logs
}

// spawn starts a child. It ends when its standard input does, so that none outlives the test.
func spawn(t *testing.T, role, keys, redisAddr string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role, keysVariable+"="+keys, redisVariable+"="+redisAddr)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, os.Stderr
	in, err := p.cmd.StdinPipe()
	require.NoError(t, err)
	p.in = in
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	return p
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// end lets it end in peace.
func (p *process) end() {
	_ = p.in.Close()
	_ = p.cmd.Wait()
}

func child(role string) int {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
		time.Sleep(5 * time.Second)
		os.Exit(3)
	}()
	if err := play(ctx, role); err != nil {
		fmt.Fprintln(os.Stderr, role, err)
		return 1
	}
	return 0
}

func play(ctx context.Context, role string) error {
	k, set, err := openKeysets(ctx, os.Getenv(keysVariable))
	if err != nil {
		return err
	}
	e, err := jobs.NewEncryptor(k, jobs.WithPRF(set), jobs.WithLogger(quiet))
	if err != nil {
		return err
	}
	rdb := redis.NewClient(patient(os.Getenv(redisVariable)))
	defer rdb.Close()
	client, err := asynqjobs.NewClient(asynq.NewClientFromRedisClient(rdb), e, asynqjobs.WithLogger(quiet))
	if err != nil {
		return err
	}
	name, arg, _ := strings.Cut(role, " ")
	switch name {
	case "unique":
		_, err := client.EnqueueContext(ctx, asynq.NewTask("unique", []byte(arg)), asynq.Unique(time.Hour))
		switch {
		case err == nil:
			_, _ = os.Stdout.WriteString("enqueued")
		case errors.Is(err, asynq.ErrDuplicateTask):
			_, _ = os.Stdout.WriteString("duplicate")
		default:
			return err
		}
		return nil
	case "stuck":
		// Takes a task, says so in Redis and never ends.
		return workForever(ctx, rdb, e, asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
			rdb.RPush(ctx, "taken", string(t.Payload()))
			<-make(chan struct{})
			return nil
		}))
	case "worker":
		// Prints what it is given, one line each. The first time it fails or does not end, if asked to.
		return workForever(ctx, rdb, e, asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
			_, _ = fmt.Fprintf(os.Stdout, "%q\n", t.Payload())
			time.Sleep(5 * time.Millisecond)
			n, _ := asynq.GetRetryCount(ctx)
			switch {
			case n > 0:
			case strings.HasPrefix(string(t.Payload()), "twice"):
				return fmt.Errorf("not the first time: %s", t.Payload())
			case strings.HasPrefix(string(t.Payload()), "stuck"):
				<-make(chan struct{}) // until it is killed
			}
			return asynqjobs.WriteResult(ctx, t.Payload())
		}))
	case "scheduler":
		s, err := asynqjobs.NewScheduler(rdb, client)
		if err != nil {
			return err
		}
		for name, when := range map[string]asynqjobs.Schedule{"interval": asynqjobs.Every(time.Second), "cron": asynqjobs.Cron("* * * * *")} {
			changed, err := tick.ScheduleOnce(ctx, s, name, when, tickArgs{Note: name}, asynq.Queue("ticks"))
			for ; err != nil && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) { // Redis is down
				changed, err = tick.ScheduleOnce(ctx, s, name, when, tickArgs{Note: name}, asynq.Queue("ticks"))
			}
			if changed {
				rdb.Incr(ctx, "changed")
			}
		}
		return s.Run(ctx)
	default:
		return fmt.Errorf("unknown role %q", name)
	}
}

// soon retries after a second.
func soon(int, error, *asynq.Task) time.Duration { return time.Second }

func workForever(ctx context.Context, rdb redis.UniversalClient, e *jobs.Encryptor, h asynq.Handler) error {
	cfg, err := asynqjobs.Config(e, fast(asynq.Config{RetryDelayFunc: soon}))
	if err != nil {
		return err
	}
	sealed, err := asynqjobs.Handler(e, h)
	if err != nil {
		return err
	}
	srv := asynq.NewServerFromRedisClient(rdb, cfg)
	if err := srv.Start(sealed); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

type tickArgs struct{ Note string }

var tick = asynqjobs.Define[tickArgs]("tick", asynq.MaxRetry(3))
