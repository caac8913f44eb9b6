package asynqjobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// shop is an asynq application as asynq's users write them: a mux with middleware, several queues, unique tasks, groups,
// results, retries, an error handler. The differences between plaintext and sealed are parameters.
type shop struct {
	client      enqueuer
	writeResult func(ctx context.Context, t *asynq.Task, b []byte) error

	mu  sync.Mutex
	log []string
}

func (s *shop) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf(format, args...))
}

func (s *shop) notes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	sorted := append([]string(nil), s.log...)
	sort.Strings(sorted)
	return sorted
}

type order struct {
	Number int
	Email  string
}

func newOrderTask(typename string, o order, opts ...asynq.Option) *asynq.Task {
	payload, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return asynq.NewTask(typename, payload, append([]asynq.Option{asynq.MaxRetry(2), asynq.Timeout(time.Minute)}, opts...)...)
}

func (s *shop) mux() *asynq.ServeMux {
	mux := asynq.NewServeMux()
	mux.Use(func(next asynq.Handler) asynq.Handler {
		return asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
			queue, _ := asynq.GetQueueName(ctx)
			s.note("start %s on %s", t.Type(), queue)
			return next.ProcessTask(ctx, t)
		})
	})
	mux.HandleFunc("order:confirm", func(ctx context.Context, t *asynq.Task) error {
		var o order
		if err := json.Unmarshal(t.Payload(), &o); err != nil {
			return fmt.Errorf("order: %w: %w", err, asynq.SkipRetry)
		}
		s.note("confirmed %d to %s", o.Number, o.Email)
		return s.writeResult(ctx, t, fmt.Appendf(nil, "mailed %s", o.Email))
	})
	mux.HandleFunc("order:charge", func(ctx context.Context, t *asynq.Task) error {
		if n, _ := asynq.GetRetryCount(ctx); n == 0 {
			return fmt.Errorf("card of %s declined", t.Payload())
		}
		s.note("charged %s", t.Payload())
		return nil
	})
	mux.HandleFunc("order:broken", func(context.Context, *asynq.Task) error {
		return fmt.Errorf("no such order: %w", asynq.SkipRetry)
	})
	mux.HandleFunc("order:", func(_ context.Context, t *asynq.Task) error {
		s.note("by prefix: %s %s", t.Type(), t.Payload())
		return nil
	})
	mux.HandleFunc("digest", func(_ context.Context, t *asynq.Task) error {
		s.note("digest %s", t.Payload())
		return nil
	})
	return mux
}

func (s *shop) config() asynq.Config {
	return fast(asynq.Config{
		Queues: map[string]int{"critical": 2, "default": 1},
		ErrorHandler: asynq.ErrorHandlerFunc(func(_ context.Context, t *asynq.Task, err error) {
			s.note("error of %s %s: %v (skip %v)", t.Type(), t.Payload(), err, errors.Is(err, asynq.SkipRetry))
		}),
		RetryDelayFunc: func(n int, err error, t *asynq.Task) time.Duration {
			s.note("retry %d of %s: %v", n, t.Type(), err)
			return time.Second
		},
		GroupAggregator: asynq.GroupAggregatorFunc(func(group string, tasks []*asynq.Task) *asynq.Task {
			var all []string
			for _, t := range tasks {
				all = append(all, string(t.Payload()))
			}
			sort.Strings(all)
			return asynq.NewTask("digest", []byte(group+": "+strings.Join(all, ",")))
		}),
	})
}

// work enqueues a day's work.
func (s *shop) work() error {
	var errs []error
	enqueue := func(t *asynq.Task, opts ...asynq.Option) {
		_, err := s.client.Enqueue(t, opts...)
		errs = append(errs, err)
	}
	enqueue(newOrderTask("order:confirm", order{1, "ada@example.org"}, asynq.TaskID("confirm"), asynq.Retention(time.Hour), asynq.Queue("critical")))
	enqueue(newOrderTask("order:charge", order{2, "bob@example.org"}))
	enqueue(newOrderTask("order:broken", order{3, "eve@example.org"}, asynq.TaskID("broken")))
	enqueue(newOrderTask("order:other", order{4, "joe@example.org"}), asynq.ProcessIn(time.Second))
	enqueue(asynq.NewTask("order:count", nil))
	for i := range 3 {
		enqueue(asynq.NewTask("digest:item", fmt.Append(nil, i)), asynq.Group("daily"))
	}
	enqueue(newOrderTask("order:once", order{5, "sue@example.org"}, asynq.Unique(time.Hour)), asynq.ProcessIn(2*time.Second))
	_, err := s.client.Enqueue(newOrderTask("order:once", order{5, "sue@example.org"}), asynq.Unique(time.Hour))
	s.note("twice: %s", outcome(err))
	return errors.Join(errs...)
}

// The application does the same with plaintext and with sealed jobs. Plaintext jobs that are left are processed after the change.
func TestExistingApplicationMoves(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	conn := connTo(srv.Addr())
	inspector := asynq.NewInspector(conn)
	defer inspector.Close()
	done := func(s *shop, since int) {
		t.Helper()
		eventually(t, "a day's work", patience, func() bool {
			n := 0
			for _, line := range s.notes() {
				for _, last := range []string{"confirmed", "charged", "by prefix: order:other", "by prefix: order:once", "by prefix: order:count", "error of order:broken", "digest daily: 0,1,2"} {
					if strings.HasPrefix(line, last) {
						n++
					}
				}
			}
			return n == since+7
		})
		info, err := inspector.GetTaskInfo("default", "broken")
		require.NoError(t, err)
		require.Equal(t, asynq.TaskStateArchived, info.State)
	}

	// As it was.
	plain := asynq.NewClient(conn)
	defer plain.Close()
	before := &shop{client: plain, writeResult: func(_ context.Context, t *asynq.Task, b []byte) error {
		_, err := t.ResultWriter().Write(b)
		return err
	}}
	old := asynq.NewServer(conn, before.config())
	require.NoError(t, old.Start(before.mux()))
	require.NoError(t, before.work())
	done(before, 0)
	old.Shutdown()
	require.NoError(t, inspector.DeleteTask("default", "broken"))
	require.NoError(t, inspector.DeleteTask("critical", "confirm"))

	// Left over when the change is rolled out.
	_, err := plain.Enqueue(newOrderTask("order:left", order{6, "kim@example.org"}))
	require.NoError(t, err)

	// As it is: the constructor, the wrapped config, the wrapped mux, WriteResult.
	e := newEncryptor(t, nil)
	client, err := asynqjobs.NewClient(asynq.NewClient(conn), e)
	require.NoError(t, err)
	defer client.Close()
	after := &shop{client: client, writeResult: func(ctx context.Context, _ *asynq.Task, b []byte) error {
		return asynqjobs.WriteResult(ctx, b)
	}}
	opts := []asynqjobs.Option{asynqjobs.WithPlaintextUntil(time.Now().Add(time.Hour)), asynqjobs.WithGroupClient(plain), asynqjobs.WithLogger(quiet)}
	cfg, err := asynqjobs.Config(e, after.config(), opts...)
	require.NoError(t, err)
	handler, err := asynqjobs.Handler(e, after.mux(), opts...)
	require.NoError(t, err)
	srvNow := asynq.NewServer(conn, cfg)
	require.NoError(t, srvNow.Start(handler))
	defer srvNow.Shutdown()
	require.NoError(t, after.work())
	done(after, 0)

	const left = "by prefix: order:left"
	eventually(t, "the plaintext job", patience, func() bool { return strings.Contains(strings.Join(after.notes(), "\n"), left) })
	var now []string
	for _, line := range after.notes() {
		if !strings.Contains(line, "order:left") {
			now = append(now, line)
		}
	}
	require.Equal(t, before.notes(), now)

	info, err := inspector.GetTaskInfo("critical", "confirm")
	require.NoError(t, err)
	require.NotContains(t, string(info.Result), "ada")
	result, err := client.OpenResult(t.Context(), info)
	require.NoError(t, err)
	require.Equal(t, "mailed ada@example.org", string(result))
	info, err = inspector.GetTaskInfo("default", "broken")
	require.NoError(t, err)
	require.True(t, jobs.IsSealed(info.Payload))
	require.NotContains(t, info.LastErr, "order")
}
