package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// printer prints lines from several goroutines.
type printer struct {
	mu    sync.Mutex
	w     io.Writer
	ticks int
}

func (p *printer) printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintf(p.w, format+"\n", args...)
}

// tick prints the first three runs of the digest.
func (p *printer) tick(to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ticks++; p.ticks <= 3 {
		_, _ = fmt.Fprintf(p.w, "  handler of mail:digest: to %s, tick %d\n", to, p.ticks)
	}
}

func (p *printer) ticked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ticks
}

// story is what the program shows.
type story struct {
	client    *asynqjobs.Client
	e         *jobs.Encryptor
	scheduler *asynqjobs.Scheduler
	inspector *asynq.Inspector
	intruder  *asynq.Client // someone who can write to Redis, and has no keys
	p         *printer
}

func newStory(rdb redis.UniversalClient, c *asynqjobs.Client, e *jobs.Encryptor, s *asynqjobs.Scheduler, p *printer) *story {
	return &story{
		client: c, e: e, scheduler: s, p: p,
		inspector: asynq.NewInspectorFromRedisClient(rdb),
		intruder:  asynq.NewClientFromRedisClient(rdb),
	}
}

func (s *story) tell(ctx context.Context) error {
	c := jobsOfThisApplication()
	ada := welcomeArgs{Name: "Ada", Email: "ada@example.org"}
	card := chargeArgs{Card: "4111 1111 1111 1111", Cents: 1200}

	s.p.printf("\na job, its result, and what Redis holds of them:")
	info, err := c.welcome.Delay(ctx, s.client, ada)
	if err != nil {
		return err
	}
	if info, err = s.await(ctx, info, asynq.TaskStateCompleted); err != nil {
		return err
	}
	s.p.printf("  Redis: type %s..., payload sealed %v, result sealed %v", info.Type[:12], jobs.IsSealed(info.Payload), jobs.IsSealed(info.Result))
	result, err := s.client.OpenResult(ctx, info)
	if err != nil {
		return err
	}
	s.p.printf("  result, opened: %s", result)

	s.p.printf("\nthe same job twice, with asynq.Unique:")
	_, err = c.welcome.EnqueueIn(ctx, s.client, time.Hour, ada, asynq.Unique(2*time.Hour))
	s.p.printf("  first: %v", err)
	_, err = c.welcome.EnqueueIn(ctx, s.client, time.Hour, ada, asynq.Unique(2*time.Hour))
	s.p.printf("  again: %v", err)

	s.p.printf("\na job that fails and is tried again:")
	if info, err = c.charge.Delay(ctx, s.client, card); err != nil {
		return err
	}
	if _, err = s.await(ctx, info, asynq.TaskStateCompleted); err != nil {
		return err
	}

	s.p.printf("\njobs that fail for good, and panic:")
	for _, job := range []*asynqjobs.Job[chargeArgs]{c.refund, c.crash} {
		if info, err = job.Delay(ctx, s.client, card); err != nil {
			return err
		}
		if info, err = s.await(ctx, info, asynq.TaskStateArchived); err != nil {
			return err
		}
		text, err := asynqjobs.OpenFailure(ctx, s.e, info)
		if err != nil {
			return err
		}
		s.p.printf("  %s: Redis has the card in its error: %v; opened: ...%s", job.Type(), strings.Contains(info.LastErr, "4111"), text[strings.Index(text, "card "):])
	}

	s.p.printf("\na job that somebody else put into Redis:")
	if info, err = s.intruder.EnqueueContext(ctx, asynq.NewTask("card:refund", []byte(`{"Card":"mine","Cents":100000}`))); err != nil {
		return err
	}
	if info, err = s.await(ctx, info, asynq.TaskStateArchived); err != nil {
		return err
	}
	reason, _ := asynqjobs.ReasonOf(info)
	s.p.printf("  archived, not run: %s", reason)

	s.p.printf("\nthe periodic job, once per second however many processes run:")
	for s.p.ticked() < 3 {
		if err := pause(ctx); err != nil {
			return err
		}
	}
	list, err := s.scheduler.List(ctx)
	for _, i := range list {
		s.p.printf("  listed: %q, %s, %s %s", i.Name, i.When, i.Type, i.Payload)
	}
	return err
}

// await waits until the job is in the state.
func (s *story) await(ctx context.Context, info *asynq.TaskInfo, state asynq.TaskState) (*asynq.TaskInfo, error) {
	for {
		now, err := s.inspector.GetTaskInfo(info.Queue, info.ID)
		if err != nil && !errors.Is(err, asynq.ErrTaskNotFound) {
			return nil, err
		}
		if err == nil && now.State == state {
			return now, nil
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(20 * time.Millisecond):
		return nil
	}
}
