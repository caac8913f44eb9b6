package asynqjobs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// rolloutStates reads the states of a rollout, in their order, from the runbook's chapter on jobs.
func rolloutStates(t *testing.T) (names []string, options map[string][]asynqjobs.Option) {
	t.Helper()
	b, err := os.ReadFile("../../../docs/rollout.md")
	require.NoError(t, err)
	_, chapter, ok := strings.Cut(string(b), "\n## Rolling out sealed jobs\n")
	require.True(t, ok)
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	known := map[string][]asynqjobs.Option{
		"no asynqjobs": nil,
		"`asynqjobs.WithPlaintext(jobs.WritePlaintext)`": {asynqjobs.WithPlaintext(jobs.WritePlaintext)},
		"`asynqjobs.WithPlaintext(jobs.ReadPlaintext)`":  {asynqjobs.WithPlaintext(jobs.ReadPlaintext)},
		"none": {},
	}
	options = map[string][]asynqjobs.Option{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([a-z]+) \|.*\| ([^|]*) \|$`).FindAllStringSubmatch(chapter, -1) {
		if row[1] == "state" {
			continue
		}
		opts, ok := known[row[2]]
		require.True(t, ok, row[2])
		names, options[row[1]] = append(names, row[1]), opts
	}
	require.Equal(t, []string{"off", "prepare", "tolerate", "require"}, names)
	return names, options
}

// process is one process of a rollout: a client and a worker in one of the states.
type rolloutProcess struct {
	state  string
	client enqueuer
	result func(context.Context, *asynq.TaskInfo) ([]byte, error)
	stop   func()
}

// rollout is an application whose processes go from one state to the next.
type rollout struct {
	*bench
	options map[string][]asynqjobs.Option

	mu   sync.Mutex
	seen map[string]int // payloads
	by   map[string]int // tasks by the state of the process that ran them
}

func (r *rollout) handle(state string, write func(context.Context, *asynq.Task, []byte) error) asynq.Handler {
	return asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		payload := string(task.Payload())
		if n, _ := asynq.GetRetryCount(ctx); task.Type() == "flaky" && n == 0 {
			return errors.New("the first try fails")
		}
		r.mu.Lock()
		r.seen[payload]++
		r.by[state]++
		r.mu.Unlock()
		return write(ctx, task, []byte("result of "+payload))
	})
}

func (r *rollout) start(t *testing.T, state string) rolloutProcess {
	t.Helper()
	cfg := fast(asynq.Config{
		Concurrency:    2,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Second },
		GroupAggregator: asynq.GroupAggregatorFunc(func(_ string, tasks []*asynq.Task) *asynq.Task {
			var parts []string
			for _, task := range tasks {
				parts = append(parts, string(task.Payload()))
			}
			return asynq.NewTask("batch", []byte(strings.Join(parts, "+")))
		}),
	})
	opts := r.options[state]
	if opts == nil {
		h := r.handle(state, func(_ context.Context, task *asynq.Task, b []byte) error {
			_, err := task.ResultWriter().Write(b)
			return err
		})
		srv := asynq.NewServer(r.conn, cfg)
		require.NoError(t, srv.Start(h))
		result := func(_ context.Context, info *asynq.TaskInfo) ([]byte, error) { return info.Result, nil }
		return rolloutProcess{state, r.plain, result, srv.Shutdown}
	}
	c := newClient(t, r.conn, r.e, opts...)
	h := r.handle(state, func(ctx context.Context, _ *asynq.Task, b []byte) error { return asynqjobs.WriteResult(ctx, b) })
	return rolloutProcess{state, c, c.OpenResult, serve(t, r.conn, r.e, cfg, h, opts...)}
}

// together runs two processes of two states until every job that either has enqueued has run, and read back by both.
func (r *rollout) together(t *testing.T, phase string, processes ...rolloutProcess) {
	t.Helper()
	var want []string
	for n, p := range processes {
		for i := range 12 {
			payload := fmt.Sprintf("%s/%d/%d", phase, n, i)
			want = append(want, payload)
			id := strings.ReplaceAll(payload, "/", "-")
			opts := []asynq.Option{asynq.Retention(time.Hour), asynq.TaskID(id)}
			typename := "plain"
			switch i % 4 {
			case 1:
				opts = append(opts, asynq.Unique(time.Hour))
			case 2:
				typename = "flaky"
			case 3:
				opts = []asynq.Option{asynq.Group(phase)}
			}
			_, err := p.client.Enqueue(asynq.NewTask(typename, []byte(payload)), opts...)
			require.NoError(t, err, payload)
		}
	}
	eventually(t, phase, 2*patience, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		ran := map[string]bool{}
		for payload := range r.seen {
			for part := range strings.SplitSeq(payload, "+") {
				ran[part] = true
			}
		}
		for _, payload := range want {
			if !ran[payload] {
				return false
			}
		}
		for _, p := range processes {
			if r.by[p.state] == 0 { // the other one was faster each time
				_, err := p.client.Enqueue(asynq.NewTask("plain", []byte("one more")))
				require.NoError(t, err)
				return false
			}
		}
		return true
	})
	for n := range processes {
		for i := range 12 {
			if i%4 == 3 {
				continue
			}
			payload := fmt.Sprintf("%s/%d/%d", phase, n, i)
			info := r.awaitState(t, "default", strings.ReplaceAll(payload, "/", "-"), asynq.TaskStateCompleted)
			for reader, p := range processes {
				got, err := p.result(t.Context(), info)
				require.NoError(t, err, "%s, read by process %d", payload, reader)
				require.Equal(t, "result of "+payload, string(got), "read by process %d", reader)
			}
		}
	}
	queue, err := r.inspector.GetQueueInfo("default")
	require.NoError(t, err)
	require.Zero(t, queue.Archived, phase)
	require.Zero(t, queue.Retry, phase)
	// A payload that came out sealed would be none of those that went in.
	r.mu.Lock()
	defer r.mu.Unlock()
	for payload := range r.seen {
		require.False(t, jobs.IsSealed([]byte(payload)), phase)
	}
}

// A fleet goes through the states of the runbook, forward and back, with processes of two neighbouring states at work side by
// side. No job is lost, none is archived, and every process reads what the other writes.
func TestRolloutForwardAndBack(t *testing.T) {
	t.Parallel()
	names, options := rolloutStates(t)
	r := &rollout{bench: newBench(t, nil), options: options, seen: map[string]int{}, by: map[string]int{}}
	way := append(append([]string(nil), names...), "tolerate", "prepare", "off")
	old := r.start(t, way[0])
	r.together(t, "0", old)
	for n, state := range way[1:] {
		next := r.start(t, state)
		r.together(t, fmt.Sprintf("%d-%s", n+1, state), old, next)
		old.stop()
		old = next
	}
	r.together(t, "end", old)
	old.stop()
	for _, state := range names {
		require.Positive(t, r.by[state], state)
	}
}

// The worst case that the states avoid: a worker with asynq's own handler does not understand a sealed job.
func TestOldWorkersDoNotUnderstandSealedJobs(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	info, err := b.client.Enqueue(asynq.NewTask("t", []byte(`{"a":1}`)))
	require.NoError(t, err)
	srv := asynq.NewServer(b.conn, fast(asynq.Config{}))
	require.NoError(t, srv.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		if !jobs.IsSealed(task.Payload()) {
			t.Errorf("%q", task.Payload())
		}
		return fmt.Errorf("not JSON: %w", asynq.SkipRetry)
	})))
	defer srv.Shutdown()
	b.awaitState(t, "default", info.ID, asynq.TaskStateArchived)
}
