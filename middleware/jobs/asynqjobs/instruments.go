package asynqjobs

import (
	"context"
	"log/slog"
	"time"

	"github.com/hibiken/asynq"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/internal/telemetry"
	"github.com/sealcache/sealcache/middleware/jobs"
)

const scope = "github.com/sealcache/sealcache/middleware/jobs/asynqjobs"

// instruments count the tasks that are enqueued and admitted. Nothing that they write holds a payload, a result, an
// error text of the application or a type name.
type instruments struct {
	log       *slog.Logger
	limit     telemetry.Limiter
	admission *telemetry.Counter
	enqueues  *telemetry.Counter
	ticks     *telemetry.Counter
	scheduled *telemetry.Counter
	tracer    trace.Tracer // nil: no spans
	namespace attribute.KeyValue
}

func newInstruments(e *jobs.Encryptor, c *config) (*instruments, error) {
	namespace := attribute.String("sealcache.namespace", e.Namespace())
	m := c.telemetry.Meter(scope, namespace)
	t := &instruments{
		log:       c.telemetry.Logger().With("namespace", e.Namespace()),
		limit:     telemetry.NewLimiter(),
		tracer:    c.telemetry.Tracer(scope),
		namespace: namespace,
		admission: m.Counter("sealcache.jobs.admission", "Tasks that reached a handler or an aggregator, by outcome and reason.",
			"sealcache.outcome", "sealcache.reason"),
		enqueues: m.Counter("sealcache.jobs.enqueued", "Tasks that a Client was asked to enqueue, by outcome.", "sealcache.outcome"),
		ticks:    m.Counter("sealcache.jobs.ticks", "Ticks (times at which a schedule was due), by outcome.", "sealcache.outcome"),
		scheduled: m.Counter("sealcache.jobs.schedules", "Schedules that a running Scheduler stored or ended again after Redis lost data, by outcome.",
			"sealcache.outcome"),
	}
	return t, m.Err()
}

func (t *instruments) sealed(ctx context.Context) { t.admission.Add(ctx, 1, "sealed", "") }

func (t *instruments) plaintext(ctx context.Context, at identity) {
	t.admission.Add(ctx, 1, "plaintext", "")
	if t.limit.Allow() {
		t.log.InfoContext(ctx, "sealcache: a plaintext task was accepted", "queue", shown(at.queue), "id", shown(at.id))
	}
}

func (t *instruments) refused(ctx context.Context, at identity, r Reason) {
	t.admission.Add(ctx, 1, "refused", string(r))
	if t.limit.Allow() {
		t.log.WarnContext(ctx, "sealcache: a task was refused", "queue", shown(at.queue), "id", shown(at.id), "reason", string(r))
	}
}

func (t *instruments) retried(ctx context.Context, at identity, r Reason) {
	t.admission.Add(ctx, 1, "retried", string(r))
	if t.limit.Allow() {
		t.log.WarnContext(ctx, "sealcache: a task cannot be opened now: asynq retries it, or archives it after its last try", "queue", shown(at.queue), "id", shown(at.id), "reason", string(r))
	}
}

func (t *instruments) tick(ctx context.Context, outcome string) { t.ticks.Add(ctx, 1, outcome) }

func (t *instruments) schedules(ctx context.Context, outcome string, n int) {
	if n > 0 {
		t.scheduled.Add(ctx, int64(n), outcome)
	}
}

// announce logs, once at start, whether plaintext tasks are accepted.
func (t *instruments) announce(c *config) {
	switch {
	case c.policy == jobs.RejectPlaintext:
	case !c.tolerant():
		t.log.Info("sealcache: the time of WithPlaintextUntil has passed, so plaintext tasks are refused", "until", c.until.Format(time.RFC3339))
	case c.until.IsZero():
		t.log.Warn("sealcache: plaintext tasks are accepted without a time limit (set WithPlaintextUntil)", "policy", c.policy.String())
	default:
		t.log.Info("sealcache: plaintext tasks are accepted until the time of WithPlaintextUntil", "policy", c.policy.String(), "until", c.until.Format(time.RFC3339))
	}
}

// shown bounds a queue or an id in a log line or a span. An attacker can plant a task with huge ones.
func shown(name string) string {
	const most = 512
	return asynqwire.Shorten(name, most)
}

// startEnqueue starts the span of an enqueue. Without a tracer provider the span is nil.
func (t *instruments) startEnqueue(ctx context.Context) (context.Context, trace.Span) {
	if t.tracer == nil {
		return ctx, nil
	}
	return t.tracer.Start(ctx, "sealcache.jobs.enqueue", trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(t.namespace, attribute.String("messaging.system", "asynq"), attribute.String("messaging.operation.type", "send")))
}

// traceContext returns the W3C trace context that is sealed with a task, or nil if ctx has none. Without a tracer provider it is
// that of the application's span. A task with the application's own trace context then keeps it, and a tick, for which only the
// context of Scheduler.Run exists, has none.
func (t *instruments) traceContext(ctx context.Context, task *asynq.Task, tick *Tick) map[string]string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return nil
	}
	if t.tracer == nil && (tick != nil || task == nil || task.Headers()[traceHeader] != "") {
		return nil
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier
}

// traceHeader is the header of W3C trace context that names the span.
const traceHeader = "traceparent"

// startProcess continues the trace of an opened task. It starts the span of the processing, which began at start. o is nil for
// a task that did not open. Without a tracer provider the span is nil.
func (t *instruments) startProcess(ctx context.Context, start time.Time, at identity, o *opened) (context.Context, trace.Span) {
	if o != nil {
		carrier := propagation.MapCarrier(o.trace)
		if len(carrier) == 0 {
			carrier = o.task.Headers() // of an application that propagates the trace by itself
		}
		ctx = propagation.TraceContext{}.Extract(ctx, carrier)
	}
	if t.tracer == nil {
		return ctx, nil
	}
	ctx, span := t.tracer.Start(ctx, "sealcache.jobs.process", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(start),
		trace.WithAttributes(t.namespace, attribute.String("messaging.system", "asynq"), attribute.String("messaging.operation.type", "process")))
	describeTask(span, at)
	return ctx, span
}

// describeTask sets the attributes of a task whose queue and id are known.
func describeTask(span trace.Span, at identity) {
	span.SetAttributes(attribute.String("messaging.destination.name", shown(at.queue)), attribute.String("messaging.message.id", shown(at.id)))
}

// endSpan ends a span, which may be nil. An outcome other than "ok" is an error. It must be a constant or a reason: error
// texts may quote a payload.
func endSpan(span trace.Span, outcome string) {
	if span == nil {
		return
	}
	span.SetAttributes(attribute.String("sealcache.outcome", outcome))
	if outcome != "ok" {
		span.SetStatus(codes.Error, outcome)
	}
	span.End()
}
