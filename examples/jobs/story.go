package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/fx"

	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
	"github.com/sealcache/sealcache/stores/redisstore"
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

// story is the demonstration.
type story struct {
	client    *asynqjobs.Client
	e         *jobs.Encryptor
	scheduler *asynqjobs.Scheduler
	inspector *asynq.Inspector
	pages     addresses
	intruder  *asynq.Client // has write access to Redis and no keys
	p         *printer
}

func newStory(lc fx.Lifecycle, set settings, c *asynqjobs.Client, e *jobs.Encryptor, s *asynqjobs.Scheduler, i *asynq.Inspector, pages addresses, p *printer) (*story, error) {
	rdb, err := redisstore.OpenClient(context.Background(), set.redis)
	if err != nil {
		return nil, err
	}
	lc.Append(fx.StopHook(rdb.Close))
	return &story{
		client: c, e: e, scheduler: s, inspector: i, pages: pages, p: p,
		intruder: asynq.NewClientFromRedisClient(rdb),
	}, nil
}

func (s *story) tell(ctx context.Context) error {
	c := jobsOfThisApplication()
	ada := welcomeArgs{Name: "Ada", Email: "ada@example.org"}
	card := chargeArgs{Card: "4111 1111 1111 1111", Cents: 1200}

	s.p.printf("\na job and its result, in Redis:")
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
		s.p.printf("  %s: the error text in Redis contains the card: %v; opened: ...%s", job.Type(), strings.Contains(info.LastErr, card.Card), text[strings.Index(text, "card "):])
	}

	s.p.printf("\nthe last of them on the admin page:")
	for _, user := range []string{"operator", "auditor"} {
		shown, err := s.look(ctx, user, info)
		if err != nil {
			return err
		}
		s.p.printf("  the %s sees %s, payload %s", user, shown.Type, shown.Payload)
	}

	s.p.printf("\na plaintext job that an attacker enqueued:")
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

// shown is a part of the page's answer about a task.
type shown struct{ Type, Payload string }

// look requests a task as the page's own script does.
func (s *story) look(ctx context.Context, user string, info *asynq.TaskInfo) (shown, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.pages[user]+"api/queues/"+info.Queue+"/tasks/"+info.ID, nil)
	if err != nil {
		return shown{}, err
	}
	defer http.DefaultClient.CloseIdleConnections()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return shown{}, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return shown{}, fmt.Errorf("the admin page answered %s", answer.Status)
	}
	var task shown
	err = json.NewDecoder(answer.Body).Decode(&task)
	return task, err
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
