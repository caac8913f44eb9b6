package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/time/rate"
)

const scope = "github.com/sealcache/sealcache/middleware/jobs"

// telemetry reports what an Encryptor does. Nothing that it writes holds a
// payload, a name or key material.
type telemetry struct {
	log       *slog.Logger
	limit     *rate.Limiter // of log lines: ten at once and one a second
	namespace attribute.KeyValue
	values    metric.Int64Counter // nil: no metrics
}

func newTelemetry(c *config) (*telemetry, error) {
	t := &telemetry{
		log:       c.logger.With("namespace", c.namespace),
		limit:     rate.NewLimiter(rate.Every(time.Second), 10),
		namespace: attribute.String("sealcache.namespace", c.namespace),
	}
	if c.meters == nil {
		return t, nil
	}
	var err error
	t.values, err = c.meters.Meter(scope).Int64Counter("sealcache.jobs",
		metric.WithDescription("Values of jobs, by operation (seal, open), kind and outcome."))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return t, nil
}

// count reports one value.
func (t *telemetry) count(ctx context.Context, operation string, k Kind, err error) {
	result := outcome(err)
	if t.values != nil {
		t.values.Add(ctx, 1, metric.WithAttributes(t.namespace,
			attribute.String("sealcache.operation", operation),
			attribute.String("sealcache.kind", k.String()),
			attribute.String("sealcache.outcome", result)))
	}
	if err != nil && operation == "open" && result != "canceled" && t.limit.Allow() {
		t.log.WarnContext(ctx, "sealcache: value of a job did not open", "kind", k.String(), "reason", result)
	}
}

// reloadFailed reports that a reload did.
func (t *telemetry) reloadFailed(ctx context.Context, err error) {
	if t.limit.Allow() {
		t.log.WarnContext(ctx, "sealcache: keyset could not be reloaded", "error", err)
	}
}
