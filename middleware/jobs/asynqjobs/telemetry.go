package asynqjobs

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/time/rate"

	"github.com/sealcache/sealcache/middleware/jobs"
)

const scope = "github.com/sealcache/sealcache/middleware/jobs/asynqjobs"

// telemetry counts and logs what is admitted. Nothing that it writes holds a
// payload, a result, an error text of the application or a type name.
type telemetry struct {
	log       *slog.Logger
	limit     *rate.Limiter // of log lines: ten at once and one a second
	namespace attribute.KeyValue
	admission metric.Int64Counter // nil: no metrics
	ticks     metric.Int64Counter
}

func newTelemetry(e *jobs.Encryptor, c *config) (*telemetry, error) {
	t := &telemetry{
		log:       c.logger.With("namespace", e.Namespace()),
		limit:     rate.NewLimiter(rate.Every(time.Second), 10),
		namespace: attribute.String("sealcache.namespace", e.Namespace()),
	}
	if c.meters == nil {
		return t, nil
	}
	m := c.meters.Meter(scope)
	var err error
	if t.admission, err = m.Int64Counter("sealcache.jobs.admission",
		metric.WithDescription("Tasks that reached a handler or an aggregator, by outcome and reason.")); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	if t.ticks, err = m.Int64Counter("sealcache.jobs.ticks",
		metric.WithDescription("Ticks of schedules, by outcome.")); err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return t, nil
}

func (t *telemetry) sealed(ctx context.Context) { t.admit(ctx, "sealed", "") }

func (t *telemetry) clear(ctx context.Context, at place) {
	t.admit(ctx, "clear", "")
	if t.limit.Allow() {
		t.log.InfoContext(ctx, "sealcache: task in clear tolerated", "queue", at.queue, "id", at.id)
	}
}

func (t *telemetry) refused(ctx context.Context, at place, r Reason) {
	t.admit(ctx, "refused", r)
	if t.limit.Allow() {
		t.log.WarnContext(ctx, "sealcache: task refused", "queue", at.queue, "id", at.id, "reason", string(r))
	}
}

func (t *telemetry) retried(ctx context.Context, at place, r Reason) {
	t.admit(ctx, "retried", r)
	if t.limit.Allow() {
		t.log.WarnContext(ctx, "sealcache: task cannot be opened now", "queue", at.queue, "id", at.id, "reason", string(r))
	}
}

// lost reports members that are kept nowhere. It is not limited: that must not go
// unseen.
func (t *telemetry) lost(ctx context.Context, queue string, n int) {
	for range n {
		t.admit(ctx, "lost", "")
	}
	t.log.ErrorContext(ctx, "sealcache: refused members of a group are too large to be kept in the aggregated task and are lost: see asynqjobs.WithGroupClient", "queue", queue, "members", n)
}

func (t *telemetry) admit(ctx context.Context, outcome string, r Reason) {
	if t.admission == nil {
		return
	}
	kv := []attribute.KeyValue{t.namespace, attribute.String("sealcache.outcome", outcome)}
	if r != "" {
		kv = append(kv, attribute.String("sealcache.reason", string(r)))
	}
	t.admission.Add(ctx, 1, metric.WithAttributes(kv...))
}

func (t *telemetry) tick(ctx context.Context, outcome string) {
	if t.ticks != nil {
		t.ticks.Add(ctx, 1, metric.WithAttributes(t.namespace, attribute.String("sealcache.outcome", outcome)))
	}
}

// announce says once, at start, that clear tasks are tolerated.
func (t *telemetry) announce(c *config) {
	switch {
	case c.until.IsZero():
	case c.tolerant():
		t.log.Info("sealcache: tasks in clear are tolerated for a time", "until", c.until.Format(time.RFC3339))
	default:
		t.log.Warn("sealcache: the tolerance of tasks in clear has ended; they are refused", "until", c.until.Format(time.RFC3339))
	}
}
