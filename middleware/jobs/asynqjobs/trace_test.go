package asynqjobs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// A trace goes on in the worker, and nothing of the job is in its spans or, unsealed, in Redis.
func TestTracesContinueInTheWorker(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	opt := asynqjobs.WithTracerProvider(tracers)
	b := newBench(t, nil, opt)
	got := make(chan trace.SpanContext, 10)
	h := asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		got <- trace.SpanContextFromContext(ctx)
		if len(task.Headers()) != 0 {
			t.Errorf("the handler sees headers that the sender did not give: %v", task.Headers())
		}
		switch task.Type() {
		case "fail-secret":
			return errors.New("secret")
		case "panic-secret":
			panic("secret")
		}
		return nil
	})
	ctx, request := tracers.Tracer("app").Start(t.Context(), "request")
	for _, typename := range []string{"ok-secret", "fail-secret", "panic-secret"} {
		info, err := b.client.EnqueueContext(ctx, asynq.NewTask(typename, []byte("secret")), asynq.Retention(time.Hour), asynq.MaxRetry(0))
		require.NoError(t, err)
		stored, err := b.inspector.GetTaskInfo("default", info.ID)
		require.NoError(t, err)
		require.Empty(t, stored.Headers)
		require.NotContains(t, string(stored.Payload), request.SpanContext().TraceID().String())
	}
	_, err := b.client.EnqueueContext(ctx, asynq.NewTask("x", nil), asynq.TaskID(" "))
	require.Error(t, err)
	request.End()
	stop := serve(t, b.conn, b.e, asynq.Config{}, h, opt)
	for range 3 {
		sc := <-got
		require.Equal(t, request.SpanContext().TraceID(), sc.TraceID())
	}
	eventually(t, "spans", patience, func() bool { return len(spans.Ended()) == 1+4+3 })
	stop()
	count := map[string]int{}
	for _, s := range spans.Ended() {
		require.Equal(t, request.SpanContext().TraceID(), s.SpanContext().TraceID())
		require.NotContains(t, fmt.Sprint(s.Name(), s.Attributes(), s.Events(), s.Status()), "secret")
		outcome := ""
		for _, kv := range s.Attributes() {
			if kv.Key == "sealcache.outcome" {
				outcome = kv.Value.AsString()
			}
		}
		count[s.Name()+" "+outcome]++
	}
	require.Equal(t, map[string]int{
		"request ": 1, "sealcache.jobs.enqueue ok": 3, "sealcache.jobs.enqueue other": 1,
		"sealcache.jobs.process ok": 1, "sealcache.jobs.process failed": 1, "sealcache.jobs.process panic": 1,
	}, count)
}

// Without a tracer provider, a worker still hands the trace to the application.
func TestTracesReachHandlersWithoutTracer(t *testing.T) {
	t.Parallel()
	tracers := sdktrace.NewTracerProvider()
	b := newBench(t, nil, asynqjobs.WithTracerProvider(tracers))
	ctx, request := tracers.Tracer("app").Start(t.Context(), "request")
	defer request.End()
	_, err := b.client.EnqueueContext(ctx, asynq.NewTask("t", nil))
	require.NoError(t, err)
	_, err = newClient(t, b.conn, b.e).EnqueueContext(ctx, asynq.NewTaskWithHeaders("t", nil, map[string]string{
		"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", // of an application that does it by itself
	}))
	require.NoError(t, err)
	got := make(chan string, 2)
	serve(t, b.conn, b.e, asynq.Config{}, asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
		got <- trace.SpanContextFromContext(ctx).TraceID().String()
		return nil
	}))
	require.ElementsMatch(t, []string{request.SpanContext().TraceID().String(), "0af7651916cd43dd8448eb211c80319c"}, []string{<-got, <-got})
}

// Without a tracer provider on either side, the trace of the caller's span reaches the handler, sealed.
func TestTracesWithoutTracers(t *testing.T) {
	t.Parallel()
	tracers := sdktrace.NewTracerProvider()
	b := newBench(t, nil)
	ctx, request := tracers.Tracer("app").Start(t.Context(), "request")
	defer request.End()
	traced, err := b.client.EnqueueContext(ctx, asynq.NewTask("traced", nil))
	require.NoError(t, err)
	stored, err := b.inspector.GetTaskInfo("default", traced.ID)
	require.NoError(t, err)
	require.Empty(t, stored.Headers)
	require.NotContains(t, string(stored.Payload), request.SpanContext().TraceID().String())
	_, err = b.client.Enqueue(asynq.NewTask("not traced", nil))
	require.NoError(t, err)
	_, err = b.client.EnqueueContext(ctx, nil)
	require.Error(t, err)

	// The context of Run is not that of a tick.
	s, err := asynqjobs.NewScheduler(b.rdb, b.client)
	require.NoError(t, err)
	_, err = s.ScheduleOnce(ctx, "n", asynqjobs.Every(time.Second), asynq.NewTask("tick", nil))
	require.NoError(t, err)
	run, cancel := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- s.Run(run) }()

	got := make(chan [2]string, 100)
	stop := serve(t, b.conn, b.e, asynq.Config{}, asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		if len(task.Headers()) != 0 {
			t.Errorf("the handler sees headers that the sender did not give: %v", task.Headers())
		}
		got <- [2]string{task.Type(), trace.SpanContextFromContext(ctx).TraceID().String()}
		return nil
	}))
	traces := map[string]string{}
	for len(traces) < 3 {
		x := <-got
		traces[x[0]] = x[1]
	}
	cancel()
	require.NoError(t, <-ended)
	stop()
	none := trace.TraceID{}.String()
	require.Equal(t, map[string]string{"traced": request.SpanContext().TraceID().String(), "not traced": none, "tick": none}, traces)
}
